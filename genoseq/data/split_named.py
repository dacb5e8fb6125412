"""Splits that the user spells out: by the names of records, or by a BED file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from genoseq.data.genome import Genome
from genoseq.data.intervals import Intervals, as_intervals, bases, cut_tail
from genoseq.data.split import STAGES, Split
from genoseq.errors import UserError


class RecordsSplit(Split):
    """Named records (chromosomes, plasmids) test; others may be named for validation.

    Parameters
    ----------
    test : sequence of str
        Names of test records (the first word of their headers). A command line makes ``[2]`` a number; that is the
        record called 2.
    val : sequence of str or float
        Names of validation records, or the share of the remaining bases to take off their end.
    """

    def __init__(
        self,
        test: Sequence[str | int] | str | int,
        val: Sequence[str | int] | str | float = 0.05,
        unknown_run: int = 10,
    ) -> None:
        super().__init__(unknown_run)
        if isinstance(test, (str, int)):
            test = [test]
        if not test:
            raise UserError(
                "data/split=records needs the names of the records to test on: add data.split.test=[NAME,...]"
            )
        if isinstance(val, (int, float)):
            if not 0 < val < 1:
                raise UserError(f"data.split.val={val} is neither a share between 0 and 1 nor a list of record names")
        elif isinstance(val, str):
            val = [val]
        self.test = [str(name) for name in test]
        self.val = val if isinstance(val, (int, float)) else [str(name) for name in val]

    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        named = {"test": self.test, "val": [] if isinstance(self.val, (int, float)) else self.val}
        known = {record.name: record for record in genome.records}
        for stage, names in named.items():
            for name in names:
                if name not in known:
                    some = ", ".join(list(known)[:8]) + (", ..." if len(known) > 8 else "")
                    raise UserError(
                        f"data.split.{stage} names the record '{name}', which genome '{genome.name}' does not have; "
                        f"its records are {some}"
                    )
        both = set(named["test"]) & set(named["val"])
        if both:
            raise UserError(f"the record '{min(both)}' is named both in data.split.test and in data.split.val")
        out = {
            stage: as_intervals([(known[n].start, known[n].end) for n in set(names)]) for stage, names in named.items()
        }
        used = {*named["test"], *named["val"]}
        rest = as_intervals([(r.start, r.end) for r in genome.records if r.name not in used])
        if isinstance(self.val, (int, float)):
            rest, out["val"] = cut_tail(rest, round(bases(rest) * self.val), gap)
        return {"train": rest, "val": out["val"], "test": out["test"]}


class BedSplit(Split):
    """A BED file says: columns record, start, end, part (train, val or test); what it does not name is unused.

    Parameters
    ----------
    file : str
        Tab-separated, 0-based half-open coordinates; ``#``, ``track`` and ``browser`` lines are skipped.
    val : float
        Without a ``val`` line: the share of the training part to take off its end.
    """

    def __init__(self, file: str, val: float = 0.05, unknown_run: int = 10) -> None:
        super().__init__(unknown_run)
        self.file, self.val = Path(file), val
        if not 0 < val < 1:
            raise UserError(f"data.split.val={val} is not a share: give a number between 0 and 1, such as 0.05")

    def _rows(self, genome: Genome) -> list[tuple[int, int, str, int]]:
        known = {record.name: record for record in genome.records}
        rows: list[tuple[int, int, str, int]] = []
        try:
            lines = self.file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the split file {self.file} cannot be read ({error})") from error
        for number, line in enumerate(lines, start=1):
            # by the whole first word: a record may be called track7
            if not line.strip() or line.startswith("#") or line.split()[0] in ("track", "browser"):
                continue
            where, row = f"{self.file}, line {number}", line.split("\t")
            if len(row) < 4 or row[3].strip() not in STAGES or not (row[1].isdecimal() and row[2].isdecimal()):
                raise UserError(f"{where}: expected record, start, end and train, val or test, separated by tabs")
            if row[0] not in known:
                raise UserError(f"{where}: genome '{genome.name}' has no record '{row[0]}'")
            record, start, end = known[row[0]], int(row[1]), int(row[2])
            if not start < end <= record.length:
                raise UserError(f"{where}: {start}-{end} is not inside '{row[0]}', which has {record.length:,} bases")
            rows.append((record.start + start, record.start + end, row[3].strip(), number))
        return sorted(rows)

    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        rows = self._rows(genome)
        for (_, end, _, first), (start, _, _, second) in pairwise(rows):
            if start < end:
                raise UserError(f"{self.file}: the parts on lines {first} and {second} overlap; make them disjoint")
        pairs: dict[str, list[tuple[int, int]]] = {stage: [] for stage in STAGES}
        for start, end, stage, _ in rows:
            if pairs[stage] and pairs[stage][-1][1] == start:  # neighbours of one part are one stretch
                start = pairs[stage].pop()[0]
            pairs[stage].append((start, end))
        out = {stage: as_intervals(held) for stage, held in pairs.items()}
        for stage in ("train", "test"):
            if not len(out[stage]):
                raise UserError(f"{self.file} has no {stage} line: name at least one train and one test region")
        if not len(out["val"]):
            out["train"], out["val"] = cut_tail(out["train"], round(bases(out["train"]) * self.val), gap)
        return out
