import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genoseq.data.intervals import as_intervals, bases, cut_tail, intersect, overlap, spread, subtract, usable


@st.composite
def interval_lists(draw, size=60):
    """Sorted, non-overlapping intervals below `size`, and the set of positions they hold."""
    edges = sorted(draw(st.sets(st.integers(0, size), max_size=14)))
    return as_intervals(list(zip(edges[::2], edges[1::2], strict=False)))


def positions(intervals) -> list[int]:
    return [p for a, b in intervals for p in range(a, b)]


def test_as_intervals_sorts_and_drops_the_empty():
    made = as_intervals([(5, 9), (3, 3), (7, 4), (0, 2)])
    assert made.tolist() == [[0, 2], [5, 9]]
    assert made.dtype == np.int64
    assert as_intervals([]).shape == (0, 2)
    assert bases(made) == 6
    assert bases(as_intervals([])) == 0


@given(a=interval_lists(), b=interval_lists())
def test_intersect_is_the_set_intersection(a, b):
    assert positions(intersect(a, b)) == sorted(set(positions(a)) & set(positions(b)))
    assert intersect(a, b).tolist() == intersect(b, a).tolist()


@given(interval_lists(), st.integers(1, 60), st.integers(1, 20))
def test_spread_takes_as_many_bases_as_asked_without_leaving_an_interval(intervals, most, piece):
    total = bases(intervals)
    pieces, row = spread(intervals, most, piece)
    taken = positions(pieces)
    assert len(set(taken)) == len(taken)
    assert len(taken) == (total if total <= most else most // min(piece, most) * min(piece, most))
    for (start, end), owner in zip(pieces.tolist(), row.tolist(), strict=True):
        assert intervals[owner, 0] <= start <= end <= intervals[owner, 1]


def test_spread_reaches_from_one_end_to_the_other():
    pieces, row = spread(np.array([[0, 1000], [5000, 6000]]), 400, piece=100)
    assert pieces.tolist() == [[0, 100], [500, 600], [5000, 5100], [5500, 5600]] and row.tolist() == [0, 0, 1, 1]


@given(text=st.text(alphabet="ANN", min_size=1, max_size=60), run=st.integers(1, 8), cut=st.integers(0, 59))
def test_usable_leaves_out_records_edges_and_long_runs_only(make_genome, text, run, cut):
    cut = min(cut, len(text))
    records = {name: part for name, part in [("a", text[:cut]), ("b", text[cut:])] if part}
    genome = make_genome(records)
    kept = "".join(re.sub(f"N{{{run},}}", lambda found: "-" * len(found[0]), part) for part in records.values())
    found = usable(genome, run)
    assert positions(found) == [p for p, letter in enumerate(kept) if letter != "-"]
    for a, b in found:  # no interval crosses a record's edge
        assert any(record.start <= a and b <= record.end for record in genome.records)
    touching = [b for (_, b), (a, _) in pairwise(found) if a == b]
    assert set(touching) <= {record.end for record in genome.records}  # nor is one cut without need


@given(intervals=interval_lists(), ends=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), min_size=1))
def test_overlap_counts_the_bases_inside(intervals, ends):
    start, end = np.sort(np.array(ends), axis=1).T
    wanted = [sum(a <= p < b for p in positions(intervals)) for a, b in zip(start, end, strict=True)]
    assert overlap(intervals, start, end).tolist() == wanted


@given(intervals=interval_lists(), amount=st.integers(0, 70), gap=st.integers(0, 12))
def test_cut_tail_takes_the_last_bases(intervals, amount, gap):
    head, tail = cut_tail(intervals, amount, gap)
    everything = positions(intervals)
    assert positions(tail) == everything[max(len(everything) - amount, 0) :]
    left = positions(head)
    assert left == everything[: len(left)]
    if left and positions(tail):
        first = positions(tail)[0]
        assert set(everything[len(left) : everything.index(first)]) <= set(range(first - gap, first))
        inside = [(a, b) for a, b in intervals.tolist() if a < first < b]
        if inside:  # the cut lies within an interval: nothing of it is nearer than the gap
            assert left[-1] < first - gap or left[-1] < inside[0][0]


@pytest.mark.parametrize(("gap", "head"), [(0, [[0, 70]]), (10, [[0, 60]]), (70, []), (100, [])])
def test_cut_tail_gap(gap, head):
    found, tail = cut_tail(as_intervals([(0, 100)]), 30, gap)
    assert found.tolist() == head
    assert tail.tolist() == [[70, 100]]


@given(a=interval_lists(), b=interval_lists())
def test_subtract_is_the_set_difference(a, b):
    assert positions(subtract(a, b)) == sorted(set(positions(a)) - set(positions(b)))
