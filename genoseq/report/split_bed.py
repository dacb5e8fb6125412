"""split.bed: where each part lies, for a genome browser or for ``data/split=bed`` in another run."""

from __future__ import annotations

from pathlib import Path

from genoseq.data.datamodule import GenomeData
from genoseq.data.split import STAGES
from genoseq.files import write_atomic


def write_split(data: GenomeData, path: Path) -> None:
    """Write the parts of `data` as BED: record, start, end (bases of the record, 0-based, half-open), part.

    For ``random_windows``, whose parts are the same bases, one line a stretch says so.
    """
    parts = data.parts
    lines = [f"# genome {data.genome.name} sha256 {data.genome.sha256}"]
    if parts.window_stride > 1:
        lines.append(f"# windows of {data.span} bases start at every {parts.window_stride} bases of a line")
    stages = ("train",) if parts.splits_windows else STAGES
    rows = sorted((int(a), int(b), stage) for stage in stages for a, b in parts.of(stage))
    records = iter(data.genome.records)
    record = next(records)
    for start, stop, stage in rows:
        while start >= record.end:
            record = next(records)
        name = "random_windows" if parts.splits_windows else stage
        lines.append(f"{record.name}\t{start - record.start}\t{stop - record.start}\t{name}")
    write_atomic(path, "\n".join(lines) + "\n")
