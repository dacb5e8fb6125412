"""Count models against plain dictionaries."""

import gzip
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genoseq
from genoseq.baselines.counts import DIRECT, LONGEST, Counts, positions
from genoseq.baselines.markov import (
    InterpolatedMarkov,
    MarkovModel,
    fit_all_orders,
    fit_interpolated,
    fit_markov,
)
from genoseq.baselines.scoring import Score
from genoseq.errors import UserError

COMPLEMENT = {0: 0, 1: 3, 3: 1, 2: 4, 4: 2}
BUNDLED = Path(genoseq.__file__).parent / "data" / "bundled" / "hpylori_G27.fa.gz"


@st.composite
def genomes(draw):
    """Letters with long repeats and some unknowns, intervals to learn from and intervals to predict."""
    motif = draw(st.lists(st.integers(1, 4), min_size=20, max_size=30))
    parts = draw(st.lists(st.one_of(st.just(motif), st.lists(st.integers(0, 4), max_size=25)), min_size=2, max_size=8))
    turned = [COMPLEMENT[x] for x in reversed(motif)]
    letters = [letter for part in parts for letter in part] + (turned if draw(st.booleans()) else motif)
    cuts = sorted(draw(st.lists(st.integers(0, len(letters)), min_size=2, max_size=8)))
    pairs = np.array(list(zip(cuts[::2], cuts[1::2], strict=False)), dtype=np.int64).reshape(-1, 2)
    # Predicting what was learnt from, too, makes long contexts be found.
    return np.array(letters, dtype=np.uint8), pairs, np.array([[0, len(letters)]]) if draw(st.booleans()) else pairs


def walk(letters):
    """Pairs (known letters right before, the letter, whether it is the first) of one interval's known letters."""
    for place, letter in enumerate(letters):
        back = place
        while back > max(0, place - LONGEST) and letters[back - 1]:
            back -= 1
        if letter:
            yield tuple(letters[back:place]), letter, place == 0


def counted(codes, intervals, both):
    """Dictionary: (context, letter) -> how often, contexts of every length 0 to 16."""
    found = Counter()
    for start, end in intervals.tolist():
        strand = codes[start:end].tolist()
        for letters in [strand, [COMPLEMENT[x] for x in reversed(strand)]][: 1 + both]:
            for context, letter, _ in walk(letters):
                for order in range(len(context) + 1):
                    found[context[len(context) - order :], letter] += 1
    return found


def asked(codes, intervals):
    """What is predicted: (context, letter), interval by interval."""
    return [
        [(context, letter) for context, letter, first in walk(codes[start:end].tolist()) if not first]
        for start, end in intervals.tolist()
    ]


def row(found, context, order):
    return [found[context[len(context) - order :], letter] if len(context) >= order else 0 for letter in (1, 2, 3, 4)]


def expected_score(cases, probability):
    bits = -sum(math.log2(probability(context)[letter - 1]) for context, letter in cases)
    correct = sum(max(range(4), key=probability(context).__getitem__) == letter - 1 for context, letter in cases)
    return Score(len(cases), correct, bits)


def same(score, other):
    assert (score.bases, score.correct) == (other.bases, other.correct)
    assert score.bits == pytest.approx(other.bits, rel=1e-5, abs=1e-5)


sizes = st.integers(1, 200)


@settings(deadline=None, max_examples=60)
@given(genomes(), st.booleans(), sizes, sizes)
def test_counts_are_those_of_a_dictionary(genome, both, block, chunk):
    codes, train, query = genome
    found = counted(codes, train, both)
    cases = [case for interval in asked(codes, query) for case in interval]
    counts = Counts(codes, train, range(LONGEST + 1), both, block)
    got = [
        (position.digit, np.stack(list(counts.after(position.context, position.depth)), axis=1))
        for position in positions(codes, query, chunk, skip_first=True)
    ]
    assert [d + 1 for digit, _ in got for d in digit.tolist()] == [letter for _, letter in cases]
    numbers = [case for _, number in got for case in number.tolist()]
    for (context, _), number in zip(cases, numbers, strict=True):
        assert number == [row(found, context, order) for order in range(LONGEST + 1)]


@pytest.mark.parametrize("order", [0, 3, DIRECT, DIRECT + 2])
@settings(deadline=None, max_examples=25)
@given(genome=genomes(), block=sizes, chunk=sizes)
def test_markov_model_is_the_smoothed_counts_of_the_given_strand(order, genome, block, chunk):
    codes, train, query = genome
    found = counted(codes, train, both=False)

    def probability(context):
        number = row(found, context, order if len(context) >= order else 0)
        return [(n + 0.25) / (sum(number) + 1.0) for n in number]

    markov = MarkovModel(codes, train, order, 0.25, block)
    expected = [expected_score(cases, probability) for cases in asked(codes, query)]
    for score, other in zip(markov.score_each(codes, query, chunk=chunk), expected, strict=True):
        same(score, other)
    same(markov.score(codes, query, chunk=chunk), sum(expected, Score()))


@settings(deadline=None, max_examples=40)
@given(genomes(), sizes, sizes)
def test_imm_is_the_recursion_over_both_strands(genome, block, chunk):
    codes, train, query = genome
    found = counted(codes, train, both=True)
    strengths = np.linspace(0.5, 9.0, LONGEST + 1, dtype=np.float32)

    def probability(context):
        p = [0.25] * 4
        for order in range(len(context) + 1):
            number = row(found, context, order)
            s = float(strengths[order])
            p = [(n + s * q) / (sum(number) + s) for n, q in zip(number, p, strict=True)]
        return p

    imm = InterpolatedMarkov(codes, train, strengths, block)
    cases = [case for interval in asked(codes, query) for case in interval]
    got = [p for probabilities, _, _ in imm.predict(codes, query, chunk) for p in probabilities.tolist()]
    for (context, _), p in zip(cases, got, strict=True):
        assert p == pytest.approx(probability(context), rel=1e-4)
        assert sum(p) == pytest.approx(1.0, abs=1e-5)
    bits = -sum(math.log2(probability(context)[letter - 1]) for context, letter in cases)
    assert imm.score(codes, query, chunk=chunk).bits == pytest.approx(bits, rel=1e-4, abs=1e-4)


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
    return fit_markov(chain, *PARTS[:2]), fit_interpolated(chain, *PARTS[:2])


def test_fitting_finds_the_order_and_comes_near_to_the_true_entropy(chain, fitted):
    markov, imm = fitted
    entropy = -sum(x * math.log2(x) for x in (0.925, 0.025, 0.025, 0.025))
    assert markov.order == 2
    score = markov.score(chain, PARTS[2])
    assert score.accuracy == pytest.approx(0.925, abs=0.015)
    assert score.bits_per_base == pytest.approx(entropy, abs=0.06)
    assert len(imm.strengths) == 17
    # the other strand of this made-up sequence follows another law, which costs the interpolated model a little
    assert entropy < imm.score(chain, PARTS[2]).bits_per_base < 0.65
    assert markov.score(random_codes(5000, seed=7), np.array([[0, 5000]])).bits_per_base > 2.5  # another genome


def test_models_of_every_order_hold_the_best_one(chain, fitted):
    train, val, test = PARTS
    models = fit_all_orders(chain, train, val)
    assert [model.order for model in models] == list(range(17))
    best = fitted[0]
    assert models[best.order].smoothing == best.smoothing
    assert best.order == min(models, key=lambda model: model.score(chain, val).bits).order
    assert models[2].score(chain, test).accuracy > 0.9 > 0.5 > models[1].score(chain, test).accuracy


def test_fits_are_the_same_whatever_the_block(chain, fitted):
    markov, imm = (fit(chain, *PARTS[:2], block=777) for fit in (fit_markov, fit_interpolated))
    assert (markov.order, markov.smoothing) == (fitted[0].order, fitted[0].smoothing)
    assert imm.strengths.tolist() == fitted[1].strengths.tolist()


def test_nothing_is_found_in_random_letters_but_a_reverse_complement_by_the_interpolated_model():
    codes = random_codes(20000)
    train, val, test = PARTS
    for fit in (fit_markov, fit_interpolated):
        score = fit(codes, train, val).score(codes, test)
        assert score.bits_per_base == pytest.approx(2.0, abs=0.01)
        assert score.accuracy == pytest.approx(0.25, abs=0.03)
    back = np.array([COMPLEMENT[x] for x in range(5)], dtype=np.uint8)
    for part in (slice(12000, 16000), slice(16000, 20000)):
        codes[part] = back[codes[4000:8000][::-1]]
    markov, imm = (fit(codes, train, val).score(codes, test) for fit in (fit_markov, fit_interpolated))
    assert markov.accuracy < 0.3
    assert imm.accuracy > 0.97 and imm.bits_per_base < 0.2


def test_first_bases_and_unknown_letters_are_not_scored():
    codes = np.array([1, 2, 0, 3, 4, 0, 1], dtype=np.uint8)
    scores = MarkovModel(codes, np.array([[0, 7]]), 1, 1.0).score_each(codes, np.array([[0, 3], [3, 6], [6, 7]]))
    assert [score.bases for score in scores] == [1, 1, 0]
    assert math.isnan(scores[2].accuracy) and math.isnan(scores[2].bits_per_base)


def test_large_parts_are_sampled_with_a_warning(chain, caplog):
    train, _, test = PARTS
    markov = MarkovModel(chain, train, 2, 1.0)
    assert markov.score(chain, test).bases == 3999
    assert not caplog.records
    some = markov.score_each(chain, np.array([[16000, 18000], [18000, 20000]]), max_bases=1000)
    assert "1000 evenly spread bases of 4000" in caplog.text
    # one piece of 1000 bases, less its first base
    assert [score.bases for score in some] == [999, 0]
    # three pieces of 4096; the middle one is cut in two where the intervals meet, and each loses its first base
    some = markov.score_each(chain, np.array([[0, 9000], [9000, 20000]]), max_bases=3 * 4096)
    assert [score.bases for score in some] == [4095 + 2333, 1761 + 4095]


@settings(deadline=None, max_examples=40)
@given(genomes(), sizes, st.integers(0, 9))
def test_bases_count_as_often_as_their_weight(genome, chunk, seed):
    codes, train, query = genome
    times = np.random.default_rng(seed).integers(0, 4, len(codes))
    markov = MarkovModel(codes, train, 3, 0.5)
    bases = correct = bits = 0.0
    predicted = [(p, d) for ps, ds, _ in markov.predict(codes, query) for p, d in zip(ps, ds.tolist(), strict=True)]
    places = [i for start, end in query.tolist() for i in range(start + 1, end) if codes[i]]
    for (p, digit), place in zip(predicted, places, strict=True):
        bases += times[place]
        correct += times[place] * (int(np.argmax(p)) == digit)
        bits -= times[place] * math.log2(p[digit])
    score = markov.score(codes, query, chunk=chunk, weight=lambda start, end: times[start:end])
    same(score, Score(int(bases), int(correct), bits))


@pytest.mark.parametrize("fit", [fit_markov, fit_interpolated])
@pytest.mark.parametrize(("train", "val"), [([[0, 100]], [[100, 101]]), ([[0, 100]], []), ([], [[0, 100]])])
def test_fitting_without_bases_is_a_users_mistake(fit, train, val):
    with pytest.raises(UserError, match="longer genome"):
        fit(random_codes(200), *(np.array(part, dtype=np.int64).reshape(-1, 2) for part in (train, val)))


def test_a_real_genome_gives_the_known_metrics():
    lookup = np.zeros(256, dtype=np.uint8)
    lookup[list(b"ACTG")] = 1, 2, 3, 4
    text = gzip.decompress(BUNDLED.read_bytes()).split(b"\n", 1)[1].replace(b"\n", b"")
    codes, n = lookup[np.frombuffer(text, dtype=np.uint8)], len(text)
    train, val, test = (np.array([[n * a // 20, n * b // 20]]) for a, b in ((0, 15), (15, 16), (16, 20)))
    for fit, metrics in ((fit_markov, (0.40831, 1.84141)), (fit_interpolated, (0.42596, 1.80632))):
        score = fit(codes, train, val).score(codes, test)
        assert (score.accuracy, score.bits_per_base) == pytest.approx(metrics, abs=6e-6)
