"""Repeat models against plain loops over letters, and what they may not depend on."""

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genoseq.baselines import counts
from genoseq.baselines.counts import Counts
from genoseq.baselines.repeats import RepeatChunk, Repeats
from genoseq.errors import UserError

COMPLEMENT = [0, 3, 4, 1, 2]


def turn(letters):
    return [COMPLEMENT[letter] for letter in letters[::-1]]


@st.composite
def genomes(draw):
    """Letters in and between copies of a motif on both strands, with substitutions and unknowns; and two intervals."""
    motif = draw(st.lists(st.integers(1, 4), min_size=4, max_size=60))
    some = st.lists(st.integers(1, 4), max_size=6)
    parts = draw(st.lists(st.one_of(st.just(motif), st.just(turn(motif)), some), min_size=2, max_size=8))
    letters = [letter for part in parts for letter in part] or [1]
    for at, letter in draw(st.lists(st.tuples(st.integers(0, len(letters) - 1), st.integers(0, 4)), max_size=12)):
        letters[at] = letter
    cuts = sorted(draw(st.lists(st.integers(0, len(letters)), max_size=6)))
    edges = [0, *cuts, len(letters)]
    return np.array(letters, dtype=np.uint8), np.array(list(itertools.pairwise(edges)))


def expected(indexed, where, codes, asked, length, adaptive, other):
    """Return (digit, hits, misses, length) of one mode and strand for each known base."""
    indexed, codes = indexed.tolist(), codes.tolist()
    past, own = {}, {}  # word -> (letters, where it begins, the interval's edges)
    for low, high in where.tolist():
        for at in range(low, high - length + 1):
            past[tuple(indexed[at : at + length])] = indexed, at, low, high
    rows = []
    for start, end in asked.tolist():
        pointer = None
        for t in range(start, end):
            begin = t - length
            word = codes[begin:t] if begin >= start else [0]
            if codes[t] == 0:
                pointer = None
            else:
                found = tuple(turn(word) if other else word)
                if pointer is None and 0 not in word and (found in own or found in past):
                    letters, at, low, high = own[found] if found in own else past[found]
                    pointer = at - 1 if other else at + length
                    hits, misses, results = np.float32(0), np.float32(0), []
                    if not low <= pointer < high or letters[pointer] == 0:
                        pointer = None
                if pointer is None:
                    rows.append((-1, 0, 0, 0))
                else:
                    digit = (COMPLEMENT[letters[pointer]] if other else letters[pointer]) - 1
                    rows.append((digit, hits, misses, len(results)))
                    results.append(digit == codes[t] - 1)
                    hits = np.float32(float(hits) * 0.95 + results[-1])
                    misses = np.float32(float(misses) * 0.95 + (not results[-1]))
                    pointer += -1 if other else 1
                    if results[-16:].count(False) > 8 or not low <= pointer < high or letters[pointer] == 0:
                        pointer = None
            if adaptive and 0 not in word:
                own[tuple(word)] = codes, begin, start, end
        if adaptive and end - start >= length:
            own[tuple(codes[end - length : end])] = codes, end - length, start, end
    return rows


def along(model, *args, **kwargs):
    """Return all chunks as one, (modes, 2, n) each."""
    chunks = list(model.along(*args, **kwargs))
    return RepeatChunk(*(np.concatenate(arrays, axis=2) for arrays in zip(*chunks, strict=True))) if chunks else None


@settings(max_examples=300)
@given(genomes(), genomes(), st.data(), st.integers(1, 300), st.integers(3, 16), st.integers(1, 40))
def test_pointers_are_those_of_plain_loops_whatever_the_chunks(genome, other_genome, data, size, length, passes):
    codes, asked = genome
    # learnt from every other interval of the same genome, or from another genome
    indexed, where = data.draw(st.sampled_from([(codes, asked[::2]), other_genome, (codes, asked[:0])]))
    model = Repeats(indexed, where, length)
    with mock.patch.object(counts, "PASSES", passes):
        got = along(model, codes, asked, size=size, adaptive=True)
    assert (got is None) == (not codes.any())
    for mode, strand in np.ndindex(2, 2) if got else []:
        rows = list(zip(*(array[mode, strand].tolist() for array in got), strict=True))
        assert rows == expected(indexed, where, codes, asked, length, mode == 1, strand == 1)
    # the same bases as counts, chunk by chunk
    skipping = {"size": size, "skip_first": True}
    chunks = list(Counts(codes, asked[:0], [0], False).along(codes, asked, **skipping))
    same = list(model.along(codes, asked, **skipping))
    assert [chunk.digit.shape for chunk in same] == [(1, 2, len(chunk.at)) for chunk in chunks]
    if got and chunks:
        kept = ~np.isin(np.flatnonzero(codes), asked[:, 0])
        for array, whole in zip(along(model, codes, asked, **skipping), got, strict=True):
            assert np.array_equal(array[0], whole[0][:, kept])


@settings(max_examples=150)
@given(genomes(), st.data(), st.integers(1, 200), st.integers(3, 16))
def test_nothing_depends_on_the_base_itself_or_a_later_one(genome, data, size, length):
    codes, asked = genome
    codes[codes == 0] = 1
    t = data.draw(st.integers(0, len(codes) - 1))
    changed = codes.copy()
    changed[t:] = data.draw(st.lists(st.integers(1, 4), min_size=len(codes) - t, max_size=len(codes) - t))
    model = Repeats(codes.copy(), asked[::2], length)
    one, other = (along(model, letters, asked, size=size, adaptive=True) for letters in (codes, changed))
    for array, same in zip(one, other, strict=True):
        assert np.array_equal(array[..., : t + 1], same[..., : t + 1])


def test_a_word_never_finds_itself():
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 5, 10_000).astype(np.uint8)
    whole = np.array([[0, len(codes)]])
    nothing = Repeats(codes, whole[:0])
    assert (along(nothing, codes, whole, adaptive=True).digit == -1).all()
    # a hairpin: the last 16 bases are their own reverse complement
    codes[5_000:5_008] = turn(codes[4_992:5_000].tolist())
    assert (along(nothing, codes, whole, adaptive=True).digit == -1).all()
    # with longer arms the other strand is found one base later, and predicts the rest of the arm
    codes[5_000:5_100] = turn(codes[4_900:5_000].tolist())
    digit = along(nothing, codes, whole, adaptive=True).digit
    assert (digit[0] == -1).all() and (digit[1, 0] == -1).all()
    assert np.flatnonzero(digit[1, 1] >= 0)[0] == 5_009
    assert np.array_equal(digit[1, 1, 5_009:5_100], codes[5_009:5_100] - 1)


@pytest.mark.parametrize("length", [0, 32])
def test_lengths_out_of_range_are_refused(length):
    with pytest.raises(UserError, match=f"1 to 31 bases, got {length}"):
        Repeats(np.ones(5, dtype=np.uint8), np.array([[0, 5]]), length)
