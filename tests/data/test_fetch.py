"""Fetching by accession, from a server on this machine's loopback."""

import hashlib
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from genoseq.data import fetch
from genoseq.data.fetch import cache_folder, fetch_accession, is_accession, is_assembly
from genoseq.errors import UserError

PLASMID = (Path(__file__).parent / "files" / "klebsiella_pKPHS6.fa").read_bytes()
ACCESSION = "CP003228.1"


@pytest.fixture
def server(monkeypatch):
    """A server that gives its queued answers (status, body, promised length), then the last one for ever."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            http.asked.append(parse_qs(urlsplit(self.path).query))
            status, body, length = http.answers[0] if len(http.answers) == 1 else http.answers.pop(0)
            self.send_response(status)
            if length >= 0:  # -1: none is promised
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.answers, http.asked = [(200, PLASMID, len(PLASMID))], []
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("GENOSEQ_EFETCH_URL", f"http://127.0.0.1:{http.server_port}/efetch.fcgi")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("NCBI_API_KEY", raising=False)
    monkeypatch.setattr(fetch, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(fetch, "SPACING", 0.0)
    yield http
    http.shutdown()
    http.server_close()
    thread.join()


def leftovers(cache):
    return {path.name for path in cache.iterdir()} - {f"{ACCESSION}.fa", f"{ACCESSION}.fa.sha256", ".lock"}


def expect_error(cache, accession, *parts):
    with pytest.raises(UserError) as caught:
        fetch_accession(accession, cache)
    text = str(caught.value)
    assert all(part in text for part in (accession, *parts)), text
    assert "\n" not in text and text.endswith(".")
    assert not list(cache.glob("*.fa")) and not leftovers(cache)
    return text


@pytest.mark.parametrize("accession", [ACCESSION, "cp003228"])
def test_fetched_once(server, tmp_path, accession):
    cache = tmp_path / "deep" / "cache"
    path = fetch_accession(accession, cache)
    assert path == cache / "CP003228.1.fa" and path.read_bytes() == PLASMID and not leftovers(cache)
    note = (cache / "CP003228.1.fa.sha256").read_text()
    assert note == f"{hashlib.sha256(PLASMID).hexdigest()}  CP003228.1.fa\n"
    query = {"db": "nuccore", "id": accession.upper(), "rettype": "fasta", "retmode": "text", "tool": "genoseq"}
    assert server.asked == [{key: [value] for key, value in query.items()}]
    assert fetch_accession(ACCESSION, cache) == fetch_accession("CP003228", cache) == path  # any version will do
    assert len(server.asked) == 1


def test_the_newest_cached_version_is_taken_for_none(server, tmp_path):
    for version in (2, 10, 9):
        (tmp_path / f"CP003228.{version}.fa").write_bytes(PLASMID.replace(b"8.1", b"8.%d" % version))
    assert fetch_accession("CP003228", tmp_path).name == "CP003228.10.fa" and not server.asked


def test_old_style_header(server, tmp_path):
    body = b">gi|1|ref|NC_011333.1| Helicobacter\nACGT\n"
    server.answers = [(200, body, len(body))]
    assert fetch_accession("NC_011333.1", tmp_path).name == "NC_011333.1.fa"


@pytest.mark.parametrize(
    ("status", "body", "length", "says"),
    [
        (500, b"Internal error", 14, "status 500"),
        (429, b'{"error":"API rate limit exceeded"}', 35, "status 429"),
        (200, PLASMID[:700], len(PLASMID), "does not answer in full"),
        (200, PLASMID[:700], -1, "within a line"),
        (200, b"<html>maintenance</html>\n", -1, "not a nucleotide sequence"),
        (200, b"", 0, "is empty"),
        (200, b">CP003227.1 another\nACGT\n", -1, "another sequence (CP003227.1)"),
        (200, b">CP003228.1 plasmid\nACGT<br>Error\n", -1, "not a nucleotide sequence"),
        (200, b">CP003228.1 plasmid\n\n", -1, "only headers"),
    ],
)
def test_a_bad_answer_is_asked_for_again(server, tmp_path, status, body, length, says):
    server.answers = [(status, body, length)]
    expect_error(tmp_path, ACCESSION, says, "local file")
    assert len(server.asked) == fetch.TRIES
    server.answers = [(status, body, length), (200, PLASMID, len(PLASMID))]
    assert fetch_accession(ACCESSION, tmp_path).read_bytes() == PLASMID
    assert len(server.asked) == fetch.TRIES + 2 and not leftovers(tmp_path)


@pytest.mark.parametrize("status", [400, 404])
def test_unknown_accession_is_asked_for_once(server, tmp_path, status):
    server.answers = [(status, b"Failed to retrieve sequence", -1)]
    expect_error(tmp_path, "CP993228.1", "no nucleotide sequence", "check the accession")
    assert len(server.asked) == 1


def test_the_key_is_sent_and_never_shown(server, tmp_path, monkeypatch, caplog):
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


@pytest.mark.parametrize(
    ("content", "noted", "requests"),
    [(PLASMID[:900], True, 1), (SWAPPED, True, 1), (PLASMID[:900], False, 1), (PLASMID, False, 0)],
)
def test_only_a_damaged_cache_is_fetched_again(server, tmp_path, content, noted, requests, caplog):
    (path := tmp_path / f"{ACCESSION}.fa").write_bytes(content)
    if noted:
        path.with_name(path.name + ".sha256").write_text(f"{hashlib.sha256(PLASMID).hexdigest()}  {path.name}\n")
    for _ in range(2):
        assert fetch_accession(ACCESSION, tmp_path).read_bytes() == PLASMID
    assert len(server.asked) == requests and ("was damaged" in caplog.text) == bool(requests)


def test_two_at_once_make_one_request(server, tmp_path):
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: fetch_accession(ACCESSION, tmp_path), range(4)))
    assert len(server.asked) == 1


def test_requests_are_spaced(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(fetch, "SPACING", 30.0)
    monkeypatch.setattr(fetch.time, "sleep", waits.append)
    fetch_accession(ACCESSION, tmp_path)
    assert waits == [30.0]


def test_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GENOSEQ_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path and cache_folder("~/x") == Path.home() / "x"
    monkeypatch.delenv("GENOSEQ_CACHE")
    assert "genoseq" in str(cache_folder())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="GENOSEQ_CACHE"):
        fetch_accession(ACCESSION, tmp_path / "file" / "cache")


def test_forms_of_accessions():
    for text in ["NC_000913.3", "CP003200.1", "cp003200", "U00096.3", "NZ_CP011113.2", "AAAA01000001.1"]:
        assert is_accession(text) and not is_assembly(text)
    for text in ["GCF_000005845.2", "GCA_000005845"]:
        assert is_assembly(text) and not is_accession(text)
    for text in ["hpylori", "data/NC_000913.3", "NC_000913.3.fa", "123456", "ecoli.fa", "CP003200.x"]:
        assert not is_accession(text)
