"""From what the user writes as ``data.genome`` to a genome."""

import difflib
import glob
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from genoseq.data.fasta import COMPRESSION_SUFFIXES, SEQUENCE_SUFFIXES, Gathered, file_stem, gather, sequence_sha256
from genoseq.data.fetch import cache_folder, fetch_accession, is_accession, is_assembly
from genoseq.data.genome import Genome, read_genome
from genoseq.errors import UserError
from genoseq.files import write_atomic
from genoseq.paths import conf_dir

log = logging.getLogger(__name__)

_BUNDLED = Path(__file__).resolve().parent / "bundled"
_INDEX = "checksums.json"


@dataclass(frozen=True)
class NamedGenome:
    """What ``conf/genome/NAME.yaml`` says; ``sha256`` is that of the bare sequence, ``bases`` its length."""

    name: str
    organism: str
    accessions: tuple[str, ...]
    bases: int
    sha256: str
    bundled: str | None = None


def load_genome(spec: str | Sequence[str], genome_dir: str | None = None, cache_dir: str | None = None) -> Genome:
    """Find and read a genome.

    Parameters
    ----------
    spec : str or sequence of str
        A named genome (``conf/genome/``), a path (FASTA or plain letters, compressed or not), a glob of paths, an
        accession, or several of these, as a list or joined by commas. Write ``./NAME`` for a file that has the name of
        a named genome. A named genome may lie under any file name in ``genome_dir``, in the folder that the environment
        calls GENOSEQ_GENOME_DIR, or in the cache: it is known by its checksum. Else it is fetched.
    genome_dir : str, optional
        Folder of the user's sequence files (its subfolders are left out), for named genomes and for accessions, which
        are known by the file's name.
    cache_dir : str, optional
        Folder for what is fetched; by default GENOSEQ_CACHE of the environment, else the user's cache folder.

    Returns
    -------
    Genome
        The records of all sources, in the order given.

    Raises
    ------
    UserError
        If a source cannot be found, fetched or read, or is not the sequence that its name promises.
    """
    cache = cache_folder(cache_dir)
    items = _items(spec)
    paths = [path for item in items for path in _resolve(item, genome_dir, cache)]
    return read_genome(paths, items[0] if items[0] in named_genomes() and len(items) == 1 else None)


def named_genomes() -> list[str]:
    """Return the names that ``conf/genome/`` knows."""
    return sorted(path.stem for path in (conf_dir() / "genome").glob("*.yaml"))


def named_genome(name: str) -> NamedGenome:
    """Read ``conf/genome/NAME.yaml``; raise ``UserError`` if it is not as it should be."""
    path = conf_dir() / "genome" / f"{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content["accessions"] = tuple(str(accession) for accession in content["accessions"])
        return NamedGenome(**content)
    except (OSError, TypeError, KeyError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} does not describe a genome ({reason}): it needs name, organism, accessions, bases and sha256."
        ) from error


def _items(spec: str | Sequence[str]) -> list[str]:
    if isinstance(spec, str | os.PathLike):
        text = os.fspath(spec)
        items = [text] if _exists(text) else text.split(",")
    else:
        items = [os.fspath(item) if isinstance(item, os.PathLike) else str(item) for item in spec]
    items = [item.strip() for item in items if item.strip()]
    if not items:
        raise UserError("No genome was given: set data.genome to a file, a named genome or an accession.")
    return items


def _folders(genome_dir: str | None) -> list[Path]:
    given = {"data.genome_dir": genome_dir, "GENOSEQ_GENOME_DIR": os.environ.get("GENOSEQ_GENOME_DIR")}
    folders = []
    for origin, text in given.items():
        if text:
            folders.append(Path(text).expanduser())
            if not folders[-1].is_dir():
                raise UserError(f"{origin}={text} is not a folder: set it to the folder that has your sequence files.")
    return folders


def _exists(item: str) -> bool:
    try:
        return Path(item).expanduser().exists()
    except PermissionError:
        return True  # reading it will say so
    except (OSError, ValueError, RuntimeError):  # too long a name, a null byte, no such user's home
        return False


def _resolve(item: str, genome_dir: str | None, cache: Path) -> list[Path]:
    if item in named_genomes():
        return _resolve_named(named_genome(item), genome_dir, cache)
    if _exists(item):
        return [Path(item).expanduser()]
    if glob.has_magic(item):
        pattern = os.path.expanduser(item)  # noqa: PTH111  (a pattern, not a path)
        matches = map(Path, glob.glob(pattern, recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
        found = sorted(match for match in matches if not match.is_dir())
        if not found:
            raise UserError(f"No file matches {item!r}: check the pattern and the folder ({Path.cwd()}).")
        return found
    if is_assembly(item):
        raise UserError(
            f"{item} is an assembly, which is not fetched: give the accessions of its sequences (such as NC_000913.3), "
            "or download it and give the file."
        )
    if is_accession(item):
        files = (file for folder in _folders(genome_dir) for file in _sequence_files(folder))
        if file := next((file for file in files if _is_called(file, item)), None):
            log.info("%s is taken from %s.", item, file)
            return [file]
        return [fetch_accession(item, cache)]
    names = named_genomes()
    close = difflib.get_close_matches(item.lower(), names, n=2)
    meant = f"did you mean {' or '.join(close)}" if close else f"the named genomes are {', '.join(names)}"
    shown = item if len(item) <= 200 else item[:80] + "…"
    raise UserError(f"{shown!r} is no file, named genome or accession: check the path (from {Path.cwd()}), or {meant}.")


def _resolve_named(entry: NamedGenome, genome_dir: str | None, cache: Path) -> list[Path]:
    if entry.bundled:
        paths = [_BUNDLED / entry.bundled]
        _require(entry, paths, "install genoseq again")
        return paths
    folders = [*_folders(genome_dir), cache]
    if file := _find(entry, folders, cache):
        log.info("%s is read from %s.", entry.name, file)
        return [file]
    try:
        paths = [fetch_accession(accession, cache) for accession in entry.accessions]
    except UserError as error:
        searched = ", ".join(str(folder) for folder in folders)
        raise UserError(
            f"The genome {entry.name} ({entry.organism}) is in no file of {searched}, and {error}"
        ) from error
    _require(entry, paths, "delete what is in the cache and try again")
    return paths


def _require(entry: NamedGenome, paths: list[Path], remedy: str) -> None:
    into = Gathered()
    for path in paths:
        gather(path, into)
    if (found := into.sha.hexdigest()) != entry.sha256:
        raise UserError(
            f"{', '.join(map(str, paths))} is not the genome {entry.name}: its sequence has SHA-256 {found[:12]}… "
            f"where {entry.sha256[:12]}… was expected, so {remedy}, or give your own file as data.genome."
        )


def _find(entry: NamedGenome, folders: list[Path], cache: Path) -> Path | None:
    """Return the file that holds the entry's sequence, whatever it is called."""
    index = _read_index(cache)
    known = dict(index)
    try:
        for file in (file for folder in folders for file in _sequence_files(folder)):
            try:
                stat = file.stat()
            except OSError:
                continue
            # Reading is what costs: leave out what is far too small or too large, whatever the compression.
            if not entry.bases // 50 < stat.st_size < 4 * entry.bases + 1_000_000:
                continue
            key = str(file.resolve())
            stamp = [stat.st_size, stat.st_mtime_ns]
            if index.get(key, [])[:2] != stamp:
                index[key] = [*stamp, _sha256_or_nothing(file)]
            if index[key][2] == entry.sha256:
                return file
        return None
    finally:
        if index != known:
            _write_index(cache, index)


def _sha256_or_nothing(file: Path) -> str:
    try:
        return sequence_sha256(file)
    except UserError as error:
        log.debug("Left out of the search: %s", error)
        return ""


def _sequence_files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if _is_sequence_name(file.name.lower()) and file.is_file())
    except OSError as error:
        log.debug("%s cannot be searched: %s", folder, error)
        return []


def _is_sequence_name(name: str) -> bool:
    suffix = next((suffix for suffix in COMPRESSION_SUFFIXES if name.endswith(suffix)), "")
    return not name.startswith(".") and name.removesuffix(suffix).endswith(SEQUENCE_SUFFIXES)


def _is_called(file: Path, accession: str) -> bool:
    stem = file_stem(file).upper()
    return accession.upper() in (stem, stem.partition(".")[0])


def _read_index(cache: Path) -> dict[str, list[int | str]]:
    """Return the checksums of earlier searches; a broken index is as good as none."""
    try:
        content = json.loads((cache / _INDEX).read_text(encoding="utf-8"))
        return {key: value for key, value in content.items() if isinstance(value, list) and len(value) == 3}
    except (OSError, ValueError, AttributeError):
        return {}


def _write_index(cache: Path, index: dict[str, list[int | str]]) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_atomic(cache / _INDEX, json.dumps(index, indent=0))
    except OSError as error:
        log.debug("The checksums of the search are not kept: %s", error)
