"""Sequences by accession, from NCBI over HTTPS: fetched once, checked, cached."""

import contextlib
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests

from genoseq.data.fasta import Gathered, gather
from genoseq.errors import UserError
from genoseq.files import write_atomic

log = logging.getLogger(__name__)

EFETCH_URL = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils/efetch.fcgi"
TRIES = 4
FIRST_WAIT = 1.0  # seconds before the second try; doubled for each further one
SPACING = 0.34  # seconds between requests: NCBI allows three a second
TIMEOUT = (10, 120)  # seconds to connect, and without a byte

_ACCESSION = re.compile(r"(?:[A-Z]{2}_[A-Z]{0,6}\d{5,}|[A-Z]{1,2}\d{5,8}|[A-Z]{4}\d{8,}|[A-Z]{6}\d{9,})(?:\.\d+)?")
_ASSEMBLY = re.compile(r"GC[AF]_\d{9}(?:\.\d+)?")
_last_request = -SPACING


class _TryAgainError(Exception):
    """A failure that may pass; its text ends a sentence that begins with the accession."""


def is_accession(text: str) -> bool:
    """Tell whether ``text`` has the form of a nucleotide accession, such as NC_000913.3 or CP003200."""
    return bool(_ACCESSION.fullmatch(text.upper()))


def is_assembly(text: str) -> bool:
    """Tell whether ``text`` has the form of an assembly accession, such as GCF_000005845.2."""
    return bool(_ASSEMBLY.fullmatch(text.upper()))


def cache_folder(cache_dir: str | None = None) -> Path:
    """Return the cache: ``cache_dir``, else the environment's GENOSEQ_CACHE, else the user's cache folder."""
    return Path(cache_dir or os.environ.get("GENOSEQ_CACHE") or pooch.os_cache("genoseq")).expanduser()


def fetch_accession(accession: str, cache: Path) -> Path:
    """Return the FASTA file of a nucleotide accession, from the cache or from NCBI.

    One request is made for one accession, never two at a time. The file is kept as ``ACCESSION.VERSION.fa`` beside its
    SHA-256, so that one damaged later is found out and fetched again. GENOSEQ_EFETCH_URL in the environment names
    another server, and NCBI_API_KEY is sent along where it is set.

    Parameters
    ----------
    accession : str
        With its version, or without: then a cached version is taken, else the newest is fetched.
    cache : Path
        The folder; made if it is missing.

    Returns
    -------
    Path
        The cached file.

    Raises
    ------
    UserError
        If there is no such accession, no network, no sound answer, or if the cache cannot be written.
    """
    accession = accession.upper()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if found := _cached(accession, cache):
            return found
        with _locked(cache):
            return _cached(accession, cache) or _fetch(accession, cache)
    except OSError as error:
        raise UserError(
            f"The cache folder {cache} cannot be used ({error.strerror or error}): set GENOSEQ_CACHE to a folder that "
            "you may write to and that has room."
        ) from error


def _cached(accession: str, cache: Path) -> Path | None:
    candidates = [cache / f"{accession}.fa"]
    if "." not in accession:
        versions = (path for path in cache.glob(f"{accession}.*.fa") if path.name.split(".")[1].isdigit())
        candidates += sorted(versions, key=lambda path: int(path.name.split(".")[1]), reverse=True)
    for path in filter(Path.is_file, candidates):
        note = _note(path)
        digest = pooch.file_hash(str(path), alg="sha256")
        try:
            if not note.exists():  # stopped between the two writes, or put there by hand
                _check(path, accession)
                with contextlib.suppress(OSError):
                    write_atomic(note, f"{digest}  {path.name}\n")
                return path
            if note.read_text(errors="replace").split()[:1] == [digest]:
                return path
        except _TryAgainError as error:
            log.debug("%s: %s", path, error)
    return None


def _fetch(accession: str, cache: Path) -> Path:
    wait = FIRST_WAIT
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as folder:
        download = Path(folder) / "download.fa"
        for attempt in range(1, TRIES + 1):
            try:
                _download(accession, download)
                name = _check(download, accession)
                break
            except _TryAgainError as error:
                if attempt == TRIES:
                    raise UserError(
                        f"{accession} could not be fetched: {error}; try later, or give a local file as data.genome, "
                        "or set data.genome_dir to a folder that has it."
                    ) from None  # the cause's text may hold the API key
                log.info("%s: %s; trying again in %g s.", accession, error, wait)
                time.sleep(wait)
                wait *= 2
        path = cache / f"{name}.fa"
        digest = pooch.file_hash(str(download), alg="sha256")
        if path.exists():
            log.warning("%s was damaged and has been fetched again.", path)
        _note(path).unlink(missing_ok=True)  # a stale note must not condemn the new file
        download.replace(path)
        write_atomic(_note(path), f"{digest}  {path.name}\n")
    log.info("Fetched %s to %s.", name, path)
    return path


def _download(accession: str, path: Path) -> None:
    """Make one request; raise ``_TryAgainError`` for what may pass, ``UserError`` for what will not."""
    global _last_request
    time.sleep(max(0.0, _last_request + SPACING - time.monotonic()))
    url = os.environ.get("GENOSEQ_EFETCH_URL") or EFETCH_URL
    query = {"db": "nuccore", "id": accession, "rettype": "fasta", "retmode": "text", "tool": "genoseq"}
    if key := os.environ.get("NCBI_API_KEY"):
        query["api_key"] = key
    promised: list[int] = []

    def keep_length(response: requests.Response, *_: object, **__: object) -> None:
        if response.headers.get("Content-Length", "").isdigit():
            promised.append(int(response.headers["Content-Length"]))

    get = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty() and find_spec("tqdm") is not None,
        chunk_size=1 << 16,
        params=query,
        headers={"Accept-Encoding": "identity"},  # so that Content-Length is the length of the file
        hooks={"response": keep_length},
        timeout=TIMEOUT,
    )
    host = urlsplit(url).netloc
    try:
        get(url=url, output_file=str(path), pooch=None)
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (400, 404):
            raise UserError(
                f"{host} knows no nucleotide sequence {accession} (it answers {status}): check the accession and its "
                "version, or give a local file as data.genome."
            ) from None
        raise _TryAgainError(f"{host} answers with status {status}") from None
    except requests.Timeout:
        raise _TryAgainError(f"{host} does not answer in time") from None
    except requests.exceptions.ChunkedEncodingError:
        raise _TryAgainError(f"the answer of {host} was cut short") from None
    except requests.ConnectionError:
        raise _TryAgainError(f"there is no connection to {host} (no network, or a proxy is in the way)") from None
    except requests.RequestException as error:
        raise _TryAgainError(f"the request to {host} failed ({type(error).__name__})") from None
    finally:
        _last_request = time.monotonic()
    if promised and path.stat().st_size != promised[-1]:
        raise _TryAgainError(f"the answer of {host} was cut short ({path.stat().st_size:,} of {promised[-1]:,} bytes)")


def _check(path: Path, accession: str) -> str:
    """Return the accession with its version from the header of a sound file."""
    with path.open("rb") as file:
        head = file.readline(10_000)
        file.seek(max(0, path.stat().st_size - 1))
        end = file.read()
    if not head.strip():
        raise _TryAgainError("the answer is empty, which may mean that there is no such accession")
    if not head.startswith(b">"):
        raise _TryAgainError(f"the answer is not FASTA (it begins with {head[:40].decode('ascii', 'replace')!r})")
    if end != b"\n":
        raise _TryAgainError("the answer ends within a line")
    words = head[1:].decode("utf-8", "replace").split()
    names = words[0].upper().split("|") if words else []  # gi|208433976|ref|NC_011333.1| in older files
    match = next((name for name in names if accession in (name, name.partition(".")[0])), None)
    if match is None:
        raise _TryAgainError(f"the answer is another sequence ({words[0] if words else 'without a name'})")
    try:
        gather(path, into := Gathered())
    except UserError as error:
        raise _TryAgainError(f"the answer is not a nucleotide sequence ({error})") from None
    log.debug("%s: %d bases", match, len(into.codes))
    return match


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process of a machine fetch at a time; a system without such locks goes on without."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / ".lock").open("a") as file:
        with contextlib.suppress(OSError):  # some network file systems have none
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
