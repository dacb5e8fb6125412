from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genoseq.data.intervals import as_intervals
from genoseq.data.sampler import WindowIndex, WindowSampler, carry_streams, fitting_chain, window_streams
from genoseq.data.split import ContiguousSplit, Parts, RandomWindowsSplit
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.errors import UserError

CHAR = CharTokenizer().vocabulary
TRAIN = as_intervals([(3, 60), (70, 75), (80, 200)])


def make(train=TRAIN, vocabulary=CHAR, seq_len=7, batch_size=4, seed=0, **kwargs) -> WindowSampler:
    nothing = as_intervals([])
    return WindowSampler(Parts(train, nothing, nothing), vocabulary, seq_len, batch_size, seed, **kwargs)


def windows_in(intervals, span: int) -> list[int]:
    return [s for a, b in intervals.tolist() for s in range(a, b - span + 1)]


@given(span=st.integers(1, 130))
def test_window_index_numbers_every_window_in_order(span):
    index = WindowIndex(TRAIN, span)
    expected = windows_in(TRAIN, span)
    assert len(index) == len(expected)
    assert index.start(np.arange(len(index))).tolist() == expected


def test_a_batch_is_a_function_of_seed_step_and_rank():
    forward = [make().batch(step) for step in range(30)]
    backward = [make().batch(step) for step in reversed(range(30))][::-1]  # a fresh sampler, another order
    for (a, f), (b, g) in zip(forward, backward, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(f, g)
    starts = np.stack([a for a, _ in forward])
    for other in (make(seed=1), make(rank=1, world_size=2)):
        assert not np.array_equal(starts, np.stack([other.batch(step)[0] for step in range(30)]))


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), batch_size=st.integers(5, 9), seq_len=st.integers(1, 50))
def test_every_window_comes_once_a_pass(seed, batch_size, seq_len):
    sampler = make(seq_len=seq_len, batch_size=batch_size, seed=seed)
    expected = windows_in(TRAIN, seq_len + 1)
    n = len(expected)
    drawn = np.concatenate([sampler.batch(step)[0] for step in range(-(-2 * n // batch_size))])
    first, second = drawn[:n], drawn[n : 2 * n]
    assert sorted(first.tolist()) == sorted(second.tolist()) == expected  # so none crosses an interval's edge either
    if n > 20:
        assert first.tolist() != second.tolist() != expected


@given(world=st.integers(1, 4), batch_size=st.integers(1, 5), chain=st.integers(1, 3), seed=st.integers(0, 99))
def test_ranks_together_are_one_process_with_a_larger_batch(world, batch_size, chain, seed):
    def shared(**kwargs):
        return make(seed=seed, chain=chain, **kwargs)

    ranks = [shared(batch_size=batch_size, rank=rank, world_size=world) for rank in range(world)]
    one = shared(batch_size=batch_size * world)
    for step in range(12):
        parts = [rank.batch(step) for rank in ranks]
        starts, flip = one.batch(step)
        assert np.array_equal(np.concatenate([a for a, _ in parts]), starts)
        assert np.array_equal(np.concatenate([f for _, f in parts]), flip)


def test_half_of_the_windows_are_read_on_the_other_strand():
    flips = np.concatenate([make(batch_size=500).batch(step)[1] for step in range(20)])
    assert 0.47 < flips.mean() < 0.53
    # a window's strand is drawn anew at every pass
    n = len(windows_in(TRAIN, 8))
    sampler = make(batch_size=n)
    strands = [dict(zip(*map(np.ndarray.tolist, sampler.batch(step)), strict=True)) for step in range(2)]
    assert 0.3 < np.mean([strands[0][s] == strands[1][s] for s in strands[0]]) < 0.7
    assert not make(batch_size=500, reverse_complement=False).batch(0)[1].any()


@given(
    chain=st.integers(2, 5),
    seq_len=st.integers(1, 6),
    k=st.integers(1, 3),
    stride=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_links_of_a_chain_touch_inside_one_interval(chain, seq_len, k, stride, seed):
    vocabulary = KmerTokenizer(k, stride).vocabulary
    sampler = make(vocabulary=vocabulary, seq_len=seq_len, batch_size=16, seed=seed, chain=chain)
    offset = np.arange(seq_len + 1) * stride
    for stretch in range(3):
        visited = []  # positions, in reading order, of each link's seq_len + 1 tokens
        strands = []
        for link in range(chain):
            starts, flip = sampler.batch(stretch * chain + link)
            visited.append(starts[:, None] + np.where(flip[:, None], offset[::-1], offset))
            strands.append(flip)
        assert all(np.array_equal(strands[0], other) for other in strands)
        for a, b in pairwise(visited):
            assert np.array_equal(a[:, -1], b[:, 0])  # a link's last target is the next link's first input
        whole = np.concatenate([visited[0], *(v[:, 1:] for v in visited[1:])], axis=1)
        step = np.where(strands[0], -stride, stride)[:, None]
        assert (np.diff(whole, axis=1) == step).all()  # one unbroken reading, in one direction
        for row in whole:
            assert any(a <= row.min() and row.max() + k <= b for a, b in TRAIN.tolist())


@given(
    lengths=st.lists(st.integers(13, 400), min_size=1, max_size=8),
    chain=st.integers(1, 40),
    k=st.integers(1, 3),
    stride=st.integers(1, 3),
)
def test_a_fitting_chain_leaves_little_of_the_training_part_out(lengths, chain, k, stride):
    vocabulary, edges = KmerTokenizer(k, stride).vocabulary, np.cumsum([0, *lengths])
    train = as_intervals(list(pairwise(edges.tolist())))
    nothing = as_intervals([])

    def drawn(windows: int) -> float:  # share of the training bases in intervals that hold so many windows on end
        return sum(n for n in lengths if n >= windows * 5 * stride + k) / sum(lengths)

    fits = fitting_chain(Parts(train, nothing, nothing), vocabulary, seq_len=5, chain=chain)
    longest = max([c for c in range(1, chain + 1) if drawn(c) >= 0.95], default=1)
    assert 0.75 * longest - 1 < fits <= longest
    if drawn(chain) >= 0.95:
        assert fits == chain


def test_random_windows_have_no_chain():
    leaking = Parts(TRAIN, TRAIN, TRAIN, hash_key=(0, 2), shares=(0.1, 0.2))
    assert fitting_chain(leaking, CHAR, 5, chain=4) == 1


def predictions(intervals, k: int, stride: int) -> list[int]:
    """Return the position of every token that has one before it, a stride back, in the same interval."""
    return [p for a, b in intervals.tolist() for p in range(a + stride, b - k + 1, stride)]


def interval_lists(size: int = 400):
    edges = st.sets(st.integers(0, size), min_size=2, max_size=9).map(sorted)
    return edges.map(lambda e: as_intervals(list(zip(e[::2], e[1::2], strict=False))))


@given(
    intervals=interval_lists(),
    k=st.integers(1, 5),
    stride=st.integers(1, 4),
    rows=st.integers(1, 12),
    warmup=st.integers(0, 40),
    piece=st.integers(1, 60),
)
def test_carried_streams_score_each_prediction_once(intervals, k, stride, rows, warmup, piece):
    streams = carry_streams(intervals, k, stride, rows, warmup, piece)
    scored = []
    for start, warm, count in zip(
        streams.start.tolist(), streams.warmup.tolist(), streams.scored.tolist(), strict=True
    ):
        assert count > 0
        inside = [(a, b) for a, b in intervals.tolist() if a <= start < b]
        (a, b) = inside[0]
        assert start + (warm + count) * stride + k <= b  # the last token is whole, in the interval of the first
        first = start + warm * stride  # the last token that only warms up
        assert warm == min(warmup, (first - a) // stride)  # as much warm-up as asked for and available
        scored += [start + (warm + i + 1) * stride for i in range(count)]
    assert sorted(scored) == predictions(intervals, k, stride)
    total = len(scored)
    assert len(streams) <= rows + len(intervals)
    assert all(count <= max(piece, -(-total // rows)) for count in streams.scored)


def test_carried_streams_of_one_interval_end_together():
    streams = carry_streams(as_intervals([(0, 10_001)]), 1, 1, rows=8, warmup=50, piece=100)
    assert streams.scored.tolist() == [1250] * 8
    assert streams.warmup.tolist() == [0] + [50] * 7
    assert streams.start.tolist() == [0] + [1250 * i - 50 for i in range(1, 8)]
    assert len(carry_streams(as_intervals([(0, 10_001)]), 1, 1, rows=64, warmup=50)) == 3  # 4096 at least are a stream


@given(intervals=interval_lists(), seq_len=st.integers(1, 20), limit=st.integers(1, 30))
def test_separate_windows_are_disjoint_and_limited(intervals, seq_len, limit):
    parts = Parts(intervals, intervals, intervals)
    span = seq_len + 1
    streams = window_streams(parts, "test", span, seq_len, limit, seed=0)
    tiles = sum((b - a) // span for a, b in intervals.tolist())
    assert len(streams) == min(tiles, limit)
    assert (np.diff(streams.start) >= span).all()
    assert (streams.warmup == 0).all()
    assert (streams.scored == seq_len).all()
    for start in streams.start.tolist():
        assert any(a <= start and start + span <= b for a, b in intervals.tolist())


def test_limited_windows_reach_both_ends():
    starts = window_streams(Parts(*[as_intervals([(0, 1000)])] * 3), "val", 10, 9, 5, seed=0).start
    assert starts[0] == 0
    assert starts[-1] == 990


def test_random_windows_draw_only_their_stage(make_genome, letters):
    genome = make_genome(letters(600))
    parts = RandomWindowsSplit(0.2, 0.1)(genome, 11, seed=2)
    sampler = WindowSampler(parts, CHAR, 10, 32, seed=2)
    drawn = np.concatenate([sampler.batch(step)[0] for step in range(60)])
    everything = np.arange(600 - 11 + 1)
    allowed = {stage: set(everything[parts.accepts(stage, everything)].tolist()) for stage in ("train", "val", "test")}
    assert set(drawn.tolist()) == allowed["train"]  # three passes: all of them, and no other
    for stage in ("val", "test"):
        starts = window_streams(parts, stage, 11, 10, limit=400, seed=2).start
        assert len(starts) == 400
        assert set(starts.tolist()) <= allowed[stage]
        assert len(set(starts.tolist())) > len(allowed[stage]) * 0.9
    assert np.array_equal(drawn[:32], WindowSampler(parts, CHAR, 10, 32, seed=2).batch(0)[0])


def test_random_windows_find_a_very_small_part(make_genome, letters):
    parts = RandomWindowsSplit(0.2, 0.0005)(make_genome(letters(40_000)), 11, seed=0)
    starts = window_streams(parts, "val", 11, 10, limit=500, seed=0).start
    assert len(starts) == 500
    assert parts.accepts("val", starts).all()


def test_a_part_without_any_window_is_named(make_genome, letters):
    genome = make_genome(letters(13))  # three windows
    parts = next(
        p for seed in range(50) if not (p := RandomWindowsSplit()(genome, 11, seed)).accepts("val", np.arange(3)).any()
    )
    with pytest.raises(UserError, match="none of the 3 windows falls to the val part"):
        window_streams(parts, "val", 11, 10, limit=10, seed=0)


def test_training_windows_stay_out_of_the_other_parts(make_genome, letters):
    genome = make_genome({"a": letters(700), "b": letters(500, 1)})
    parts = ContiguousSplit()(genome, 12, seed=0)
    sampler = WindowSampler(parts, KmerTokenizer(2).vocabulary, 10, 64, seed=0)
    read = np.zeros(1200, dtype=bool)
    for step in range(40):
        starts, _ = sampler.batch(step)
        read[starts[:, None] + np.arange(12)] = True
        assert not ((starts < 700) & (starts + 12 > 700)).any()
    for a, b in [*parts.val.tolist(), *parts.test.tolist()]:
        assert not read[a:b].any()
    for a, b in parts.train.tolist():
        assert read[a:b].mean() > 0.99
