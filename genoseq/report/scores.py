"""Scores of alleles: their tables and pictures, and what the commands print of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

import numpy as np
import pandas
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from genoseq.data.genes import Effects, genes_of
from genoseq.data.genome import BASES, Genome
from genoseq.data.intervals import Intervals, as_intervals
from genoseq.data.regions import parse_region
from genoseq.data.variants import Site, VariantFile, VcfWriter, read_names
from genoseq.errors import UserError
from genoseq.evaluation.edits import changes_in, homopolymer_edits, letters_of, random_substitutions, saturation
from genoseq.evaluation.haplotypes import Changes
from genoseq.files import atomic_path, write_atomic
from genoseq.report.result import provenance

if TYPE_CHECKING:
    from genoseq.app.model import Models

LONGEST_REGION = 5_000
"""Bases of a region whose every substitution is scored, at most."""
SHOWN = 20
"""Rows that are printed, at most."""
BLOCK, BYTES = 8192, 1 << 26
"""Alleles of a file scored at a time, and bytes of its lines; the fewer of both."""

DESCRIPTION = (
    "log2 p(alternative haplotype) - log2 p(reference haplotype) in bits, over the allele and the next {downstream} "
    "bases, mean of both strands; below 0 the alternative is less likely"
)
FIELDS = (
    ("GENOSEQ_LLR", "A", "Float", "{score}"),
    ("GENOSEQ_IMM_LLR", "A", "Float", "The same by an interpolated Markov model (bits)"),
    (
        *("GENOSEQ_PERCENTILE", "A", "Float"),
        "Of a substitution: share of random held-out substitutions of the same base change that score lower (%)",
    ),
    (
        *("GENOSEQ_GENE", "A", "String"),
        "Coding sequence that the allele lies in, percent-encoded; an open reading frame is called RECORD:FIRST-LAST",
    ),
    (
        *("GENOSEQ_EFFECT", "A", "String"),
        "What the allele does to that sequence, by genetic code 11, in the Sequence Ontology's words",
    ),
    (
        *("GENOSEQ_PART", "1", "String"),
        "Part of the genome, for the model that scored it: test, val, train, gap, or other_genome",
    ),
)
"""Name, Number, Type and Description of the fields that a VCF gets."""
SCORES = ("llr", "imm_llr", "percentile", "gene", "effect")
"""Columns of an allele that go into INFO, in the order of `FIELDS`."""
COLUMNS = ("record", "pos", "ref", "alt", "status", "part", *SCORES)


class Percentiles:
    """Where scores stand among those of random held-out substitutions of the same kind.

    Parameters
    ----------
    each : int
        Substitutions of each of the twelve kinds; 0 = no percentiles.
    """

    def __init__(self, models: Models, each: int, seed: int, downstream: int) -> None:
        self._sorted: dict[tuple[int, int], NDArray[np.float64]] = {}
        if not each:
            return
        changes = random_substitutions(models.genome, _held_out(models), each, seed, downstream)
        scores, kinds = models.score(changes)[0], _kinds(changes)
        for kind in set(kinds):
            self._sorted[kind] = np.sort(scores[[other == kind for other in kinds]])

    def __call__(self, changes: Changes, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of the background below each score, in %; nan where an allele is no substitution."""
        out = np.full(len(scores), np.nan)
        for i, kind in enumerate(_kinds(changes)):
            if kind in self._sorted:
                out[i] = 100 * np.searchsorted(self._sorted[kind], scores[i]) / len(self._sorted[kind])
        return out


def _held_out(models: Models) -> Intervals:
    return as_intervals([(start, end) for _, intervals in models.held_out for start, end in intervals.tolist()])


def _kinds(changes: Changes) -> list[tuple[int, int]]:
    """Return the reference and the alternative base of each substitution, (0, 0) of another allele."""
    single = (changes.ref == 1) & (changes.inserted == 1)
    return [
        (int(changes.codes[at]), int(alt[0])) if one else (0, 0)
        for at, alt, one in zip(changes.start.tolist(), changes.alt, single.tolist(), strict=True)
    ]


def _rows(models: Models, changes: Changes, effects: Effects) -> pandas.DataFrame:
    """Return record, pos (1-based), part, scores, gene and effect of alleles; the percentiles are still missing."""
    scores, by_counts = models.score(changes)
    record, first = locate(models.genome, changes.start)
    columns = {"record": record, "pos": changes.start - first + 1, "part": models.parts(changes.start)}
    told = [effects(*each) for each in zip(changes.start.tolist(), changes.ref.tolist(), changes.alt, strict=True)]
    columns |= {"llr": scores, "imm_llr": by_counts, "percentile": np.full(len(changes), np.nan)}
    return pandas.DataFrame(columns | {"gene": [gene for gene, _ in told], "effect": [effect for _, effect in told]})


def locate(genome: Genome, positions: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the name of each position's record, and where it starts."""
    first = np.array([record.start for record in genome.records])
    row = np.searchsorted(first, positions, side="right") - 1
    return [genome.records[i].name for i in row.tolist()], first[row]


def effects_of(cfg: DictConfig, genome: Genome) -> Effects:
    """Return what alleles do to the genes that a config names."""
    return Effects(genome, genes_of(cfg.genes, genome))


def score_edits(models: Models, cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Score every lengthening and shortening of a run of one letter; the rows are ranked by what an edit gains."""
    intervals = _held_out(models) if cfg.region is None else as_intervals([parse_region(cfg.region, models.genome)])
    changes = homopolymer_edits(models.genome, intervals, cfg.downstream)
    if not len(changes):
        raise UserError("there is no run of three equal letters to edit there; give a longer region")
    table, codes = _rows(models, changes, effects_of(cfg, models.genome)), changes.codes
    runs = []
    for start, ref in zip(changes.start.tolist(), changes.ref.tolist(), strict=True):
        end = start + 1
        while codes[end : end + 1] == codes[start] and end < len(codes):
            end += 1
        run = letters_of(codes[start:end])
        runs.append((run, run[:-1] if ref else run + run[0]))
    table.insert(2, "ref", [run for run, _ in runs])
    table.insert(3, "alt", [edited for _, edited in runs])
    table["percentile"] = 100 * (table["llr"].rank(method="min") - 1) / len(table)
    table = table.sort_values("llr", ascending=False, kind="stable")
    _write(folder / "scores.tsv", table)
    return _result(models, cfg, len(table)) | {"rows": "edits by what they gain", "top": _top(table)}


def score_region(models: Models, cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Score every substitution in a region; a table, a heat map, and a logo of the model's distribution."""
    if cfg.region is None:
        raise UserError("variants=saturation needs a region: add region=NAME:1000-1200 (1-based, inclusive)")
    start, end = parse_region(cfg.region, models.genome)
    if end - start > LONGEST_REGION:
        raise UserError(f"region has {end - start:,} bases, and variants=saturation takes at most {LONGEST_REGION:,}")
    changes = saturation(models.genome, start, end, cfg.downstream)
    if not len(changes):
        raise UserError(f"region={cfg.region} has no known letter")
    table = _rows(models, changes, effects_of(cfg, models.genome))
    table.insert(2, "ref", [BASES[code - 1] for code in changes.codes[changes.start].tolist()])
    table.insert(3, "alt", [BASES[int(alt[0]) - 1] for alt in changes.alt])
    percentiles = Percentiles(models, cfg.background, cfg.seed, cfg.downstream)
    table["percentile"] = percentiles(changes, table["llr"].to_numpy())
    _write(folder / "scores.tsv", table)
    _plot_region(models, table, start, end, cfg.region, folder / "saturation.png")
    top = _top(table.sort_values("llr", kind="stable"))
    return _result(models, cfg, len(table)) | {"rows": "substitutions, least likely first", "top": top}


def score_file(models: Models, cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Score the alleles of a table, or of a VCF, which is written again with fields of ours in INFO."""
    path, names = Path(str(cfg.variants)).expanduser(), read_names(Path(cfg.rename)) if cfg.rename else None
    source = VariantFile(path, models.genome, cfg.mismatch, names)
    fields = {name: (number, kind, text.format(score=_score_text(cfg))) for name, number, kind, text in FIELDS}
    effects = effects_of(cfg, models.genome)
    percentiles, scored = None, 0
    with ExitStack() as stack:
        part = stack.enter_context(atomic_path(folder / "scores.tsv"))
        table = stack.enter_context(part.open("w", encoding="utf-8", errors="surrogateescape", newline=""))
        table.write("\t".join(COLUMNS) + "\n")
        vcf = stack.enter_context(VcfWriter(folder / _scored_name(path.name), fields, cfg.overwrite, source.is_vcf))
        for sites in _blocks(source):
            alleles = [allele for site in sites for allele in site.alleles if allele]
            start, ref = (np.array([getattr(a, key) for a in alleles], dtype=np.int64) for key in ("start", "ref"))
            changes = changes_in(models.genome, start, ref, [allele.alt for allele in alleles], cfg.downstream)
            rows = _rows(models, changes, effects)
            if percentiles is None and any(map(any, _kinds(changes))):
                percentiles = Percentiles(models, cfg.background, cfg.seed, cfg.downstream)
            if percentiles:
                rows["percentile"] = percentiles(changes, rows["llr"].to_numpy())
            _write_sites(sites, rows, table, vcf)
            scored += len(alleles)
    return _result(models, cfg, scored) | {f"alleles/{status}": n for status, n in source.counts.items()}


def _blocks(source: VariantFile) -> Iterator[list[Site]]:
    """Yield the lines of a file, about `BLOCK` alleles or `BYTES` bytes at a time."""
    held, alleles, size = [], 0, 0
    for site in source:
        held.append(site)
        alleles, size = alleles + len(site.alleles), size + len(site.line)
        if alleles >= BLOCK or size >= BYTES:
            yield held
            held, alleles, size = [], 0, 0
    yield held


def _write_sites(sites: list[Site], rows: pandas.DataFrame, table: TextIO, vcf: VcfWriter) -> None:
    """Write lines of a file, `rows` of whose alleles have a score, to the table and to the VCF."""
    scores = iter(rows[["part", *SCORES]].itertuples(index=False, name=None))
    for site in sites:
        if site.is_header:
            vcf.header(site.line)
            continue
        values = []
        for alt, status, allele in zip(site.alts, site.statuses, site.alleles, strict=True):
            values.append(list(map(_cell, next(scores))) if allele else [""] * (len(SCORES) + 1))
            table.write("\t".join([site.record, str(site.pos), site.ref, alt, status, *values[-1]]) + "\n")
        part, *columns = (list(column) for column in zip(*values, strict=True))
        info = {"GENOSEQ_PART": max(part)} if any(part) else {}
        for (name, *_), column in zip(FIELDS, columns, strict=False):
            if any(column):
                info[name] = ",".join(quote(cell, safe=":/|()'+") or "." for cell in column)
        vcf.write(site.line, info)


def _cell(value: Any) -> str:
    """Return a value as text, "" for one that is missing."""
    return value if isinstance(value, str) else "" if np.isnan(value) else f"{value:.4f}"


def _scored_name(name: str) -> str:
    """Return what the scored copy of a VCF is called: calls.vcf.gz becomes calls.scored.vcf.gz."""
    stem = re.sub(r"(\.vcf)?(\.(gz|bgz))?\Z", "", name, flags=re.IGNORECASE)
    return f"{stem}.scored.vcf" + (".gz" if name.lower().endswith(("gz",)) else "")


def _score_text(cfg: DictConfig) -> str:
    return DESCRIPTION.format(downstream=cfg.downstream)


def _result(models: Models, cfg: DictConfig, scored: int) -> dict[str, Any]:
    return {
        "alleles/scored": scored,
        "score": _score_text(cfg),
        "mixer": models.models[0].mixer is not None,
        "genome/name": models.genome.name,
        "genome/sha256": models.genome.sha256,
        "checkpoints": [str(model.path.resolve()) for model in models.models],
        **provenance(models.models[0].module.device.type),
    }


def _top(table: pandas.DataFrame) -> list[dict[str, Any]]:
    rows: list[Any] = table.head(SHOWN).to_dict("records")
    return rows


def _write(path: Path, table: pandas.DataFrame) -> None:
    write_atomic(path, table.to_csv(sep="\t", index=False, float_format="%.4f", lineterminator="\n"))


def print_scores(result: dict[str, Any], folder: Path) -> None:
    """Print the first rows and where the files are."""
    console = Console()
    if rows := result.get("top"):
        same = [name for name in ("record", "part") if len({row[name] for row in rows}) == 1]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        shown = [name for name in rows[0] if name not in (*same, "gene")]
        for name in shown:
            table.add_column(name.replace("_", " "), justify="left" if isinstance(rows[0][name], str) else "right")
        for row in rows:
            cells = [row[name] for name in shown]
            table.add_row(*(f"{x:.2f}" if isinstance(x, float) else f"{x}".removesuffix("_variant") for x in cells))
        where = "".join(f", {name} {rows[0][name]}" for name in same)
        console.print(f"\n{result['genome/name']}: {result['rows']}{where}")
        console.print(table)
    counts = {key.partition("/")[2]: n for key, n in result.items() if key.startswith("alleles/")}
    scored = counts.pop("scored")
    counts.pop("ok", None)
    left_out = "".join(f", {n:,} {status}" for status, n in counts.items())
    console.print(f"{scored:,} alleles scored{left_out}", highlight=False)
    console.print(f"score: {result['score']}", soft_wrap=True, highlight=False)
    console.print(f"files: {folder}", soft_wrap=True)


def _plot_region(models: Models, table: pandas.DataFrame, start: int, end: int, title: str, path: Path) -> None:
    """Draw a region in rows of 100 bases: a logo of the model's distribution above the scores of its substitutions."""
    import io

    import logomaker
    import matplotlib.pyplot as plt
    from matplotlib.colors import TwoSlopeNorm

    p = models.distributions(start, end)
    bits = p * (2 + (p * np.log2(np.maximum(p, 1e-30))).sum(1, keepdims=True))
    record, first = locate(models.genome, np.array([start]))
    offset = int(first[0])
    scores = np.full((4, end - start), np.nan)
    for pos, alt, llr in zip(table["pos"], table["alt"], table["llr"], strict=True):
        scores["ACGT".index(alt), pos - 1 + offset - start] = llr
    top = min(2.0, 1.1 * max(0.3, float(bits.sum(1).max())))
    colors = plt.get_cmap("RdBu").with_extremes(bad="0.8")  # the reference's own letter
    limit = max(1.0, float(np.nanpercentile(np.abs(scores), 99)))
    norm, rows = TwoSlopeNorm(0, -limit, limit), -(-(end - start) // 100)
    figure, axes = plt.subplots(2 * rows, 1, figsize=(14, 2.9 * rows + 0.5), squeeze=False, layout="constrained")
    for i, (logo, heat) in enumerate(zip(axes[::2, 0], axes[1::2, 0], strict=True)):
        a, b = 100 * i, min(100 * i + 100, end - start)
        at = np.arange(a, b) + start - offset + 1  # 1-based
        logomaker.Logo(pandas.DataFrame(bits[a:b], index=at, columns=list("ACGT")), ax=logo, show_spines=False)
        logo.set(ylim=(0, top), ylabel="bits", xlim=(at[0] - 0.5, at[0] + 99.5), xticks=[])
        extent = (at[0] - 0.5, at[-1] + 0.5, 3.5, -0.5)
        image = heat.imshow(scores[:, a:b], cmap=colors, norm=norm, aspect="auto", extent=extent, interpolation="none")
        heat.ticklabel_format(axis="x", useOffset=False, style="plain")
        heat.set(yticks=range(4), yticklabels=list("ACGT"), xlim=(at[0] - 0.5, at[0] + 99.5))
    axes[-1, 0].set_xlabel(f"position in {record[0]} (1-based); grey: the reference's own base")
    figure.colorbar(image, ax=axes[:, 0].tolist(), label="score of the substitution (bits)", shrink=min(1, 2 / rows))
    figure.suptitle(f"{models.genome.name} {title}: what the model expects (logo), and every substitution's score")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    write_atomic(path, buffer.getvalue())
