"""Fetching by accession, from a server on this machine's loopback."""

import hashlib
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from genoseq.data import fetch
from genoseq.data.fetch import cache_folder, fetch_accession, is_accession, is_assembly
from genoseq.data.genome import read_genome
from genoseq.errors import UserError

FILES = Path(__file__).parent / "files"
PLASMID = (FILES / "klebsiella_pKPHS6.fa").read_bytes()
ACCESSION = "CP003228.1"


class Server:
    """Answers with the queued (status, body, promised length), then with the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, int | None]] = [(200, PLASMID, None)]
        self.asked: list[dict[str, list[str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(parse_qs(urlsplit(self.path).query))
                status, body, length = outer.answers[0] if len(outer.answers) == 1 else outer.answers.pop(0)
                self.send_response(status)
                if length is None or length >= 0:  # -1: none is promised
                    self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/efetch.fcgi"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("GENOSEQ_EFETCH_URL", made.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("NCBI_API_KEY", raising=False)
    monkeypatch.setattr(fetch, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(fetch, "SPACING", 0.0)
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def leftovers(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} - {f"{ACCESSION}.fa", f"{ACCESSION}.fa.sha256", ".lock"}


def expect_error(cache: Path, accession: str, *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        fetch_accession(accession, cache)
    text = str(caught.value)
    assert all(part in text for part in (accession, *parts)), text
    assert "\n" not in text and text.endswith(".")
    assert not list(cache.glob("*.fa")) and not leftovers(cache)
    return text


def test_fetched_once(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "cache"
    path = fetch_accession(ACCESSION, cache)
    assert path == cache / "CP003228.1.fa" and path.read_bytes() == PLASMID and not leftovers(cache)
    note = (cache / "CP003228.1.fa.sha256").read_text()
    assert note == f"{hashlib.sha256(PLASMID).hexdigest()}  CP003228.1.fa\n"
    query = {"db": ["nuccore"], "id": [ACCESSION], "rettype": ["fasta"], "retmode": ["text"], "tool": ["genoseq"]}
    assert server.asked == [query]
    assert fetch_accession(ACCESSION, cache) == path
    assert fetch_accession("cp003228", cache) == path  # any cached version will do
    assert len(server.asked) == 1
    assert read_genome([path]).records[0].length == 1308


def test_without_version(server: Server, tmp_path: Path) -> None:
    assert fetch_accession("CP003228", tmp_path).name == "CP003228.1.fa"
    assert fetch_accession("CP003228", tmp_path).name == "CP003228.1.fa"
    assert len(server.asked) == 1


def test_old_style_header(server: Server, tmp_path: Path) -> None:
    server.answers = [(200, b">gi|1|ref|NC_011333.1| Helicobacter\nACGT\n", None)]
    assert fetch_accession("NC_011333.1", tmp_path).name == "NC_011333.1.fa"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ((500, b"Internal error", None), "status 500"),
        ((429, b'{"error":"API rate limit exceeded"}', None), "status 429"),
        ((200, PLASMID[:700], len(PLASMID)), "cut short"),  # against the promised length
        ((200, PLASMID[:700], -1), "within a line"),  # nothing was promised
        ((200, b"<html>maintenance</html>\n", None), "not FASTA"),
        ((200, b"", None), "empty"),
        ((200, b"\n", None), "empty"),
        ((200, b">CP003227.1 another\nACGT\n", None), "another sequence (CP003227.1)"),
        ((200, b">CP003228.1 plasmid\nACGT<br>Error\n", None), "not a nucleotide sequence"),
        ((200, b">CP003228.1 plasmid\n\n", None), "not a nucleotide sequence"),
    ],
)
def test_a_bad_answer_is_asked_for_again(
    server: Server, tmp_path: Path, bad: tuple[int, bytes, int | None], says: str
) -> None:
    server.answers = [bad]
    expect_error(tmp_path, ACCESSION, says, "local file")
    assert len(server.asked) == fetch.TRIES
    server.answers = [bad, (200, PLASMID, None)]
    assert fetch_accession(ACCESSION, tmp_path).read_bytes() == PLASMID
    assert len(server.asked) == fetch.TRIES + 2 and not leftovers(tmp_path)


@pytest.mark.parametrize("status", [400, 404])
def test_unknown_accession_is_asked_for_once(server: Server, tmp_path: Path, status: int) -> None:
    server.answers = [(status, b"Failed to retrieve sequence: CP993228.1", None)]
    expect_error(tmp_path, "CP993228.1", "no nucleotide sequence", "check the accession")
    assert len(server.asked) == 1


def test_the_key_is_sent_and_never_shown(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NCBI_API_KEY", "secret-key")
    fetch_accession(ACCESSION, tmp_path)
    assert server.asked[0]["api_key"] == ["secret-key"]
    with socket.socket() as taken, caplog.at_level(logging.INFO, logger="genoseq"):
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        monkeypatch.setenv("GENOSEQ_EFETCH_URL", f"http://127.0.0.1:{taken.getsockname()[1]}/")
        (cache := tmp_path / "other").mkdir()
        text = expect_error(cache, ACCESSION, "no connection", "data.genome_dir")
    assert "secret-key" not in text + caplog.text


SWAPPED = PLASMID[:900] + (b"A" if PLASMID[900:901] != b"A" else b"C") + PLASMID[901:]


@pytest.mark.parametrize(("content", "noted"), [(PLASMID[:900], True), (SWAPPED, True), (PLASMID[:900], False)])
def test_damaged_cache_is_fetched_again(
    server: Server, tmp_path: Path, content: bytes, noted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = fetch_accession(ACCESSION, tmp_path)
    path.write_bytes(content)
    if not noted:
        path.with_name(path.name + ".sha256").unlink()
    assert fetch_accession(ACCESSION, tmp_path).read_bytes() == PLASMID
    assert len(server.asked) == 2 and "was damaged" in caplog.text
    fetch_accession(ACCESSION, tmp_path)
    assert len(server.asked) == 2


def test_a_sound_file_without_note_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{ACCESSION}.fa").write_bytes(PLASMID)
    fetch_accession(ACCESSION, tmp_path)
    assert not server.asked and (tmp_path / f"{ACCESSION}.fa.sha256").exists()


def test_two_at_once_make_one_request(server: Server, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: fetch_accession(ACCESSION, tmp_path), range(4)))
    assert len(server.asked) == 1


def test_requests_are_spaced(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(fetch, "SPACING", 30.0)
    monkeypatch.setattr(fetch.time, "sleep", waits.append)
    monkeypatch.setattr(fetch, "_last_request", -1e9)
    fetch_accession(ACCESSION, tmp_path)
    fetch_accession(ACCESSION, tmp_path / "other")
    assert waits[0] == 0 and 20 < waits[1] <= 30


def test_cache_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="GENOSEQ_CACHE"):
        fetch_accession(ACCESSION, tmp_path / "file" / "cache")


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENOSEQ_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path and cache_folder("~/x") == Path.home() / "x"
    monkeypatch.delenv("GENOSEQ_CACHE")
    assert "genoseq" in str(cache_folder())


def test_forms_of_accessions() -> None:
    for text in ["NC_000913.3", "CP003200.1", "cp003200", "U00096.3", "NZ_CP011113.2", "AAAA01000001.1"]:
        assert is_accession(text) and not is_assembly(text)
    for text in ["GCF_000005845.2", "GCA_000005845"]:
        assert is_assembly(text) and not is_accession(text)
    for text in ["hpylori", "data/NC_000913.3", "NC_000913.3.fa", "123456", "ecoli.fa", "CP003200.x"]:
        assert not is_accession(text)
