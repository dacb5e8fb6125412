"""Fetch sequences by accession from NCBI: once, checked, cached."""

import hashlib
import logging
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs
import requests
from filelock import FileLock
from rich.console import Console
from rich.progress import track

from genoseq.data.fasta import Sequences, read_file
from genoseq.errors import UserError
from genoseq.files import write_atomic

log = logging.getLogger(__name__)

EFETCH_URL = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils/efetch.fcgi"
TRIES = 4
FIRST_WAIT = 1.0  # seconds before the second try; doubled for each further one
SPACING = 0.34  # seconds before each request: NCBI allows three a second
TIMEOUT = (10, 120)  # seconds to connect, and without a byte

_BLOCK = 1 << 16  # bytes
_ACCESSION = re.compile(r"(?:[A-Z]{2}_[A-Z]{0,6}\d{5,}|[A-Z]{1,2}\d{5,8}|[A-Z]{4}\d{8,}|[A-Z]{6}\d{9,})(?:\.\d+)?")
_ASSEMBLY = re.compile(r"GC[AF]_\d{9}(?:\.\d+)?")


class _TryAgainError(Exception):
    """A failure that may pass; its text ends a sentence that begins with the accession."""


def is_accession(text: str) -> bool:
    """Return whether ``text`` has the form of a nucleotide accession, such as NC_000913.3 or CP003200."""
    return bool(_ACCESSION.fullmatch(text.upper()))


def is_assembly(text: str) -> bool:
    """Return whether ``text`` has the form of an assembly accession, such as GCF_000005845.2."""
    return bool(_ASSEMBLY.fullmatch(text.upper()))


def cache_folder(cache_dir: str | None = None) -> Path:
    """Return the cache: ``cache_dir``, else the environment's GENOSEQ_CACHE, else the user's cache folder."""
    folder = cache_dir or os.environ.get("GENOSEQ_CACHE") or platformdirs.user_cache_dir("genoseq", appauthor=False)
    return Path(folder).expanduser()


def fetch_accession(accession: str, cache: Path) -> Path:
    """Return the FASTA file of a nucleotide accession, from the cache or from NCBI.

    Without a version a cached one will do, else the newest is fetched. The file is kept as ``ACCESSION.VERSION.fa``
    beside its SHA-256, so that one damaged later is found out and fetched again. GENOSEQ_EFETCH_URL in the environment
    names another server, and NCBI_API_KEY is sent along where it is set.
    """
    accession = accession.upper()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if found := _cached(accession, cache):
            return found
        with FileLock(cache / ".lock"):
            return _cached(accession, cache) or _fetch(accession, cache)
    except OSError as error:
        raise UserError(
            f"The cache folder {cache} cannot be used ({error.strerror or error}): set GENOSEQ_CACHE to a folder that "
            "you may write to and that has room."
        ) from error


def _cached(accession: str, cache: Path) -> Path | None:
    candidates = [cache / f"{accession}.fa"]
    if "." not in accession:
        # the longest name first: .10 is newer than .9
        candidates += sorted(
            cache.glob(f"{accession}.*.fa"), key=lambda path: (len(path.name), path.name), reverse=True
        )
    for path in filter(Path.is_file, candidates):
        try:
            if (note := _note(path)).exists():
                if note.read_text(errors="replace").split()[:1] == [_sha256(path)]:
                    return path
            elif _check(path, accession):  # put there by hand
                return path
        except _TryAgainError as error:
            log.debug("%s: %s", path, error)
    return None


def _fetch(accession: str, cache: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as folder:
        download = Path(folder) / "download.fa"
        for attempt in range(TRIES):
            try:
                _download(accession, download)
                name = _check(download, accession)
                break
            except _TryAgainError as error:
                if attempt == TRIES - 1:
                    raise UserError(
                        f"{accession} could not be fetched: {error}; try later, or give a local file as data.genome, "
                        "or set data.genome_dir to a folder that has it."
                    ) from None  # the cause's text may hold the API key
                wait = FIRST_WAIT * 2**attempt
                log.info("%s: %s; trying again in %g s.", accession, error, wait)
                time.sleep(wait)
        path = cache / f"{name}.fa"
        if path.exists():
            log.warning("%s was damaged and has been fetched again.", path)
        write_atomic(_note(path), f"{_sha256(download)}  {path.name}\n")  # first: a file is never older than its note
        download.replace(path)
    log.info("Fetched %s to %s.", name, path)
    return path


def _download(accession: str, path: Path) -> None:
    """Make one request; raise ``_TryAgainError`` for what may pass, ``UserError`` for what will not."""
    time.sleep(SPACING)
    url = os.environ.get("GENOSEQ_EFETCH_URL") or EFETCH_URL
    host = urlsplit(url).netloc
    query = {"db": "nuccore", "id": accession, "rettype": "fasta", "retmode": "text", "tool": "genoseq"}
    if key := os.environ.get("NCBI_API_KEY"):
        query["api_key"] = key
    try:
        with requests.get(url, params=query, stream=True, timeout=TIMEOUT) as response, path.open("wb") as file:
            if response.status_code in (400, 404):
                raise UserError(
                    f"{host} knows no nucleotide sequence {accession} (it answers {response.status_code}): check the "
                    "accession and its version, or give a local file as data.genome."
                )
            if not response.ok:
                raise _TryAgainError(f"{host} answers with status {response.status_code}")
            length = response.headers.get("Content-Length", "")
            for block in track(
                response.iter_content(_BLOCK),
                f"Fetching {accession}",
                total=int(length) / _BLOCK if length.isdigit() else None,
                console=Console(stderr=True),
                transient=True,
                disable=not sys.stderr.isatty(),
            ):
                file.write(block)
    except requests.ConnectionError:
        raise _TryAgainError(f"there is no connection to {host} (no network, or a proxy is in the way)") from None
    except requests.RequestException as error:  # not its text, which may hold the API key
        raise _TryAgainError(f"{host} does not answer in full ({type(error).__name__})") from None


def _check(path: Path, accession: str) -> str:
    """Return the accession with its version from the header of a sound file."""
    into = Sequences()
    try:
        read_file(path, into)
    except UserError as error:
        raise _TryAgainError(f"the answer is not a nucleotide sequence ({error})") from None
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            raise _TryAgainError("the answer ends within a line")
    found = into.records[0][1].name
    names = found.upper().split("|")  # gi|208433976|ref|NC_011333.1| in older files
    match = next((name for name in names if accession in (name, name.partition(".")[0])), None)
    if match is None:
        raise _TryAgainError(f"the answer is another sequence ({found})")
    return match


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
