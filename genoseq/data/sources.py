"""Find and read the genome that ``data.genome`` names."""

import difflib
import functools
import glob
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from genoseq.data.fasta import file_stem, sequence_files
from genoseq.data.fetch import cache_folder, fetch_accession, is_accession, is_assembly
from genoseq.data.genome import Genome, read_genome
from genoseq.errors import UserError

log = logging.getLogger(__name__)

_HERE = Path(__file__).resolve().parent
_BUNDLED = _HERE / "bundled"


@dataclass(frozen=True)
class NamedGenome:
    """An entry of ``genomes.yaml``; ``sha256`` is that of the bare sequence, ``bases`` its length."""

    organism: str
    accessions: Sequence[str]
    bases: int
    sha256: str
    bundled: str | None = None


@functools.cache
def named_genomes() -> dict[str, NamedGenome]:
    """Return the entries of ``genomes.yaml`` by name."""
    entries = yaml.safe_load((_HERE / "genomes.yaml").read_text(encoding="utf-8"))
    return {name: NamedGenome(**entry) for name, entry in entries.items()}


def load_genome(spec: str | Sequence[str], genome_dir: str | None = None, cache_dir: str | None = None) -> Genome:
    """Find and read a genome; its records are those of all sources, in the order given.

    Parameters
    ----------
    spec : str or sequence of str
        A named genome (``genomes.yaml``), a path (FASTA or plain letters, compressed or not), a glob of paths, an
        accession, or several of these, as a list or joined by commas. Write ``./NAME`` for a file that has the name of
        a named genome.
    genome_dir : str, optional
        Folder of the user's sequence files, searched before anything is fetched, as is the environment's
        GENOSEQ_GENOME_DIR: for a named genome by checksum under any file name, for an accession by the file's name.
    cache_dir : str, optional
        Folder for what is fetched; by default GENOSEQ_CACHE of the environment, else the user's cache folder.
    """
    cache = cache_folder(cache_dir)
    items = _items(spec)
    if len(items) == 1 and items[0] in named_genomes():
        return _read_named(items[0], genome_dir, cache)
    return read_genome([path for item in items for path in _paths(item, genome_dir, cache)], cache=cache)


def absolute_spec(spec: str | Sequence[str]) -> list[str]:
    """Return a genome's sources as they read from any folder: files and the matches of globs by their whole paths."""
    out: list[str] = []
    for item in _items(spec):
        local = item not in named_genomes() and (_exists(item) or glob.has_magic(item))
        out += [str(path.absolute()) for path in _paths(item, None, Path())] if local else [item]
    return out


def _items(spec: str | Sequence[str]) -> list[str]:
    if isinstance(spec, str | os.PathLike):
        text = os.fspath(spec)
        items = [text] if _exists(text) else text.split(",")
    else:
        items = [str(item) for item in spec]
    items = [item.strip() for item in items if item.strip()]
    if not items:
        raise UserError("No genome was given: set data.genome to a file, a named genome or an accession.")
    return items


def _exists(item: str) -> bool:
    try:
        return Path(item).expanduser().exists()
    except PermissionError:
        return True  # reading it will say so
    except (OSError, ValueError, RuntimeError):  # too long a name, a null byte, no such user's home
        return False


def _read_named(name: str, genome_dir: str | None, cache: Path) -> Genome:
    entry = named_genomes()[name]
    if entry.bundled:
        return read_genome([_BUNDLED / entry.bundled], name, entry.sha256)
    folders = [*_folders(genome_dir), cache]
    for file in (file for folder in folders for file in sequence_files(folder)):
        with suppress(UserError, OSError):
            # reading is what costs: leave out what is too small or too large, whatever the compression
            if entry.bases // 50 < file.stat().st_size < 4 * entry.bases + 1_000_000:
                genome = read_genome([file], name, entry.sha256)
                log.info("%s is read from %s.", name, file)
                return genome
    try:
        paths = [fetch_accession(accession, cache) for accession in entry.accessions]
    except UserError as error:
        searched = ", ".join(map(str, folders))
        raise UserError(f"The genome {name} ({entry.organism}) is in no file of {searched}, and {error}") from error
    return read_genome(paths, name, entry.sha256)


def _paths(item: str, genome_dir: str | None, cache: Path) -> Sequence[Path]:
    names = named_genomes()
    if item in names:
        return _read_named(item, genome_dir, cache).files
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
        for file in (file for folder in _folders(genome_dir) for file in sequence_files(folder)):
            stem = file_stem(file).upper()
            if item.upper() in (stem, stem.partition(".")[0]):
                log.info("%s is read from %s.", item, file)
                return [file]
        return [fetch_accession(item, cache)]
    close = difflib.get_close_matches(item.lower(), names, n=2)
    meant = f"did you mean {' or '.join(close)}" if close else f"the named genomes are {', '.join(sorted(names))}"
    shown = item if len(item) <= 200 else item[:80] + "…"
    raise UserError(f"{shown!r} is no file, named genome or accession: check the path (from {Path.cwd()}), or {meant}.")


def _folders(genome_dir: str | None) -> list[Path]:
    given = {"data.genome_dir": genome_dir, "GENOSEQ_GENOME_DIR": os.environ.get("GENOSEQ_GENOME_DIR")}
    folders = []
    for origin, text in given.items():
        if text:
            folders.append(Path(text).expanduser())
            if not folders[-1].is_dir():
                raise UserError(f"{origin}={text} is not a folder: set it to the folder that has your sequence files.")
    return folders
