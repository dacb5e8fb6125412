import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genoseq.data import tokenizer as tokenizer_module
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.errors import UserError

DIGIT = {"A": 0, "C": 1, "T": 2, "G": 3}
known = st.text(alphabet="ACGT", min_size=1, max_size=80)
any_letters = st.text(alphabet="ACGTN", min_size=1, max_size=80)


def slow_ids(text: str, k: int) -> list[int]:
    """The documented id of the token at every position, written out digit by digit."""
    ids = []
    for p in range(len(text)):
        word = text[p : p + k]
        if len(word) < k or "N" in word:
            ids.append(4**k)
        else:
            ids.append(sum(DIGIT[letter] * 4 ** (k - 1 - j) for j, letter in enumerate(word)))
    return ids


def test_char_ids_are_the_reports(make_genome):
    codes = make_genome("ACTGN").codes
    assert CharTokenizer().encode(codes).tolist() == [1, 2, 3, 4, 0]
    v = CharTokenizer().vocabulary
    assert (v.size, v.first, v.num_classes, v.unknown, v.k, v.stride, v.new_bases) == (5, 1, 4, 0, 1, 1, 1)


@given(text=any_letters)
def test_char_round_trip(make_genome, text):
    tokenizer = CharTokenizer()
    assert tokenizer.decode(tokenizer.encode(make_genome(text).codes)) == text


def test_kmer_ids_have_the_first_base_most_significant(make_genome):
    codes = make_genome("ACTGNA").codes
    # AC=0*4+1, CT=1*4+2, TG=2*4+3, then the unknown letter twice, then the end
    assert KmerTokenizer(2).encode(codes).tolist() == [1, 6, 11, 16, 16, 16]


@given(text=any_letters, k=st.integers(1, 10))
def test_kmer_ids_are_as_documented(make_genome, text, k):
    assert KmerTokenizer(k).encode(make_genome(text).codes).tolist() == slow_ids(text, k)


@given(text=known, k=st.integers(1, 10), stride=st.integers(1, 12))
def test_kmer_round_trip(make_genome, text, k, stride):
    tokenizer = KmerTokenizer(k, stride)
    starts = range(0, len(text) - k + 1, stride)
    visited = tokenizer.encode(make_genome(text).codes)[list(starts)]
    seen = {p + j for p in starts for j in range(k)}  # with stride > k, bases between two tokens are not
    assert tokenizer.decode(visited) == "".join(text[p] for p in sorted(seen))


def test_unknown_token_spells_n(make_genome):
    assert KmerTokenizer(3, 3).decode([0, 64, 63]) == "AAANNNGGG"
    assert CharTokenizer().decode([]) == ""


@given(text=any_letters, k=st.integers(1, 6), block=st.integers(1, 9))
def test_encoding_does_not_see_block_borders(make_genome, text, k, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "_BLOCK", block)
        assert KmerTokenizer(k).encode(make_genome(text).codes).tolist() == slow_ids(text, k)


def test_genome_shorter_than_a_token_has_no_token(make_genome):
    assert KmerTokenizer(5).encode(make_genome("ACG").codes).tolist() == [4**5] * 3


@pytest.mark.parametrize(
    ("k", "dtype"),
    [(1, torch.uint8), (3, torch.uint8), (4, torch.int16), (7, torch.int16), (8, torch.int32), (10, torch.int32)],
)
def test_tokens_are_stored_in_the_smallest_type_that_fits(make_genome, k, dtype):
    tokens = KmerTokenizer(k).encode(make_genome("G" * 12).codes)
    assert tokens.dtype == dtype
    assert tokens[0] == 4**k - 1
    assert tokens[-1] == tokens.max() == 4**k if k > 1 else tokens[-1] == 3  # the unknown id fits as well


@pytest.mark.parametrize("tokenizer", [CharTokenizer(), *(KmerTokenizer(k) for k in (1, 2, 3, 6))])
def test_reverse_complement_table_is_an_involution(tokenizer):
    table, v = tokenizer.reverse_complement(), tokenizer.vocabulary
    assert table.shape == (v.size,)
    assert table.dtype == torch.int64
    assert torch.equal(table[table], torch.arange(v.size))
    assert table[v.unknown] == v.unknown
    if v.k % 2:  # a word of odd length is never its own reverse complement
        assert not (table == torch.arange(v.size))[v.first : v.first + v.num_classes].any()


@given(text=any_letters, k=st.integers(0, 6))
def test_reverse_complement_table_reads_the_other_strand(make_genome, reverse_complement, text, k):
    tokenizer = KmerTokenizer(k) if k else CharTokenizer()
    k = max(k, 1)
    whole = max(len(text) - k + 1, 0)
    forward = tokenizer.encode(make_genome(text).codes)[:whole].long()
    other = tokenizer.encode(make_genome(reverse_complement(text)).codes)[:whole].long()
    assert torch.equal(tokenizer.reverse_complement()[forward].flip(0), other)


@pytest.mark.parametrize(("k", "stride", "new"), [(4, 1, 1), (4, 4, 4), (4, 2, 2), (4, 6, 4), (1, 1, 1)])
def test_new_bases_and_span(k, stride, new):
    v = KmerTokenizer(k, stride).vocabulary
    assert v.new_bases == new
    assert v.span(10) == 10 * stride + k  # the eleventh token begins ten strides on
    assert (v.size, v.num_classes, v.first, v.unknown) == (4**k + 1, 4**k, 0, 4**k)


@pytest.mark.parametrize(("k", "stride"), [(0, 1), (11, 1), (-3, 1), (2.5, 1), ("four", 1), (4, 0), (4, 1.0)])
def test_impossible_tokens_are_one_sentence(k, stride):
    name, value = ("k", k) if stride == 1 and not isinstance(stride, float) else ("stride", stride)
    with pytest.raises(UserError, match=rf"^data\.{name} must be a whole number.*, got {value}$"):
        KmerTokenizer(k, stride)
    with pytest.raises(UserError, match=rf"one base a token.* data\.k={k} data\.stride={stride}$"):
        CharTokenizer(k, stride)
