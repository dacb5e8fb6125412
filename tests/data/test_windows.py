"""Start positions and the tokens at them: training windows, evaluation streams, and the gather."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genoseq.data.blocks import Blocks
from genoseq.data.intervals import as_intervals
from genoseq.data.split import STAGES, Parts, RandomWindowsSplit
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.data.windows import (
    Batch,
    Gather,
    StreamChunks,
    Streams,
    TrainingWindows,
    fit_windows_per_segment,
    interval_streams,
    window_streams,
)
from genoseq.errors import UserError

CHAR = CharTokenizer().vocabulary
TRAIN = as_intervals([(3, 60), (70, 75), (80, 200)])


def sampler_for(train=TRAIN, vocabulary=CHAR, seq_len=7, batch_size=4, seed=0, **kwargs) -> TrainingWindows:
    nothing = as_intervals([])
    return TrainingWindows(Parts(train, nothing, nothing), vocabulary, seq_len, batch_size, seed, **kwargs)


def drawn(sampler: TrainingWindows, steps) -> np.ndarray:
    """Return the starts of the steps, one after another."""
    return np.concatenate([sampler[step].starts.numpy() for step in steps])


def windows_in(intervals, span: int) -> list[int]:
    return [s for a, b in intervals.tolist() for s in range(a, b - span + 1)]


def interval_lists(size: int = 400):
    edges = st.sets(st.integers(0, size), min_size=2, max_size=9).map(sorted)
    return edges.map(lambda e: as_intervals(list(zip(e[::2], e[1::2], strict=False))))


# ---- the gather -----------------------------------------------------------------------------------------------------


def gather_for(tokenizer, codes) -> Gather:
    return Gather(tokenizer.encode(codes), tokenizer.reverse_complement(), tokenizer.vocabulary.stride)


@given(
    text=st.text(alphabet="ACGTN", min_size=30, max_size=60),
    k=st.integers(0, 4),
    stride=st.integers(1, 4),
    length=st.integers(1, 5),
    at=st.data(),
)
def test_rows_are_the_tokens_of_their_bases_on_either_strand(
    make_genome, reverse_complement, text, k, stride, length, at
):
    stride = max(min(stride, k), 1)
    tokenizer = KmerTokenizer(k, stride) if k else CharTokenizer()
    k = max(k, 1)
    span = length * stride + k
    starts = at.draw(st.lists(st.integers(0, len(text) - span), min_size=1, max_size=6))
    flip = at.draw(st.lists(st.booleans(), min_size=len(starts), max_size=len(starts)))
    gather = gather_for(tokenizer, make_genome(text).codes)
    tokens = gather(Batch(torch.tensor(starts), length, flip=torch.tensor(flip)))
    assert tokens.dtype == torch.int64
    assert tokens.shape == (len(starts), length + 1)
    for row, start, reverse in zip(tokens, starts, flip, strict=True):
        bases = text[start : start + span]
        read = reverse_complement(bases) if reverse else bases
        assert row.tolist() == tokenizer.encode(make_genome(read).codes)[: span - k + 1 : stride].tolist()
    forward = torch.zeros(len(starts), dtype=torch.bool)
    assert torch.equal(
        gather(Batch(torch.tensor(starts), length)), gather(Batch(torch.tensor(starts), length, forward))
    )


def test_a_stream_may_be_read_past_the_genomes_end(make_genome):
    gather = gather_for(CharTokenizer(), make_genome("ACTG").codes)
    assert gather(Batch(torch.tensor([2, 9]), 3, block=torch.zeros(2, 3))).tolist() == [[3, 4, 4, 4], [4, 4, 4, 4]]


def test_moving_a_batch_moves_every_tensor():
    bits, ids = torch.ones(2, dtype=torch.bool), torch.tensor([1, 2])
    batch = Batch(ids, 5, bits, 7, bits[:, None], ids, True, ids).to("meta")
    assert all(getattr(batch, name).is_meta for name in ("starts", "flip", "scored", "block", "tokens"))
    assert (len(batch), batch.length, batch.step, batch.continues) == (2, 5, 7, True)


# ---- training -------------------------------------------------------------------------------------------------------


def test_a_batch_is_a_function_of_seed_step_and_rank():
    forward = [sampler_for()[step] for step in range(30)]
    backward = [sampler_for()[step] for step in reversed(range(30))][::-1]  # a fresh sampler, another order
    for a, b in zip(forward, backward, strict=True):
        assert torch.equal(a.starts, b.starts) and torch.equal(a.flip, b.flip)
    for other in (sampler_for(seed=1), sampler_for(rank=1, world_size=2)):
        assert not np.array_equal(drawn(sampler_for(), range(30)), drawn(other, range(30)))
    assert len(sampler_for()[10**12].starts) == 4  # no list of windows stands behind it


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), batch_size=st.integers(5, 9), seq_len=st.integers(1, 50))
def test_every_window_comes_once_a_pass(seed, batch_size, seq_len):
    sampler = sampler_for(seq_len=seq_len, batch_size=batch_size, seed=seed)
    expected = windows_in(TRAIN, seq_len + 1)
    n = len(expected)
    starts = drawn(sampler, range(-(-2 * n // batch_size)))
    first, second = starts[:n], starts[n : 2 * n]
    assert sorted(first.tolist()) == sorted(second.tolist()) == expected  # so none crosses an interval's edge either
    if n > 20:
        assert first.tolist() != second.tolist() != expected


@given(world=st.integers(1, 4), batch_size=st.integers(1, 5), windows=st.integers(1, 3), seed=st.integers(0, 99))
def test_ranks_together_are_one_process_with_a_larger_batch(world, batch_size, windows, seed):
    options = {"seed": seed, "windows_per_segment": windows}
    ranks = [sampler_for(batch_size=batch_size, rank=rank, world_size=world, **options) for rank in range(world)]
    one = sampler_for(batch_size=batch_size * world, **options)
    for step in range(12):
        assert torch.equal(torch.cat([rank[step].starts for rank in ranks]), one[step].starts)
        assert torch.equal(torch.cat([rank[step].flip for rank in ranks]), one[step].flip)


def test_half_of_the_windows_are_read_on_the_other_strand():
    sampler = sampler_for(batch_size=500)
    assert 0.47 < np.mean([sampler[step].flip.double().mean() for step in range(20)]) < 0.53
    # a window's strand is drawn anew at every pass
    sampler = sampler_for(batch_size=len(windows_in(TRAIN, 8)))
    one, two = (dict(zip(sampler[i].starts.tolist(), sampler[i].flip.tolist(), strict=True)) for i in range(2))
    assert 0.3 < np.mean([one[s] == two[s] for s in one]) < 0.7
    assert sampler_for(reverse_complement=False)[0].flip is None


@given(
    windows=st.integers(2, 5),
    seq_len=st.integers(1, 6),
    k=st.integers(1, 3),
    stride=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_windows_of_a_segment_touch_inside_one_interval(windows, seq_len, k, stride, seed):
    stride = min(stride, k)
    vocabulary = KmerTokenizer(k, stride).vocabulary
    sampler = sampler_for(vocabulary=vocabulary, seq_len=seq_len, batch_size=16, seed=seed, windows_per_segment=windows)
    offset = torch.arange(seq_len + 1) * stride
    for segment in range(3):
        batches = [sampler[segment * windows + i] for i in range(windows)]
        assert [batch.continues for batch in batches] == [False] + [True] * (windows - 1)
        flip = batches[0].flip[:, None]
        assert all(torch.equal(batch.flip[:, None], flip) for batch in batches)
        # positions, in reading order, of each window's seq_len + 1 tokens
        visited = [b.starts[:, None] + torch.where(flip, offset.flip(0), offset) for b in batches]
        for a, b in pairwise(visited):
            assert torch.equal(a[:, -1], b[:, 0])  # a window's last target is the next one's first input
        whole = torch.cat([visited[0], *(v[:, 1:] for v in visited[1:])], dim=1)
        assert (whole.diff(dim=1) == torch.where(flip, -stride, stride)).all()  # unbroken, in one direction
        for row in whole:
            assert any(a <= row.min() and row.max() + k <= b for a, b in TRAIN.tolist())


@given(
    lengths=st.lists(st.integers(13, 400), min_size=1, max_size=8),
    wanted=st.integers(1, 40),
    k=st.integers(1, 3),
    stride=st.integers(1, 3),
)
def test_segments_that_fit_leave_little_of_the_training_part_out(lengths, wanted, k, stride):
    stride = min(stride, k)
    vocabulary, edges = KmerTokenizer(k, stride).vocabulary, np.cumsum([0, *lengths])
    train = as_intervals(list(pairwise(edges.tolist())))
    nothing = as_intervals([])

    def share(windows: int) -> float:  # of the training bases in intervals that hold a segment of so many windows
        return sum(n for n in lengths if n >= windows * 5 * stride + k) / sum(lengths)

    fits = fit_windows_per_segment(Parts(train, nothing, nothing), vocabulary, 5, wanted)
    longest = max([n for n in range(1, wanted + 1) if share(n) >= 0.95], default=1)
    assert 0.75 * longest - 1 < fits <= longest
    if share(wanted) >= 0.95:
        assert fits == wanted


# ---- evaluation -----------------------------------------------------------------------------------------------------


@given(
    whole=interval_lists(),
    k=st.integers(1, 5),
    stride=st.integers(1, 4),
    rows=st.integers(1, 12),
    warmup=st.integers(0, 40),
    piece=st.integers(1, 60),
    cut=st.integers(0, 30),
)
def test_interval_streams_score_each_prediction_once(whole, k, stride, rows, warmup, piece, cut):
    intervals = as_intervals([(a + cut, b - cut) for a, b in whole])  # warmed up on what was cut off before them
    streams = interval_streams(intervals, whole, k, stride, rows, warmup, piece)
    scored = []
    for start, warm, count in zip(*(x.tolist() for x in (streams.start, streams.warmup, streams.scored)), strict=True):
        assert count > 0
        [(a, b)] = [(a, b) for a, b in whole.tolist() if a <= start < b]
        assert start + (warm + count) * stride + k <= b - cut  # the last token is whole, in the interval of the first
        first = start + warm * stride  # the last token that only warms up
        assert warm == min(warmup, (first - a) // stride)  # as much warm-up as asked for and available
        scored += [start + (warm + i + 1) * stride for i in range(count)]
    # every token that has one before it, a stride back, in the same interval
    assert sorted(scored) == [p for a, b in intervals.tolist() for p in range(a + stride, b - k + 1, stride)]
    assert len(streams.start) <= rows + len(intervals)
    assert all(count <= max(piece, -(-len(scored) // rows)) for count in streams.scored)


def test_streams_of_one_interval_end_together():
    streams = interval_streams(
        as_intervals([(0, 10_001)]), as_intervals([(0, 10_001)]), 1, 1, rows=8, warmup=50, piece=100
    )
    assert streams.scored.tolist() == [1250] * 8
    assert streams.warmup.tolist() == [0] + [50] * 7
    assert streams.start.tolist() == [0] + [1250 * i - 50 for i in range(1, 8)]
    assert (
        len(interval_streams(as_intervals([(0, 10_001)]), as_intervals([(0, 10_001)]), 1, 1, rows=64, warmup=50).start)
        == 3
    )  # of 4096 at least


@given(intervals=interval_lists(), seq_len=st.integers(1, 20), limit=st.integers(1, 30))
def test_separate_windows_are_disjoint_and_limited(intervals, seq_len, limit):
    span = seq_len + 1
    streams = window_streams(Parts(intervals, intervals, intervals), "test", span, seq_len, limit, seed=0)
    tiles = [s for a, b in intervals.tolist() for s in range(a, b - span + 1, span)]
    starts = streams.start.tolist()
    assert len(starts) == min(len(tiles), limit) and set(starts) <= set(tiles)
    assert not starts or (starts[0] == tiles[0] and (len(starts) == 1 or starts[-1] == tiles[-1]))  # from end to end
    assert (streams.warmup == 0).all() and (streams.scored == seq_len).all()


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_no_rank_is_without_a_chunk(count, world):
    # one that has none would not come to the epoch's end, where the others wait
    streams = Streams(np.arange(count) * 100, np.full(count, 5), np.arange(count) + 3)
    predictions = 0
    for rank in range(world):
        chunks = StreamChunks(streams, Blocks(np.zeros(1, np.int64), np.zeros(1, np.int64)), 64, 10, 1, rank, world)
        assert len(chunks) >= 1
        for i in range(len(chunks)):
            batch = chunks[i]
            predictions += len(batch) * batch.length if batch.scored is None else int(batch.scored.sum())
    assert predictions == streams.scored.sum()


# ---- random windows -------------------------------------------------------------------------------------------------


def test_random_windows_draw_only_their_stage(make_genome, letters):
    parts = RandomWindowsSplit(0.2, 0.1)(make_genome(letters(600)), 11, seed=2)
    everything = np.arange(600 - 11 + 1)
    allowed = {stage: set(everything[parts.accepts(stage, everything)].tolist()) for stage in STAGES}
    starts = drawn(TrainingWindows(parts, CHAR, 10, 32, seed=2), range(60))
    assert set(starts.tolist()) == allowed["train"]  # three passes: all of them, and no other
    for stage in ("val", "test"):
        starts = window_streams(parts, stage, 11, 10, limit=400, seed=2).start
        assert len(starts) == 400
        assert set(starts.tolist()) <= allowed[stage]
        assert len(set(starts.tolist())) > len(allowed[stage]) * 0.9
    assert fit_windows_per_segment(parts, CHAR, 10, 4) == 1  # a window's neighbour may belong to another part


def test_random_windows_of_a_small_or_an_empty_part(make_genome, letters):
    parts = RandomWindowsSplit(0.2, 0.005)(make_genome(letters(4000)), 11, seed=0)
    starts = window_streams(parts, "val", 11, 10, limit=50, seed=0).start
    assert len(starts) == 50 and parts.accepts("val", starts).all()
    genome = make_genome(letters(13))  # three windows
    parts = next(
        p for seed in range(50) if not (p := RandomWindowsSplit()(genome, 11, seed)).accepts("val", np.arange(3)).any()
    )
    with pytest.raises(UserError, match="none of the 3 windows falls to the val part"):
        window_streams(parts, "val", 11, 10, limit=10, seed=0)
