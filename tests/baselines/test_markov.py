"""Tables and blends of counts against plain dictionaries."""

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
    Score,
    fit_all_orders,
    fit_interpolated,
    fit_markov,
)
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
        (position.digit, np.stack(list(counts.of(position.context, position.depth)), axis=1))
        for position in positions(codes, query, chunk, skip_first=True)
    ]
    assert [d + 1 for digit, _ in got for d in digit.tolist()] == [letter for _, letter in cases]
    numbers = [case for _, number in got for case in number.tolist()]
    for (context, _), number in zip(cases, numbers, strict=True):
        assert number == [row(found, context, order) for order in range(LONGEST + 1)]


@pytest.mark.parametrize("order", [0, 3, DIRECT, DIRECT + 2])
@settings(deadline=None, max_examples=25)
@given(genome=genomes(), block=sizes, chunk=sizes)
def test_table_is_the_smoothed_counts_of_the_given_strand(order, genome, block, chunk):
    codes, train, query = genome
    found = counted(codes, train, both=False)

    def probability(context):
        number = row(found, context, order if len(context) >= order else 0)
        return [(n + 0.25) / (sum(number) + 1.0) for n in number]

    table = MarkovModel(codes, train, order, 0.25, block)
    expected = [expected_score(cases, probability) for cases in asked(codes, query)]
    for score, other in zip(table.score_each(codes, query, chunk=chunk), expected, strict=True):
        same(score, other)
    same(table.score(codes, query, chunk=chunk), sum(expected, Score()))


@settings(deadline=None, max_examples=40)
@given(genomes(), sizes, sizes)
def test_blend_is_the_recursion_over_both_strands(genome, block, chunk):
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

    blend = InterpolatedMarkov(codes, train, strengths, block)
    cases = [case for interval in asked(codes, query) for case in interval]
    predictions = list(blend.predict(codes, query, chunk))
    got = [p for prediction in predictions for p in prediction.probabilities.tolist()]
    for (context, _), p in zip(cases, got, strict=True):
        assert p == pytest.approx(probability(context), rel=1e-4)
        assert sum(p) == pytest.approx(1.0, abs=1e-5)
    bits = -sum(math.log2(probability(context)[letter - 1]) for context, letter in cases)
    assert blend.score(codes, query, chunk=chunk).bits == pytest.approx(bits, rel=1e-4, abs=1e-4)


def test_table_probabilities_sum_to_one():
    codes = random_codes(3000, unknown=0.02)
    table = MarkovModel(codes, np.array([[0, 2000]]), 4, 0.015625)
    for prediction in table.predict(codes, np.array([[1500, 3000]]), chunk=64):
        assert (prediction.probabilities > 0).all()
        np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1.0, atol=1e-5)


def random_codes(n, seed=0, unknown=0.0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(1, 5, n).astype(np.uint8)
    codes[rng.random(n) < unknown] = 0
    return codes


def chain_of_order_two(n):
    """Letters that follow the two before them nine times in ten."""
    rng = np.random.default_rng(1)
    follow = rng.permutation(np.arange(16) % 4)
    digits = rng.integers(0, 4, n)
    for i in np.flatnonzero(rng.random(n) < 0.9):
        if i >= 2:
            digits[i] = follow[4 * digits[i - 2] + digits[i - 1]]
    return (digits + 1).astype(np.uint8)


PARTS = np.array([[0, 12000]]), np.array([[12000, 16000]]), np.array([[16000, 20000]])


def test_fitting_finds_the_order_and_comes_near_to_the_true_entropy():
    codes = chain_of_order_two(20000)
    train, val, test = PARTS
    table, blend = fit_markov(codes, train, val), fit_interpolated(codes, train, val)
    p = 0.925, 0.025, 0.025, 0.025
    entropy = -sum(x * math.log2(x) for x in p)
    assert table.order == 2
    score = table.score(codes, test)
    assert score.accuracy == pytest.approx(0.925, abs=0.015)
    assert score.bits_per_base == pytest.approx(entropy, abs=0.06)
    assert len(blend.strengths) == 17
    # The other strand of this made-up sequence follows another law, which costs the blend a little.
    assert entropy < blend.score(codes, test).bits_per_base < 0.65


def test_nothing_is_found_in_random_letters():
    codes = random_codes(20000)
    train, val, test = PARTS
    for fitted in (fit_markov(codes, train, val), fit_interpolated(codes, train, val)):
        score = fitted.score(codes, test)
        assert score.bits_per_base == pytest.approx(2.0, abs=0.01)
        assert score.accuracy == pytest.approx(0.25, abs=0.03)


def test_blend_finds_a_copy_and_a_reverse_complement_that_the_table_misses():
    codes = random_codes(20000)
    back = np.array([COMPLEMENT[x] for x in range(5)], dtype=np.uint8)
    for part in (slice(12000, 16000), slice(16000, 20000)):
        codes[part] = back[codes[4000:8000][::-1]]
    train, val, test = PARTS
    table, blend = fit_markov(codes, train, val), fit_interpolated(codes, train, val)
    assert table.score(codes, test).accuracy < 0.3
    assert blend.score(codes, test).accuracy > 0.97
    assert blend.score(codes, test).bits_per_base < 0.2


def test_a_fitted_model_scores_another_genome():
    train, val, _ = PARTS
    table = fit_markov(chain_of_order_two(20000), train, val)
    assert table.score(random_codes(5000, seed=7), np.array([[0, 5000]])).bits_per_base > 2.5
    assert table.score(chain_of_order_two(20000)[16000:], np.array([[0, 4000]])).bits_per_base < 0.7


def test_first_bases_and_unknown_letters_are_not_scored():
    codes = np.array([1, 2, 0, 3, 4, 0, 1], dtype=np.uint8)
    table = MarkovModel(codes, np.array([[0, 7]]), 1, 1.0)
    scores = table.score_each(codes, np.array([[0, 3], [3, 6], [6, 7]]))
    assert [score.bases for score in scores] == [1, 1, 0]
    assert math.isnan(scores[2].accuracy)
    assert math.isnan(scores[2].bits_per_base)


def test_large_parts_are_sampled_and_it_is_said(caplog):
    codes = chain_of_order_two(20000)
    train, _, test = PARTS
    table = MarkovModel(codes, train, 2, 1.0)
    everything = table.score(codes, test)
    assert not caplog.records
    assert everything.bases == 3999
    some = table.score_each(codes, np.array([[16000, 18000], [18000, 20000]]), max_bases=1000)
    assert "1000 evenly spread bases of 4000" in caplog.text
    # One piece of 1000 bases, less its first base.
    assert [score.bases for score in some] == [999, 0]
    # Three pieces of 4096; the middle one is cut in two where the intervals meet. Each loses its first base.
    some = table.score_each(codes, np.array([[0, 9000], [9000, 20000]]), max_bases=3 * 4096)
    assert [score.bases for score in some] == [4095 + 2333, 1761 + 4095]


def test_scores_add_up():
    score = Score(4, 1, 8.0) + Score(6, 4, 2.0)
    assert score == Score(10, 5, 10.0)
    assert (score.accuracy, score.bits_per_base) == (0.5, 1.0)


@pytest.mark.parametrize("fit", [fit_markov, fit_interpolated])
@pytest.mark.parametrize(("train", "val"), [([[0, 100]], [[100, 101]]), ([[0, 100]], []), ([], [[0, 100]])])
def test_fitting_without_bases_is_a_users_mistake(fit, train, val):
    codes = random_codes(200)
    with pytest.raises(UserError, match="longer genome"):
        fit(codes, np.array(train, dtype=np.int64).reshape(-1, 2), np.array(val, dtype=np.int64).reshape(-1, 2))


def test_fits_are_the_same_every_time_and_whatever_the_block():
    codes = chain_of_order_two(20000)
    train, val, _ = PARTS
    first, second = fit_interpolated(codes, train, val), fit_interpolated(codes, train, val, block=777)
    assert first.strengths.tolist() == second.strengths.tolist()
    one, two = fit_markov(codes, train, val), fit_markov(codes, train, val, block=777)
    assert (one.order, one.smoothing) == (two.order, two.smoothing)


@pytest.fixture(scope="module")
def bundled():
    if not BUNDLED.exists():
        pytest.skip("the bundled genome is not there")
    lookup = np.zeros(256, dtype=np.uint8)
    lookup[list(b"ACTG")] = 1, 2, 3, 4
    text = gzip.decompress(BUNDLED.read_bytes()).split(b"\n", 1)[1].replace(b"\n", b"")
    return lookup[np.frombuffer(text, dtype=np.uint8)]


def test_real_genome_beats_chance_in_an_excerpt(bundled):
    codes = bundled[:200_000]
    train, val, test = np.array([[0, 140_000]]), np.array([[140_000, 160_000]]), np.array([[160_000, 200_000]])
    assert len(codes) == 200_000
    scores = [fit(codes, train, val).score(codes, test) for fit in (fit_markov, fit_interpolated)]
    for score in scores:
        assert score.accuracy > 0.37
        assert score.bits_per_base < 1.91
    assert scores[1].bits_per_base < scores[0].bits_per_base


@pytest.mark.slow
def test_whole_real_genome_gives_the_known_figures(bundled):
    n = len(bundled)
    end, begin = n * 4 // 5, n * 3 // 4
    train, val, test = np.array([[0, begin]]), np.array([[begin, end]]), np.array([[end, n]])
    table = fit_markov(bundled, train, val).score(bundled, test)
    blend = fit_interpolated(bundled, train, val).score(bundled, test)
    assert (table.accuracy, table.bits_per_base) == (pytest.approx(0.408, abs=0.002), pytest.approx(1.841, abs=0.003))
    assert (blend.accuracy, blend.bits_per_base) == (pytest.approx(0.426, abs=0.002), pytest.approx(1.806, abs=0.003))


def test_tables_of_every_order_hold_the_best_one():
    codes = chain_of_order_two(20000)
    train, val, test = PARTS
    tables = fit_all_orders(codes, train, val)
    assert [table.order for table in tables] == list(range(17))
    best = fit_markov(codes, train, val)
    assert tables[best.order].smoothing == best.smoothing
    assert best.order == min(tables, key=lambda table: table.score(codes, val).bits).order
    assert tables[2].score(codes, test).accuracy > 0.9 > 0.5 > tables[1].score(codes, test).accuracy


@settings(deadline=None, max_examples=40)
@given(genomes(), sizes, st.integers(0, 9))
def test_bases_count_as_often_as_their_weight(genome, chunk, seed):
    codes, train, query = genome
    times = np.random.default_rng(seed).integers(0, 4, len(codes))
    table = MarkovModel(codes, train, 3, 0.5)
    bases = correct = bits = 0.0
    for p, digit, place in zip(
        [p for part in table.predict(codes, query) for p in part.probabilities.tolist()],
        [d for part in table.predict(codes, query) for d in part.digit.tolist()],
        [i for start, end in query.tolist() for i in range(start + 1, end) if codes[i]],
        strict=True,
    ):
        bases += times[place]
        correct += times[place] * (int(np.argmax(p)) == digit)
        bits -= times[place] * math.log2(p[digit])
    score = table.score(codes, query, chunk=chunk, weight=lambda start, end: times[start:end])
    same(score, Score(int(bases), int(correct), bits))
