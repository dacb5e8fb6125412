"""Counts against plain loops over letters, and what they may not depend on."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genoseq.baselines import counts
from genoseq.baselines.counts import LONGEST, Counts
from genoseq.errors import UserError

COMPLEMENT = [0, 3, 4, 1, 2]
order_lists = st.lists(st.integers(0, LONGEST), min_size=1, max_size=6)


@st.composite
def genomes(draw):
    """Letters with repeats on both strands and some unknowns, intervals to count and intervals to ask along."""
    motif = draw(st.lists(st.integers(1, 4), min_size=1, max_size=40))
    turned = [COMPLEMENT[letter] for letter in motif[::-1]]
    some = st.lists(st.integers(0, 4), max_size=6)
    parts = draw(st.lists(st.one_of(st.just(motif), st.just(turned), some), min_size=2, max_size=8))
    letters = [letter for part in parts for letter in part] or [1]
    pairs = []
    for _ in range(2):
        cuts = sorted(draw(st.lists(st.integers(0, len(letters)), max_size=8)))
        pairs.append(list(zip(cuts[::2], cuts[1::2], strict=False)) if draw(st.booleans()) else [(0, len(letters))])
    return np.array(letters, dtype=np.uint8), *(np.array(pair, dtype=np.int64).reshape(-1, 2) for pair in pairs)


def events(letters, t, order, both):
    """Return the (context, letter) that end with the letter at t of an interval, on either strand."""
    window = letters[t - order : t + 1] if t >= order else [0]
    strands = [window, [COMPLEMENT[letter] for letter in window[::-1]]][: 1 + both]
    return [(tuple(strand[:-1]), strand[-1]) for strand in strands if 0 not in window]


def expected(codes, train, asked, order, both):
    """Return how often each letter followed the context of each known letter, in `train` and in `asked` before it."""
    known, read, rows = [], [], []
    for start, end in train.tolist():
        known += [event for t in range(end - start) for event in events(codes[start:end].tolist(), t, order, both)]
    for start, end in asked.tolist():
        letters = codes[start:end].tolist()
        for t in range(end - start):
            before = letters[t - order : t] if t >= order else [0]
            context = None if 0 in before else tuple(before)
            if letters[t]:
                rows.append([[past.count((context, letter)) for letter in (1, 2, 3, 4)] for past in (known, read)])
            read += events(letters, t, order, both)
    return np.array(rows).reshape(-1, 2, 4).transpose(1, 0, 2).tolist()


def along(model, *args, **kwargs):
    """Return all chunks as one."""
    chunks = list(model.along(*args, **kwargs))
    assert all(0 < len(chunk.at) <= kwargs["size"] for chunk in chunks)
    join = [np.concatenate(arrays, axis=int(arrays[0].ndim == 3)) for arrays in zip(*chunks, strict=True)]
    return counts.Chunk(*join) if chunks else None


@settings(max_examples=300)
@given(genomes(), order_lists, st.booleans(), st.integers(1, 150), st.integers(1, 40), st.integers(0, 5))
def test_counts_are_those_of_plain_loops_whatever_the_chunks(genome, orders, both, size, passes, direct):
    codes, train, asked = genome
    with mock.patch.multiple(counts, PASSES=passes, DIRECT=direct):
        model = Counts(codes, train, orders, both)
        got = along(model, codes, asked, size=size, adaptive=True)
        frozen = along(model, codes, asked, size=size, skip_first=True)
    at = [i for start, end in asked.tolist() for i in range(start, end) if codes[i]]
    if got is None:
        assert not at
        return
    assert got.at.tolist() == at
    assert (got.digit + 1).tolist() == codes[at].tolist()
    assert [asked[row, 0] <= i < asked[row, 1] for row, i in zip(got.owner, at, strict=True)] == [True] * len(at)
    for i, row, depth in zip(at, got.owner, got.depth, strict=True):
        before = codes[asked[row, 0] : i][::-1].tolist()
        assert depth == min([*before, 0].index(0), max(orders))
    for order, *rows in zip(model.orders, got.counts, got.seen, strict=True):
        assert [row.tolist() for row in rows] == expected(codes, train, asked, order, both)
    assert [row.tolist() for row in got.forward] == [expected(codes, train, asked, n, False)[0] for n in model.orders]
    later = ~np.isin(got.at, asked[:, 0])
    if frozen is None:
        assert not later.any()
    else:
        assert frozen.at.tolist() == got.at[later].tolist() and not frozen.seen.size
        assert np.array_equal(frozen.counts, got.counts[:, later])


@settings(max_examples=100)
@given(st.data(), st.integers(1, 200), st.integers(0, 3))
def test_nothing_depends_on_the_base_itself_or_a_later_one(data, size, direct):
    motif = data.draw(st.lists(st.integers(1, 4), min_size=5, max_size=30))
    train = np.array(motif * 5, dtype=np.uint8)
    # hairpins: the events of the other strand are found at once
    codes = np.array((motif + [COMPLEMENT[letter] for letter in motif[::-1]]) * 3, dtype=np.uint8)
    t = data.draw(st.integers(0, len(codes) - 1))
    changed = codes.copy()
    changed[t:] = data.draw(st.lists(st.integers(1, 4), min_size=len(codes) - t, max_size=len(codes) - t))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(codes)), max_size=3)))
    asked = np.array(list(zip([0, *cuts], [*cuts, len(codes)], strict=True)))
    with mock.patch.object(counts, "DIRECT", direct):
        model = Counts(train, np.array([[0, len(train)]]), [0, 1, 2, 3, 5, 8, 13], True)
        one, other = (along(model, letters, asked, size=size, adaptive=True) for letters in (codes, changed))
    assert np.array_equal(one.counts[:, : t + 1], other.counts[:, : t + 1])
    assert np.array_equal(one.seen[:, : t + 1], other.seen[:, : t + 1])


def test_a_long_genome_has_the_same_counts_whatever_the_chunks_passes_and_tables():
    rng = np.random.default_rng(0)
    codes = np.where(rng.random(40_000) < 0.005, 0, rng.integers(1, 5, 40_000)).astype(np.uint8)
    for start in (22_000, 27_000, 32_000):  # repeats on either strand, of the counted part and of what was read
        codes[start : start + 2000] = codes[start - 20_000 : start - 18_000]
        codes[start + 2000 : start + 4000] = np.array(COMPLEMENT)[codes[start : start + 2000][::-1]]
    train, asked = np.array([[0, 20_000]]), np.array([[20_000, 25_100], [25_100, 40_000]])
    orders = [0, 1, 2, 3, 4, 8, 10, 11, 12, 16, 20, 23, 24]
    got = []
    for direct, size, passes in ((10, 500, 32), (10, 500, 1), (-1, 1 << 16, 32)):
        with mock.patch.multiple(counts, DIRECT=direct, PASSES=passes):
            got.append(along(Counts(codes, train, orders, True), codes, asked, size=size, adaptive=True))
    assert got[0].counts[-1].any() and got[0].seen[-1].any()
    for one, *others in zip(*got, strict=True):
        assert all(np.array_equal(one, other) for other in others)


def test_contexts_of_more_than_24_bases_are_refused():
    with pytest.raises(UserError, match="at most 24 bases, got 25"):
        Counts(np.ones(5, dtype=np.uint8), np.array([[0, 5]]), [1, 25], True)
