"""Shared k-mers against sets of letters, covered positions against windows laid one by one."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genoseq.data.intervals import as_intervals
from genoseq.data.split import Parts, RandomWindowsSplit
from genoseq.evaluation import leakage
from genoseq.evaluation.leakage import covered_positions, shared_kmers

BACK = np.array([0, 3, 4, 1, 2], dtype=np.uint8)  # the complement


def random_codes(n, seed=0):
    return np.random.default_rng(seed).integers(1, 5, n).astype(np.uint8)


@st.composite
def cases(draw):
    """Draw genomes of few letters, so that k-mers recur, and two lists of intervals."""
    letters = draw(st.lists(st.sampled_from([1, 1, 1, 3, 3, 2, 4, 0]), max_size=120))
    cuts = sorted(draw(st.lists(st.integers(0, len(letters)), max_size=12)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    train, test = (np.array(part, dtype=np.int64).reshape(-1, 2) for part in (pairs[::2], pairs[1::2]))
    return np.array(letters, dtype=np.uint8), train, test


def kmers(codes, intervals, k):
    found = [tuple(codes[i : i + k].tolist()) for start, end in intervals.tolist() for i in range(start, end - k + 1)]
    return [kmer for kmer in found if 0 not in kmer]


@given(cases(), st.integers(1, 25))
def test_share_is_that_of_sets_of_kmers(case, k):
    codes, train, test = case
    known = set(kmers(codes, train, k))
    known |= {tuple(BACK[list(kmer)][::-1].tolist()) for kmer in known}
    asked = kmers(codes, test, k)
    expected = sum(kmer in known for kmer in asked) / len(asked) if asked else math.nan
    assert shared_kmers(codes, train, test, k) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("k", [12, 24, 25])
def test_a_repeat_counts_with_all_its_whole_kmers_on_either_strand(turned, k):
    codes = random_codes(5000)
    train, test = np.array([[0, 4000]]), np.array([[4000, 5000]])
    assert shared_kmers(codes, train, test) == 0.0
    piece = codes[1000:1200].copy()
    codes[4500:4700] = BACK[piece[::-1]] if turned else piece
    # the letters beside the copy differ from those beside the original, so no further k-mer is shared
    codes[4499], codes[4700] = (BACK[codes[1200]], BACK[codes[999]]) if turned else (codes[999], codes[1200])
    codes[4499], codes[4700] = BACK[codes[4499]], BACK[codes[4700]]
    expected = (200 - k + 1) / (1000 - k + 1)
    assert shared_kmers(codes, train, test, k) == pytest.approx(expected, abs=1e-12 if k > 12 else 2e-3)


def test_unknown_letters_and_edges_break_kmers():
    codes = random_codes(300)
    codes[200:300] = codes[0:100]
    train, test = np.array([[0, 150]]), np.array([[200, 300]])
    assert shared_kmers(codes, train, test) == 1.0
    assert shared_kmers(codes, np.array([[0, 50], [50, 150]]), test) == pytest.approx((77 - 23) / 77)
    codes[50] = 0
    assert shared_kmers(codes, train, test) == pytest.approx((77 - 24) / 77)
    codes[250] = 0
    assert shared_kmers(codes, train, test) == 1.0


def test_kmers_that_do_not_fit():
    codes = random_codes(100)
    assert math.isnan(shared_kmers(codes, np.array([[0, 70]]), np.array([[77, 100]])))
    assert shared_kmers(codes, np.array([[0, 70]]), np.array([[76, 100]])) == 0.0
    assert shared_kmers(codes, np.empty((0, 2), dtype=np.int64), np.array([[0, 100]])) == 0.0


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 99), st.integers(1, 210))
def test_a_position_counts_once_for_each_test_window_over_it(stride, span, seed, block):
    whole = as_intervals([(3, 60), (60, 75), (80, 200)])
    parts = Parts(whole, whole, whole, hash_key=(seed, 2), shares=(0.2, 0.3), window_stride=stride)
    over = {"train": np.zeros(200), "test": np.zeros(200)}
    for stage, times in over.items():
        for start in (s for a, b in whole.tolist() for s in range(a, b - span + 1)):
            times[start : start + span] += parts.accepts(stage, np.array([start]))[0]
    total = over["test"].sum()
    expected = over["test"][over["train"] > 0].sum() / total if total else math.nan
    with mock.patch.object(leakage, "BLOCK", block):
        share = covered_positions(parts, span)
    assert share == pytest.approx(expected, nan_ok=True)
    assert parts.overlap(span) or not share > 0


def test_windows_side_by_side_share_a_base_with_each_neighbour(make_genome, letters):
    genome = make_genome(letters(200_000))
    splits = [RandomWindowsSplit(window_stride=stride)(genome, 201) for stride in (1, 100, 200, 201)]
    every, half, touching, apart = (covered_positions(parts, 201) for parts in splits)
    assert every > 0.9999
    assert 0.7 < half < 0.8  # most bases lie in one other window, which trains three times in four
    assert touching == pytest.approx(1.5 / 201, abs=0.001)
    assert apart == 0.0
