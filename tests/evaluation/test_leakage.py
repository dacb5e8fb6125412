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
    """Few-letter genomes, so that words come back; two lists of intervals."""
    letters = draw(st.lists(st.sampled_from([1, 1, 1, 3, 3, 2, 4, 0]), max_size=120))
    cuts = sorted(draw(st.lists(st.integers(0, len(letters)), max_size=12)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    train, test = (np.array(part, dtype=np.int64).reshape(-1, 2) for part in (pairs[::2], pairs[1::2]))
    return np.array(letters, dtype=np.uint8), train, test


def words(codes, intervals, k):
    found = [tuple(codes[i : i + k].tolist()) for start, end in intervals.tolist() for i in range(start, end - k + 1)]
    return [word for word in found if 0 not in word]


@settings(deadline=None)
@given(cases(), st.integers(1, 9), st.integers(1, 150), st.integers(1, 150))
def test_share_is_that_of_sets_of_words(case, k, block, chunk):
    codes, train, test = case
    known = set(words(codes, train, k))
    known |= {tuple(BACK[list(word)][::-1].tolist()) for word in known}
    asked = words(codes, test, k)
    got = shared_kmers(codes, train, test, k, block, chunk)
    if asked:
        assert got == pytest.approx(sum(word in known for word in asked) / len(asked), abs=1e-12)
    else:
        assert math.isnan(got)


def test_random_parts_share_nothing():
    codes = random_codes(60_000)
    assert shared_kmers(codes, np.array([[0, 40_000]]), np.array([[40_000, 60_000]])) == 0.0


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("k", [12, 24, 31])
def test_a_repeat_counts_with_all_its_whole_words_on_either_strand(turned, k):
    codes = random_codes(5000)
    piece = codes[1000:1200].copy()
    codes[4500:4700] = BACK[piece[::-1]] if turned else piece
    # The letters beside the copy differ from those beside the original, so no further word is shared.
    codes[4499], codes[4700] = (BACK[codes[1200]], BACK[codes[999]]) if turned else (codes[999], codes[1200])
    codes[4499], codes[4700] = BACK[codes[4499]], BACK[codes[4700]]
    expected = (200 - k + 1) / (1000 - k + 1)
    assert shared_kmers(codes, np.array([[0, 4000]]), np.array([[4000, 5000]]), k) == pytest.approx(
        expected, abs=1e-12 if k > 12 else 2e-3
    )


def test_an_unknown_letter_takes_its_words_away():
    codes = random_codes(300)
    codes[200:300] = codes[0:100]
    train, test = np.array([[0, 150]]), np.array([[200, 300]])
    assert shared_kmers(codes, train, test) == 1.0
    codes[50] = 0
    assert shared_kmers(codes, train, test) == pytest.approx((77 - 24) / 77)
    codes[250] = 0
    assert shared_kmers(codes, train, test) == 1.0


def test_words_do_not_cross_the_edge_between_two_intervals():
    codes = random_codes(400)
    codes[300:400] = codes[50:150]
    test = np.array([[300, 400]])
    assert shared_kmers(codes, np.array([[0, 200]]), test) == 1.0
    assert shared_kmers(codes, np.array([[0, 100], [100, 200]]), test) == pytest.approx((77 - 23) / 77)


def test_nan_where_no_whole_word_lies_in_the_test_part():
    codes = random_codes(100)
    assert math.isnan(shared_kmers(codes, np.array([[0, 70]]), np.array([[77, 100]])))
    assert shared_kmers(codes, np.array([[0, 70]]), np.array([[76, 100]])) == 0.0
    assert shared_kmers(codes, np.empty((0, 2), dtype=np.int64), np.array([[0, 100]])) == 0.0


@pytest.mark.parametrize("k", [0, 32])
def test_words_that_do_not_fit_are_refused(k):
    with pytest.raises(ValueError, match="1 to 31"):
        shared_kmers(random_codes(100), np.array([[0, 50]]), np.array([[50, 100]]), k)
