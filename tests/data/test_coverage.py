"""Windows over positions, against windows laid one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genoseq.data.coverage import covered, windows_over, with_context
from genoseq.data.intervals import as_intervals, intersect
from genoseq.data.split import STAGES, ContiguousSplit, Parts
from genoseq.data.tokenizer import CharTokenizer
from genoseq.data.windows import TrainingWindows, WindowIndex, window_streams

CHAR = CharTokenizer().vocabulary
WHOLE = as_intervals([(3, 60), (60, 75), (80, 200)])
SHARES = (0.2, 0.3)


def leaky(stride: int, seed: int = 0) -> Parts:
    return Parts(WHOLE, WHOLE, WHOLE, hash_key=(seed, 2), shares=SHARES, window_stride=stride)


def starts_of(parts: Parts, stage: str, span: int, stride: int) -> list[int]:
    """Return the starts of the stage's windows, by the definition."""
    every = [s for a, b in WHOLE.tolist() for s in range(a, b - span + 1, stride)]
    keep = Parts(WHOLE, WHOLE, WHOLE, hash_key=parts.hash_key, shares=SHARES).accepts(stage, np.array(every, np.int64))
    return [s for s, kept in zip(every, keep, strict=True) if kept]


def laid(parts: Parts, stage: str, span: int, stride: int) -> np.ndarray:
    """Return how many windows of the stage lie over each base."""
    over = np.zeros(200, np.int64)
    for start in starts_of(parts, stage, span, stride):
        over[start : start + span] += 1
    return over


cases = {"stride": st.integers(1, 40), "span": st.integers(1, 30), "seed": st.integers(0, 99)}


@given(**cases, block=st.integers(1, 210))
def test_coverage_is_that_of_windows_laid_one_by_one(stride, span, seed, block):
    parts = leaky(stride, seed)
    over = {stage: laid(parts, stage, span, stride) for stage in STAGES}
    for stage in STAGES:
        for a, b in WHOLE.tolist():
            for lo in range(a, b, block):
                hi = min(lo + block, b)
                assert windows_over(parts, stage, span, lo, hi).tolist() == over[stage][lo:hi].tolist()
        held = np.zeros(200, bool)
        for a, b in (pieces := covered(parts, stage, span, block)).tolist():
            assert any(lo <= a < b <= hi for lo, hi in WHOLE.tolist())  # no piece crosses an interval's edge
            held[a:b] = True
        assert held.tolist() == (over[stage] > 0).tolist()
        assert pieces.tolist() == covered(parts, stage, span).tolist()
    assert parts.overlap(span) == (stride < span)
    if not parts.overlap(span):
        assert not len(intersect(covered(parts, "train", span), covered(parts, "test", span)))


@given(**cases)
def test_windows_of_every_part_start_on_the_grid_and_in_one_part(stride, span, seed):
    parts = leaky(stride, seed)
    grid = {s for a, b in WHOLE.tolist() for s in range(a, b - span + 1, stride)}
    index = WindowIndex(WHOLE, span, stride)
    assert set(index.start(np.arange(len(index))).tolist()) == grid
    own = {stage: set(starts_of(parts, stage, span, stride)) for stage in STAGES}
    assert set.union(*own.values()) == grid
    assert sum(map(len, own.values())) == len(grid)
    everywhere = np.arange(3, 200)
    for stage in STAGES:
        accepted = set(everywhere[parts.accepts(stage, everywhere)].tolist())
        assert own[stage] == accepted & grid
    if not all(own.values()):
        return
    sampler = TrainingWindows(parts, CHAR, span - 1, 16, seed)
    drawn = {int(s) for step in range(20) for s in sampler[step].starts}
    assert drawn <= own["train"]
    for stage in STAGES:
        assert set(window_streams(parts, stage, span, span - 1, 50, seed).start.tolist()) <= own[stage]


@given(**cases, lead=st.integers(0, 20))
def test_context_is_added_where_there_is_some(stride, span, seed, lead):
    parts = leaky(stride, seed)
    pieces = covered(parts, "test", span)
    wide = with_context(parts, pieces, lead)
    assert (wide[1:, 0] >= wide[:-1, 1]).all()
    expected = {
        p for a, b in pieces.tolist() for lo, hi in WHOLE.tolist() if lo <= a < hi for p in range(max(lo, a - lead), b)
    }
    assert {p for a, b in wide.tolist() for p in range(a, b)} == expected
    for a, b in wide.tolist():
        assert any(lo <= a < b <= hi for lo, hi in WHOLE.tolist())


def test_parts_that_are_intervals_cover_themselves(make_genome, letters):
    parts = ContiguousSplit()(make_genome(letters(3000)), 30)
    assert not parts.overlap(30)
    for stage in STAGES:
        assert with_context(parts, covered(parts, stage, 30), 16) is parts.of(stage)
