"""Shared k-mers against sets of strings."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genoseq.evaluation.leakage import shared_kmers

BACK = np.array([0, 3, 4, 1, 2], dtype=np.uint8)


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


@settings(deadline=None)
@given(cases(), st.integers(1, 9), st.integers(1, 150), st.integers(1, 150))
def test_share_is_that_of_sets_of_kmers(case, k, block, chunk):
    codes, train, test = case
    known = set(kmers(codes, train, k))
    known |= {tuple(BACK[list(kmer)][::-1].tolist()) for kmer in known}
    asked = kmers(codes, test, k)
    expected = sum(kmer in known for kmer in asked) / len(asked) if asked else math.nan
    assert shared_kmers(codes, train, test, k, block, chunk) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("k", [12, 24, 31])
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
    for k in (0, 32):
        with pytest.raises(ValueError, match="1 to 31"):
            shared_kmers(codes, np.array([[0, 50]]), np.array([[50, 100]]), k)
