"""Files of tracks: bigWig, unusual windows as BED, a table of records, and an IGV session that opens all of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pybigtools
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console

from genoseq.data.genome import Genome
from genoseq.errors import UserError
from genoseq.evaluation.tracks import Tracks, in_record, sampled_scores, shuffled_bits, window_scores
from genoseq.files import write_atomic, write_csv
from genoseq.report.result import provenance

if TYPE_CHECKING:
    from genoseq.app.model import Models

SHUFFLES = 100
"""Records whose shuffles are scored, the longest ones."""
_LINE = 60


def write_tracks(models: Models, tracks: Tracks, cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Write all files of a run but the last, print what they say, and return the result."""
    genome, named = models.genome, {"surprise": tracks.surprise}
    named |= {"entropy": tracks.values["entropy"], "imm_surprise": tracks.values["imm"]}
    if cfg.strands:
        named |= {f"surprise_{strand}": tracks.values[strand] for strand in ("forward", "reverse")}
    # the same bases in all but those of one strand
    absent = np.isnan(named["surprise"])
    if absent.all():
        raise UserError(f"no base of genome '{genome.name}' is predicted on both strands")
    for name in ("entropy", "imm_surprise"):
        named[name] = np.where(absent, np.nan, named[name])
    for name, values in named.items():
        write_bigwig(folder / f"{name}.bw", genome, values)
    result: dict[str, Any] = {f"{name}": float(np.nanmean(values, dtype=float)) for name, values in named.items()}
    records = record_rows(models, named, cfg.seed)
    write_csv(folder / "records.csv", records)
    result |= {"bases": int((~absent).sum()), "genome/name": genome.name, "genome/sha256": genome.sha256}
    result |= {
        "mixer": models.models[0].mixer is not None,
        "checkpoints": [str(m.path.resolve()) for m in models.models],
    }
    found: list[tuple[str, int, int, float]] | None = None
    if result["mixer"]:
        print(
            "unusual.bed is left out: its false alarms are measured on sequence of the network alone; mixer=none has it"
        )
    else:
        found, measured = unusual(models, tracks, cfg)
        result |= measured
        _write_bed(folder / "unusual.bed", found, measured)
    _write_session(folder, genome, list(named), found is not None, cfg.genes)
    _print(result, records, found, folder)
    return result | provenance(models.models[0].module.device.type)


def write_bigwig(path: Path, genome: Genome, values: NDArray[np.floating[Any]]) -> None:
    """Write the values of a genome's bases, nan = absent, and read them back: the writer may fail without a word."""
    part = path.with_name(f".{path.stem}.part.bw")
    lengths = {record.name: record.length for record in genome.records}

    def rows() -> Iterator[tuple[str, int, int, float]]:
        for record in sorted(genome.records, key=lambda record: record.name):
            own = values[record.start : record.end]
            at = np.flatnonzero(~np.isnan(own))
            for i, value in zip(at.tolist(), own[at].tolist(), strict=True):
                yield record.name, i, i + 1, value

    try:
        pybigtools.open(str(part), "w").write(lengths, rows())
        with pybigtools.open(str(part)) as written:
            for record in genome.records:
                own = values[record.start : record.end].astype(np.float32)
                if np.isnan(own).all():
                    continue
                same = written.values(record.name, 0, record.length, uncovered=math.nan)
                if not np.array_equal(np.asarray(same, dtype=np.float32), own, equal_nan=True):
                    raise UserError(f"{path} could not be written: record '{record.name}' reads back with other values")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def unusual(
    models: Models, tracks: Tracks, cfg: DictConfig
) -> tuple[list[tuple[str, int, int, float]], dict[str, float]]:
    """Return the windows above the threshold as (record, start, end, score), and how the threshold was set."""
    null, drawn = sampled_scores(models.models[0], cfg.window, cfg.step, cfg.seed)
    if not len(null):
        raise UserError(f"window={cfg.window} is longer than what is drawn from the model to set the threshold")
    allowed = int(cfg.false_alarms * drawn / 1e6)  # windows of the sample that may be above it
    threshold = float(np.sort(null)[::-1][min(allowed, len(null) - 1)])
    scores = window_scores(tracks, models.genome.records, cfg.window, cfg.step)
    found = [
        (record.name, start, min(start + cfg.window, record.length), score)
        for record, start, score in scores
        if score > threshold
    ]
    measured = {"unusual/threshold": threshold, "unusual/windows": len(found), "unusual/of": len(scores)}
    measured |= {"unusual/false_alarms_per_Mb": float((null > threshold).sum() * 1e6 / drawn), "unusual/drawn": drawn}
    return sorted(found, key=lambda row: -row[3]), measured


def record_rows(models: Models, named: dict[str, NDArray[Any]], seed: int) -> list[dict[str, Any]]:
    """Return each record's bits per base under the model and the count model, and the model's on its shuffle."""
    genome, rows = models.genome, []
    longest = sorted(genome.records, key=lambda record: -record.length)[:SHUFFLES]
    for record in genome.records:
        own = {name: values[record.start : record.end] for name, values in named.items()}
        scored = int((~np.isnan(own["surprise"])).sum())
        if not scored:
            continue
        row: dict[str, Any] = {"record": record.name, "bases": record.length, "scored": scored}
        row |= {"bits_per_base": float(np.nanmean(own["surprise"], dtype=float))}
        row |= {"imm/bits_per_base": float(np.nanmean(own["imm_surprise"], dtype=float))}
        if record in longest:
            some, inner = next((m, part) for m, i in models.held_out() if len(part := in_record(record, i)))
            row["shuffled/bits_per_base"] = shuffled_bits(some, genome, inner, seed)
        rows.append(row)
    return rows


def _write_bed(path: Path, found: list[tuple[str, int, int, float]], measured: dict[str, float]) -> None:
    lines = [
        "# windows that are unusual under this model: score = sum(surprise - entropy) / sqrt(sum of varentropy) above "
        f"{measured['unusual/threshold']:.2f}, which {measured['unusual/false_alarms_per_Mb']:.1f} windows in a "
        f"million bases drawn from the model itself exceed ({measured['unusual/drawn']:,} drawn)"
    ]
    lines += [f"{name}\t{start}\t{end}\tunusual\t{score:.3f}" for name, start, end, score in sorted(found)]
    write_atomic(path, "\n".join(lines) + "\n")


def _write_session(folder: Path, genome: Genome, tracks: list[str], has_unusual: bool, genes: str | None) -> None:
    """Write an IGV session and the genome that it names, as FASTA."""
    lines = []
    for record in genome.records:
        letters = genome.letters(record.start, record.end)
        lines += [f">{record.name}", *(letters[i : i + _LINE] for i in range(0, len(letters), _LINE))]
    write_atomic(folder / "genome.fa", "\n".join(lines) + "\n")
    session = ElementTree.Element("Session", genome="genome.fa", version="8")
    resources = ElementTree.SubElement(session, "Resources")
    files = [f"{name}.bw" for name in tracks] + ["unusual.bed"] * has_unusual
    files += [str(Path(genes).expanduser().absolute())] if genes else []
    for file in files:
        ElementTree.SubElement(resources, "Resource", path=file)
    ElementTree.indent(session)
    write_atomic(folder / "igv_session.xml", ElementTree.tostring(session, encoding="utf-8", xml_declaration=True))


def _print(
    result: dict[str, Any],
    records: list[dict[str, Any]],
    found: list[tuple[str, int, int, float]] | None,
    folder: Path,
) -> None:
    console = Console(highlight=False)
    console.print(
        f"\n{result['genome/name']}: {result['bases']:,} held-out bases, surprise "
        f"{result['surprise']:.4f} bits per base (entropy {result['entropy']:.4f}; interpolated Markov model "
        f"{result['imm_surprise']:.4f}), both strands' mean"
    )
    for row in records[:20]:
        shuffle = row.get("shuffled/bits_per_base")
        console.print(
            f"  {row['record']}: {row['bits_per_base']:.3f}, imm {row['imm/bits_per_base']:.3f}"
            + (f", shuffled {shuffle:.3f}" if shuffle is not None else "")
        )
    if found is not None:
        console.print(
            f"{result['unusual/windows']:,} of {result['unusual/of']:,} windows are unusual under this model "
            f"({result['unusual/false_alarms_per_Mb']:.1f} a million bases of its own sequence are)"
        )
        for name, start, end, score in found[:5]:
            console.print(f"  {name}:{start + 1}-{end}  {score:.1f}")
    console.print(f"files: {folder}; igv_session.xml opens them in IGV", soft_wrap=True)
