"""Files of tracks: bigWig, unusual windows as BED, a table of records, and an IGV session that opens all of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pybigtools
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console

from genoseq.data.genes import Gene
from genoseq.data.genome import Genome
from genoseq.errors import UserError
from genoseq.evaluation.tracks import BLOCK, Tracks, in_record, sampled_scores, shuffled_bits, window_scores
from genoseq.files import atomic_path, write_atomic, write_csv
from genoseq.report.result import provenance
from genoseq.report.scores import locate

if TYPE_CHECKING:
    from genoseq.app.model import Models

SHUFFLES = 100
"""Records whose shuffles are scored, the longest ones."""
_LINE = 60  # letters of a line of FASTA


def write_tracks(models: Models, tracks: Tracks, genes: list[Gene], cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Write all files of a run but the last, print what they say, and return the result."""
    genome, names = models.genome, ["surprise", "entropy", "imm_surprise"]
    names += ["surprise_forward", "surprise_reverse"] if cfg.strands else []
    means = {name: tracks.mean(name, [(0, len(genome))]) for name in names}
    if not means["surprise"][1]:
        raise UserError(f"no base of genome '{genome.name}' is predicted on both strands")
    for name in names:
        write_bigwig(folder / f"{name}.bw", genome, partial(tracks.get, name))
    result: dict[str, Any] = {name: mean for name, (mean, _) in means.items()}
    records = record_rows(models, tracks, cfg.seed)
    write_csv(folder / "records.csv", records)
    if rows := gene_rows(genome, tracks, genes):
        write_csv(folder / "genes.csv", rows)
    result |= {"bases": means["surprise"][1], "genes": len(rows)}
    result |= {"genome/name": genome.name, "genome/sha256": genome.sha256}
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
    files = [f"{name}.bw" for name in names] + ["unusual.bed"] * (found is not None)
    if genes and (given := Path(str(cfg.genes)).expanduser()).is_file():
        files.append(str(given.absolute()))
    elif genes:
        _write_genes(folder / "genes.bed", genome, genes)
        files.append("genes.bed")
    _write_session(folder, genome, files)
    _print(result, records, found, folder)
    return result | provenance(models.models[0].module.device.type)


def write_bigwig(path: Path, genome: Genome, values: Callable[[int, int], NDArray[np.float32]]) -> None:
    """Write the values of a genome's bases, nan = absent, and read them back: the writer may fail without a word.

    Parameters
    ----------
    values : callable
        Return the values between two bases of the genome.
    """
    blocks = [
        (record, at, min(at + BLOCK, record.end))
        for record in sorted(genome.records, key=lambda record: record.name)
        for at in range(record.start, record.end, BLOCK)
    ]

    def rows() -> Iterator[tuple[str, int, int, float]]:
        for record, start, end in blocks:
            own = values(start, end)
            at = np.flatnonzero(~np.isnan(own))
            for i, value in zip((at + start - record.start).tolist(), own[at].tolist(), strict=True):
                yield record.name, i, i + 1, value

    with atomic_path(path) as part:
        pybigtools.open(str(part), "w").write({record.name: record.length for record in genome.records}, rows())
        with pybigtools.open(str(part)) as written:
            for record, start, end in blocks:
                own = values(start, end)
                if np.isnan(own).all():
                    continue
                place = record.name, start - record.start, end - record.start
                same = np.asarray(written.values(*place, uncovered=math.nan), dtype=np.float32)
                if not np.array_equal(same, own, equal_nan=True):
                    raise UserError(f"{path} could not be written: record '{record.name}' reads back with other values")


def unusual(
    models: Models, tracks: Tracks, cfg: DictConfig
) -> tuple[list[tuple[str, int, int, float]], dict[str, float]]:
    """Return the windows above the threshold as (record, start, end, score), and how the threshold was set.

    It is set on sequence drawn from the model, and its false alarms are counted on more of it.
    """
    null, drawn = sampled_scores(models.models[0], cfg.window, cfg.step, cfg.seed)
    if not len(null):
        raise UserError(f"window={cfg.window} is longer than what is drawn from the model to set the threshold")
    allowed = int(cfg.false_alarms * drawn / 1e6)  # windows of the sample that may be above it
    threshold = float(np.sort(null)[::-1][min(allowed, len(null) - 1)])
    other, drawn = sampled_scores(models.models[0], cfg.window, cfg.step, cfg.seed + 1)
    scores = window_scores(tracks, models.genome.records, cfg.window, cfg.step)
    found = [
        (record.name, start, min(start + cfg.window, record.length), score)
        for record, start, score in scores
        if score > threshold
    ]
    measured = {"unusual/threshold": threshold, "unusual/windows": len(found), "unusual/of": len(scores)}
    measured |= {"unusual/false_alarms_per_Mb": float((other > threshold).sum() * 1e6 / drawn), "unusual/drawn": drawn}
    return sorted(found, key=lambda row: -row[3]), measured


def record_rows(models: Models, tracks: Tracks, seed: int) -> list[dict[str, Any]]:
    """Return each record's bits per base under the model and the count model, and the model's on its shuffle."""
    genome, rows = models.genome, []
    longest = sorted(genome.records, key=lambda record: -record.length)[:SHUFFLES]
    for record in genome.records:
        row = _bits(tracks, [(record.start, record.end)])
        if not row["scored"]:
            continue
        if record in longest:
            some, inner = next((m, part) for m, i in models.held_out if len(part := in_record(record, i)))
            row["shuffled/bits_per_base"] = shuffled_bits(some, genome, inner, seed)
        rows.append({"record": record.name, "bases": record.length} | row)
    return rows


def gene_rows(genome: Genome, tracks: Tracks, genes: list[Gene]) -> list[dict[str, Any]]:
    """Return the bits per base of each gene that has held-out bases, the most surprising first."""
    rows = []
    for gene in genes:
        row = _bits(tracks, gene.parts)
        if row["scored"]:
            place = dict(zip(("record", "start", "end"), _place(genome, gene), strict=True))
            rows.append(place | {"strand": gene.strand, "gene": gene.name, "bases": len(gene)} | row)
    return sorted(rows, key=lambda row: -row["bits_per_base"])


def _place(genome: Genome, gene: Gene) -> tuple[str, int, int]:
    """Return the record, start and end, as in BED, of a gene."""
    (record,), (first,) = locate(genome, np.array(gene.span[:1]))
    return record, gene.span[0] - int(first), gene.span[1] - int(first)


def _bits(tracks: Tracks, parts: Sequence[tuple[int, int]]) -> dict[str, Any]:
    bits, scored = tracks.mean("surprise", parts)
    return {"scored": scored, "bits_per_base": bits, "imm/bits_per_base": tracks.mean("imm_surprise", parts)[0]}


def _write_genes(path: Path, genome: Genome, genes: list[Gene]) -> None:
    rows = sorted((*_place(genome, gene), gene.name, 0, gene.strand) for gene in genes)
    write_atomic(path, "".join("\t".join(map(str, row)) + "\n" for row in rows))


def _write_bed(path: Path, found: list[tuple[str, int, int, float]], measured: dict[str, float]) -> None:
    lines = [
        "# windows that are unusual under this model: score = sum(surprise - entropy) / sqrt(sum of varentropy) above "
        f"{measured['unusual/threshold']:.2f}, which {measured['unusual/false_alarms_per_Mb']:.1f} windows in a "
        f"million bases drawn from the model itself exceed ({measured['unusual/drawn']:,} drawn)"
    ]
    lines += [f"{name}\t{start}\t{end}\tunusual\t{score:.3f}" for name, start, end, score in sorted(found)]
    write_atomic(path, "\n".join(lines) + "\n")


def _write_session(folder: Path, genome: Genome, files: list[str]) -> None:
    """Write an IGV session and the genome that it names, as FASTA."""
    with atomic_path(folder / "genome.fa") as part, part.open("w", encoding="utf-8", newline="") as out:
        for record in genome.records:
            out.write(f">{record.name}\n")
            for at in range(record.start, record.end, _LINE):
                out.write(genome.letters(at, min(at + _LINE, record.end)) + "\n")
    session = ElementTree.Element("Session", genome="genome.fa", version="8")
    resources = ElementTree.SubElement(session, "Resources")
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
