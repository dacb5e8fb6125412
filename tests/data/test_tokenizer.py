import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genoseq.data import tokenizer as tokenizer_module
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.errors import UserError

any_letters = st.text(alphabet="ACGTN", min_size=1, max_size=80)


def slow_ids(text: str, k: int) -> list[int]:
    """The documented id of the token at every position, written out digit by digit."""
    kmers = [text[p : p + k] for p in range(len(text))]
    return [
        4**k
        if len(kmer) < k or "N" in kmer
        else sum("ACTG".index(base) * 4 ** (k - 1 - j) for j, base in enumerate(kmer))
        for kmer in kmers
    ]


def test_ids_are_as_documented(make_genome):
    codes = make_genome("ACTGNA").codes
    assert CharTokenizer().encode(codes).tolist() == [1, 2, 3, 4, 0, 1]
    # AC=0*4+1, CT=1*4+2, TG=2*4+3, then the unknown letter twice, then the end
    assert KmerTokenizer(2).encode(codes).tolist() == [1, 6, 11, 16, 16, 16]
    v = CharTokenizer().vocabulary
    assert (v.size, v.first, v.num_classes, v.unknown, v.k, v.stride) == (5, 1, 4, 0, 1, 1)


@given(text=any_letters, k=st.integers(1, 10), block=st.integers(1, 100))
def test_kmer_ids_do_not_see_block_borders(make_genome, text, k, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "_BLOCK", block)
        assert KmerTokenizer(k).encode(make_genome(text).codes).tolist() == slow_ids(text, k)


@pytest.mark.parametrize(
    ("k", "dtype"),
    [(1, torch.uint8), (3, torch.uint8), (4, torch.int16), (7, torch.int16), (8, torch.int32), (10, torch.int32)],
)
def test_tokens_are_stored_in_the_smallest_type_that_fits(make_genome, k, dtype):
    tokens = KmerTokenizer(k).encode(make_genome("G" * 12 + "N").codes)
    assert tokens.dtype == dtype
    assert tokens[0] == 4**k - 1 and tokens[-1] == 4**k  # the unknown id fits as well


@given(text=any_letters, k=st.integers(0, 6))
def test_reverse_complement_table_reads_the_other_strand(make_genome, reverse_complement, text, k):
    tokenizer = KmerTokenizer(k) if k else CharTokenizer()
    whole = max(len(text) - max(k, 1) + 1, 0)
    forward = tokenizer.encode(make_genome(text).codes)[:whole].long()
    other = tokenizer.encode(make_genome(reverse_complement(text)).codes)[:whole].long()
    table = tokenizer.reverse_complement()
    assert torch.equal(table[forward].flip(0), other)
    assert table.dtype == torch.int64 and torch.equal(table[table], torch.arange(tokenizer.vocabulary.size))


@pytest.mark.parametrize(("k", "stride"), [(4, 1), (4, 4), (4, 2), (1, 1)])
def test_span(k, stride):
    v = KmerTokenizer(k, stride).vocabulary
    assert v.span(10) == 10 * stride + k  # the eleventh token begins ten strides on
    assert (v.size, v.num_classes, v.first, v.unknown) == (4**k + 1, 4**k, 0, 4**k)


@pytest.mark.parametrize(("k", "stride"), [(0, 1), (11, 1), (-3, 1), (2.5, 1), ("four", 1), (4, 1.0)])
def test_impossible_tokens_are_one_sentence(k, stride):
    name, value = ("stride", stride) if k == 4 else ("k", k)
    with pytest.raises(UserError, match=rf"^data\.{name} must be a whole number.*, got {value}$"):
        KmerTokenizer(k, stride)
    with pytest.raises(UserError, match=rf"one base a token.* data\.k={k} data\.stride={stride}$"):
        CharTokenizer(k, stride)


@pytest.mark.parametrize(("k", "stride"), [(4, 0), (4, 5), (1, 2)])
def test_a_stride_beyond_the_token_is_refused(k, stride):
    with pytest.raises(UserError, match=rf"^data\.stride must be from 1 to data\.k={k}: .*, got {stride}$"):
        KmerTokenizer(k, stride)
