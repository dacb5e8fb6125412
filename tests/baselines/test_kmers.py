"""Blocks and k-mer numbers against plain loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genoseq.baselines.kmers import EDGE, LEAD, blocks, known_runs, rolling, rolling_canonical, spread

COMPLEMENT = {0: 0, 1: 3, 3: 1, 2: 4, 4: 2}

letter_lists = st.lists(st.integers(0, 4), max_size=60)


@st.composite
def genomes(draw):
    """Letters and sorted, non-overlapping intervals of them (some empty)."""
    letters = draw(letter_lists)
    cuts = sorted(draw(st.lists(st.integers(0, len(letters)), max_size=8)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    return np.array(letters, dtype=np.uint8), np.array(pairs, dtype=np.int64).reshape(-1, 2)


def number(letters):
    value = 0
    for letter in letters:
        value = 4 * value + letter - 1
    return value


@given(st.lists(st.integers(1, 4), max_size=80), st.integers(1, 32))
def test_rolling_is_the_number_of_each_kmer(letters, k):
    array = np.array(letters, dtype=np.uint8)
    kmers = [letters[i : i + k] for i in range(len(letters) - k + 1)]
    assert rolling(array, k, np.uint64).tolist() == [number(kmer) for kmer in kmers]
    if k <= 16:
        assert rolling(array, k, np.uint32).tolist() == [number(kmer) for kmer in kmers]
    turned = [[COMPLEMENT[x] for x in reversed(kmer)] for kmer in kmers]
    expected = [min(number(a), number(b)) for a, b in zip(kmers, turned, strict=True)]
    assert rolling_canonical(array, k).tolist() == expected


@given(letter_lists)
def test_known_runs_count_back_to_the_last_unknown_letter(letters):
    expected, run = [], 0
    for letter in letters:
        run = run + 1 if letter else 0
        expected.append(run)
    assert known_runs(np.array(letters, dtype=np.uint8)).tolist() == expected


@given(genomes(), st.integers(1, 70), st.integers(1, 20), st.booleans())
def test_blocks_give_every_letter_once_with_its_context(genome, size, overlap, reverse):
    codes, intervals = genome
    strands = []
    for start, end in intervals.tolist():
        strand = codes[start:end].tolist()
        strands.append([COMPLEMENT[x] for x in reversed(strand)] if reverse else strand)
    rebuilt = [[] for _ in strands]
    for letters, owner in blocks(codes, intervals, size, overlap, reverse):
        assert 0 < (owner >= 0).sum() <= size
        assert len(letters) == len(owner)
        assert not letters[owner == EDGE].any()
        context = []
        for letter, row in zip(letters.tolist(), owner.tolist(), strict=True):
            if row == EDGE:
                context = []
            elif row == LEAD:
                context.append(letter)
            else:
                # what stands before a letter in its block is what stood before it in its interval, and enough of it
                done = rebuilt[row]
                assert context == done[len(done) - len(context) :]
                assert len(context) >= min(overlap, len(done))
                done.append(letter)
                context.append(letter)
    assert rebuilt == strands


@given(genomes(), st.integers(1, 60), st.integers(1, 20))
def test_spread_takes_as_many_bases_as_asked_without_leaving_an_interval(genome, most, piece):
    _, intervals = genome
    total = int(np.diff(intervals).sum())
    pieces, row = spread(intervals, most, piece)
    taken = [place for start, end in pieces.tolist() for place in range(start, end)]
    assert len(set(taken)) == len(taken)
    assert len(taken) == (total if total <= most else most // min(piece, most) * min(piece, most))
    for (start, end), owner in zip(pieces.tolist(), row.tolist(), strict=True):
        assert intervals[owner, 0] <= start <= end <= intervals[owner, 1]


def test_spread_reaches_from_one_end_to_the_other():
    pieces, row = spread(np.array([[0, 1000], [5000, 6000]]), 400, piece=100)
    assert pieces.tolist() == [[0, 100], [500, 600], [5000, 5100], [5500, 5600]] and row.tolist() == [0, 0, 1, 1]
