"""Base distributions against sums over all k-mers, written out in numpy."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genoseq.data.bases import base_log_probs
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer, Vocabulary
from genoseq.errors import UserError

kinds = st.integers(1, 4).flatmap(lambda k: st.tuples(st.just(k), st.integers(1, k)))


def summed(log_probs: np.ndarray, k: int, stride: int, target: tuple[int, ...]) -> np.ndarray:
    """Return ln p(base | bases before it) of each new base of a token, (stride, 4), from all tokens' ln p."""
    kmers = list(itertools.product(range(4), repeat=k))
    out = np.zeros((stride, 4))
    for i in range(stride):
        read = target[: k - stride + i]
        for base in range(4):
            agree = [log_probs[j] for j, kmer in enumerate(kmers) if kmer[: len(read) + 1] == (*read, base)]
            out[i, base] = np.logaddexp.reduce(agree)
        out[i] -= np.logaddexp.reduce(out[i])
    return out


@given(kind=kinds, scale=st.floats(0, 40), half=st.booleans(), seed=st.integers(0, 10_000))
def test_every_base_is_the_sum_over_the_tokens_that_agree(kind, scale, half, seed):
    k, stride = kind
    v = KmerTokenizer(k, stride).vocabulary if k > 1 or half else CharTokenizer().vocabulary
    g = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(2, 3, v.size, generator=g)
    logits = logits.bfloat16() if half else logits
    tokens = v.first + torch.randint(v.num_classes, (2, 3), generator=g)
    tokens[1, 1] = v.unknown
    log_probs, digits = base_log_probs(logits, tokens, v)
    assert log_probs.shape == (2, 3, stride, 4) and log_probs.dtype == torch.float32
    assert digits.shape == (2, 3, stride) and digits.dtype == torch.int64
    assert torch.isfinite(log_probs).all() and ((digits >= 0) & (digits < 4)).all()
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 3, stride), rtol=0, atol=1e-5)
    costs = -log_probs.take_along_dim(digits[..., None], -1).double().sum((-1, -2))
    for at in itertools.product(range(2), range(3)):
        if tokens[at] == v.unknown:
            continue
        known = logits[at][v.first : v.first + v.num_classes].double().log_softmax(-1)
        kmer = tuple(int(tokens[at] - v.first) // 4**j % 4 for j in range(k - 1, -1, -1))
        np.testing.assert_allclose(log_probs[at], summed(known.numpy(), k, stride, kmer), rtol=1e-5, atol=1e-4)
        assert tuple(digits[at].tolist()) == kmer[k - stride :]
        token = -float(known[int(tokens[at]) - v.first])
        assert float(costs[at]) <= token + 1e-4 + 1e-5 * token
        if stride == k:  # a product of conditional probabilities
            assert float(costs[at]) == pytest.approx(token, rel=1e-5, abs=1e-4)


def test_classes_that_are_not_the_k_mers_are_refused():
    with pytest.raises(UserError, match=r"^a tokenizer of 2 bases a token must have 4\^k classes, not 20$"):
        Vocabulary(size=21, first=0, num_classes=20, unknown=20, k=2, stride=1)


def test_equal_logits_are_two_bits_a_base():
    v = KmerTokenizer(4, 2).vocabulary
    log_probs, _ = base_log_probs(torch.zeros(1, 1, v.size), torch.zeros(1, 1, dtype=torch.int64), v)
    assert log_probs.flatten().tolist() == pytest.approx([-math.log(4)] * 8)
