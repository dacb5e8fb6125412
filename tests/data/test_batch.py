import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genoseq.data.batch import Batch, Gather
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer


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
    tokenizer = KmerTokenizer(k, stride) if k else CharTokenizer()
    k, stride = max(k, 1), stride if k else 1
    span = length * stride + k
    starts = at.draw(st.lists(st.integers(0, len(text) - span), min_size=1, max_size=6))
    flip = at.draw(st.lists(st.booleans(), min_size=len(starts), max_size=len(starts)))
    batch = Batch(torch.tensor(starts), length, flip=torch.tensor(flip))
    tokens = gather_for(tokenizer, make_genome(text).codes)(batch)
    assert tokens.dtype == torch.int64
    assert tokens.shape == (len(starts), length + 1)
    for row, start, reverse in zip(tokens, starts, flip, strict=True):
        bases = text[start : start + span]
        read = reverse_complement(bases) if reverse else bases
        expected = tokenizer.encode(make_genome(read).codes)[: span - k + 1 : stride]
        assert row.tolist() == expected.tolist()


def test_without_strands_every_row_is_forward(make_genome):
    gather = gather_for(CharTokenizer(), make_genome("ACTGACTG").codes)
    starts = torch.tensor([0, 3])
    forward = gather(Batch(starts, 3))
    assert forward.tolist() == [[1, 2, 3, 4], [4, 1, 2, 3]]
    assert torch.equal(forward, gather(Batch(starts, 3, flip=torch.tensor([False, False]))))
    assert gather(Batch(starts, 3, flip=torch.tensor([True, True]))).tolist() == [[2, 1, 4, 3], [1, 4, 3, 2]]


def test_a_stream_may_read_on_past_the_genomes_end(make_genome):
    gather = gather_for(CharTokenizer(), make_genome("ACTG").codes)
    assert gather(Batch(torch.tensor([2, 9]), 3)).tolist() == [[3, 4, 4, 4], [4, 4, 4, 4]]


@pytest.mark.parametrize("missing", [None, torch.tensor([True, False])])
def test_moving_a_batch_moves_every_tensor(missing):
    batch = Batch(torch.tensor([1, 2]), 5, flip=missing, scored=torch.ones(2, 5, dtype=torch.bool), step=7, carry=True)
    batch.group = batch.tokens = torch.tensor([0, 1])
    moved = batch.to("meta")
    assert all(getattr(moved, name).device.type == "meta" for name in ("starts", "scored", "group", "tokens"))
    assert moved.flip is None if missing is None else moved.flip.device.type == "meta"
    assert (len(moved), moved.length, moved.step, moved.carry) == (2, 5, 7, True)
