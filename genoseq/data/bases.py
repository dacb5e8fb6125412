"""Base distributions: p(A, C, G, T) of each next base, from the logits of any tokenizer's tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from genoseq.data.tokenizer import Vocabulary


def base_log_probs(logits: Tensor, tokens: Tensor, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Return the distribution of each new base of the target tokens, given the true bases before it.

    The bases that a token shares with the one before are known, so only the tokens that agree with them can follow.
    Each new base then sums over the tokens that agree with the bases before it.

    Parameters
    ----------
    logits : Tensor
        Of the tokens, (B, L, V).
    tokens : Tensor
        Target tokens, int64 (B, L). What is returned for the unknown token is arbitrary, but finite.
    vocabulary : Vocabulary

    Returns
    -------
    log_probs : Tensor
        Natural logarithms in the order A, C, T, G, float32 (B, L, stride, 4).
    digits : Tensor
        The target's new bases, A=0 C=1 T=2 G=3, int64 (B, L, stride).
    """
    v, n = vocabulary, vocabulary.stride
    left = logits.flatten(0, -2)[:, v.first : v.first + v.num_classes].float()  # classes that agree with the bases read
    index = (tokens.flatten() - v.first).clamp(0, v.num_classes - 1)
    if v.k == 1:
        return left.log_softmax(-1).view(*tokens.shape, 1, 4), index.view(*tokens.shape, 1)
    rows = torch.arange(len(index), device=index.device)
    if n < v.k:
        left = left.view(len(index), -1, 4**n)[rows, index >> 2 * n]
    digits = [index >> 2 * (n - 1 - i) & 3 for i in range(n)]
    log_probs = []
    for digit in digits[:-1]:
        left = left.view(len(index), 4, -1)
        log_probs.append(left.logsumexp(-1).log_softmax(-1))
        left = left[rows, digit]
    log_probs.append(left.log_softmax(-1))
    return torch.stack(log_probs, 1).view(*tokens.shape, n, 4), torch.stack(digits, -1).view(*tokens.shape, n)
