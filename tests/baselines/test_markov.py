"""Count models against plain dictionaries."""

import math
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genoseq
from genoseq.baselines import scoring
from genoseq.baselines.counts import DIRECT
from genoseq.baselines.markov import (
    HIGHEST,
    InterpolatedMarkov,
    MarkovModel,
    Seen,
    fit_all_orders,
    fit_interpolated,
    fit_markov,
)
from genoseq.baselines.scoring import Score, count, score_each
from genoseq.data.genome import read_genome
from genoseq.errors import UserError

COMPLEMENT = np.array([0, 3, 4, 1, 2], dtype=np.uint8)
BUNDLED = Path(genoseq.__file__).parent / "data" / "bundled" / "hpylori_G27.fa.gz"


@st.composite
def genomes(draw):
    """Letters with long repeats and some unknowns, intervals to learn from and intervals to predict."""
    motif = draw(st.lists(st.integers(1, 4), min_size=20, max_size=30))
    parts = draw(st.lists(st.one_of(st.just(motif), st.lists(st.integers(0, 4), max_size=25)), min_size=2, max_size=8))
    turned = COMPLEMENT[motif[::-1]].tolist()
    letters = [letter for part in parts for letter in part] + (turned if draw(st.booleans()) else motif)
    cuts = sorted(draw(st.lists(st.integers(0, len(letters)), min_size=2, max_size=8)))
    pairs = np.array(list(zip(cuts[::2], cuts[1::2], strict=False)), dtype=np.int64).reshape(-1, 2)
    # predicting what was learnt from, too, makes long contexts be found
    return np.array(letters, dtype=np.uint8), pairs, np.array([[0, len(letters)]]) if draw(st.booleans()) else pairs


def walk(codes, both=False):
    """Yield (known letters right before, the letter, its place) of one interval's known letters."""
    for letters in [codes.tolist(), COMPLEMENT[codes[::-1]].tolist()][: 1 + both]:
        for place, letter in enumerate(letters):
            back = place
            while back > max(0, place - HIGHEST) and letters[back - 1]:
                back -= 1
            if letter:
                yield tuple(letters[back:place]), letter, place


def counted(codes, intervals, both):
    """Return a dictionary: (context, letter) -> how often, contexts of every length 0 to 16."""
    found = Counter()
    for start, end in intervals.tolist():
        for context, letter, _ in walk(codes[start:end], both):
            found.update((context[len(context) - order :], letter) for order in range(len(context) + 1))
    return found


def asked(codes, intervals):
    """Return what is predicted, interval by interval: (context, letter, place in the genome)."""
    return [
        [(context, letter, start + place) for context, letter, place in walk(codes[start:end]) if place]
        for start, end in intervals.tolist()
    ]


def row(found, context, order):
    return [found[context[len(context) - order :], letter] if len(context) >= order else 0 for letter in (1, 2, 3, 4)]


def check_scores(model, codes, query, probability, times=None):
    """Check a model's score of each interval against the probabilities of a function from context to four numbers."""
    weight = None if times is None else lambda start, end: times[start:end]
    expected = []
    for cases in asked(codes, query):
        score = Score()
        for context, letter, place in cases:
            p, n = probability(context), 1 if times is None else times[place]
            score += Score(n, n * (np.float32(p).argmax() == letter - 1), -n * math.log2(p[letter - 1]))
        expected.append(score)
    for score, other in zip(score_each([model], codes, query, weight)[0], expected, strict=True):
        assert (score.bases, score.correct) == (other.bases, other.correct)
        assert score.bits == pytest.approx(other.bits, rel=1e-4, abs=1e-4)


def total(model, codes, intervals):
    return sum(score_each([model], codes, intervals)[0], Score())


@pytest.mark.parametrize("order", [0, 3, DIRECT, DIRECT + 2])
@settings(max_examples=25)
@given(genome=genomes(), chunk=st.integers(1, 200), seed=st.integers(0, 9))
def test_markov_model_is_the_smoothed_counts_of_the_given_strand(order, genome, chunk, seed):
    codes, train, query = genome
    found = counted(codes, train, both=False)
    times = np.random.default_rng(seed).integers(0, 4, len(codes))

    def probability(context):
        number = row(found, context, order if len(context) >= order else 0)
        return [(n + 0.25) / (sum(number) + 1.0) for n in number]

    with mock.patch.object(scoring, "CHUNK", chunk):
        markov = MarkovModel(codes, train, order, 0.25)
        check_scores(markov, codes, query, probability)
        check_scores(markov, codes, query, probability, times)


@settings(max_examples=40)
@given(genomes(), st.integers(1, 200))
def test_imm_is_the_recursion_over_both_strands(genome, chunk):
    codes, train, query = genome
    found = counted(codes, train, both=True)
    strengths = np.linspace(0.53, 9.17, HIGHEST + 1, dtype=np.float32)

    def probability(context):
        p = [0.25] * 4
        for order in range(len(context) + 1):
            number = row(found, context, order)
            s = float(strengths[order])
            p = [(n + s * q) / (sum(number) + s) for n, q in zip(number, p, strict=True)]
        return p

    with mock.patch.object(scoring, "CHUNK", chunk):
        imm = InterpolatedMarkov(codes, train, strengths)
        check_scores(imm, codes, query, probability)
        for some in count([imm]).along(codes, query, chunk, skip_first=True):
            sums = imm.probabilities(some, imm.orders).sum(axis=1)
            assert sums == pytest.approx(np.ones(len(sums)), abs=1e-5)


def random_codes(n, seed=0):
    return np.random.default_rng(seed).integers(1, 5, n).astype(np.uint8)


PARTS = np.array([[0, 12000]]), np.array([[12000, 16000]]), np.array([[16000, 20000]])


@pytest.fixture(scope="module")
def chain():
    """Letters that follow the two before them nine times in ten."""
    rng = np.random.default_rng(1)
    follow = rng.permutation(np.arange(16) % 4)
    digits = rng.integers(0, 4, 20000)
    for i in np.flatnonzero(rng.random(20000) < 0.9):
        if i >= 2:
            digits[i] = follow[4 * digits[i - 2] + digits[i - 1]]
    return (digits + 1).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted(chain):
    seen = Seen.of(chain, *PARTS[:2])
    return fit_markov(seen), fit_interpolated(seen)


def test_fitting_finds_the_order_and_comes_near_to_the_true_entropy(chain, fitted):
    markov, imm = fitted
    entropy = -sum(x * math.log2(x) for x in (0.925, 0.025, 0.025, 0.025))
    assert markov.order == 2
    score = total(markov, chain, PARTS[2])
    assert score.accuracy == pytest.approx(0.925, abs=0.015)
    assert score.bits_per_base == pytest.approx(entropy, abs=0.06)
    assert len(imm.strengths) == 17
    # the other strand of this made-up sequence follows another law, which costs the interpolated model a little
    assert entropy < total(imm, chain, PARTS[2]).bits_per_base < 0.65
    assert total(markov, random_codes(5000, seed=7), np.array([[0, 5000]])).bits_per_base > 2.5  # another genome
    models = fit_all_orders(Seen.of(chain, *PARTS[:2]))
    assert [model.order for model in models] == list(range(17))
    assert models[2].smoothing == markov.smoothing
    assert min(models, key=lambda model: total(model, chain, PARTS[1]).bits).order == 2
    assert total(models[1], chain, PARTS[2]).accuracy < 0.5


def test_nothing_is_found_in_random_letters_but_a_reverse_complement_by_the_interpolated_model():
    codes = random_codes(20000)
    train, val, test = PARTS
    for fit in (fit_markov, fit_interpolated):
        score = total(fit(Seen.of(codes, train, val)), codes, test)
        assert score.bits_per_base == pytest.approx(2.0, abs=0.01)
        assert score.accuracy == pytest.approx(0.25, abs=0.03)
    codes[12000:16000] = codes[16000:20000] = COMPLEMENT[codes[4000:8000][::-1]]
    markov, imm = (total(fit(Seen.of(codes, train, val)), codes, test) for fit in (fit_markov, fit_interpolated))
    assert markov.accuracy < 0.3
    assert imm.accuracy > 0.97 and imm.bits_per_base < 0.2


def test_first_bases_and_unknown_letters_are_not_scored():
    codes = np.array([1, 2, 0, 3, 4, 0, 1], dtype=np.uint8)
    scores = score_each([MarkovModel(codes, np.array([[0, 7]]), 1, 1.0)], codes, np.array([[0, 3], [3, 6], [6, 7]]))[0]
    assert [score.bases for score in scores] == [1, 1, 0]
    assert math.isnan(scores[2].accuracy) and math.isnan(scores[2].bits_per_base)


def test_large_parts_are_sampled_with_a_warning(chain, caplog, monkeypatch):
    markov = MarkovModel(chain, PARTS[0], 2, 1.0)
    assert total(markov, chain, PARTS[2]).bases == 3999
    assert not caplog.records
    # one piece of 1000 bases, less its first base; three of 4096, the middle one cut in two where the intervals meet
    for most, middle, scored in ((1000, 18000, [999, 0]), (3 * 4096, 9000, [4095 + 2333, 1761 + 4095])):
        monkeypatch.setattr(scoring, "MOST", most)
        low = 16000 if most == 1000 else 0
        some = score_each([markov], chain, np.array([[low, middle], [middle, 20000]]))[0]
        assert f"{most} evenly spread bases of {20000 - low}" in caplog.text
        assert [score.bases for score in some] == scored


@pytest.mark.parametrize(("train", "val"), [([[0, 100]], [[100, 101]]), ([[0, 100]], []), ([], [[0, 100]])])
def test_fitting_without_bases_is_a_users_mistake(train, val):
    with pytest.raises(UserError, match="longer genome"):
        Seen.of(random_codes(200), *(np.array(part, dtype=np.int64).reshape(-1, 2) for part in (train, val)))


def test_a_real_genome_gives_the_known_metrics():
    codes = read_genome([BUNDLED]).codes.numpy()
    n = len(codes)
    train, val, test = (np.array([[n * a // 20, n * b // 20]]) for a, b in ((0, 15), (15, 16), (16, 20)))
    for fit, metrics in ((fit_markov, (0.40831, 1.84141)), (fit_interpolated, (0.42596, 1.80632))):
        score = total(fit(Seen.of(codes, train, val)), codes, test)
        assert (score.accuracy, score.bits_per_base) == pytest.approx(metrics, abs=6e-6)
