"""Tokenizers: from base codes to what the model predicts.

All give one token *at every base position*: the token at position p covers the bases p … p + k − 1.
``stride`` only says which of them a window visits, so every reading frame of the genome is in one tensor and
changing the stride costs no memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from genoseq.data.genome import UNKNOWN
from genoseq.errors import UserError

MAX_K = 10  # 4^10 = 1,048,576 tokens; one more base and the embedding alone is gigabytes
_BLOCK = 1 << 20  # positions encoded at a time, which bounds the scratch memory


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a network and a loss need to know of a tokenizer.

    Class i, of id ``first + i``, spells the digits of i in base 4: k bases, the first the most significant, A=0 C=1 T=2
    G=3. So the tokens that begin with given bases are a contiguous block.
    """

    size: int  # token ids, the unknown token included
    first: int  # ids first ... first + num_classes - 1 are the classes a model predicts
    num_classes: int  # 4^k
    unknown: int  # the one other id: a token with a letter other than A, C, G, T, read but never predicted
    k: int  # bases a token covers
    stride: int  # bases from one token to the next, so those that a token adds to the ones before it; at most k

    def __post_init__(self) -> None:
        if self.num_classes != 4**self.k:
            raise UserError(f"a tokenizer of {self.k} bases a token must have 4^k classes, not {self.num_classes}")
        if not 1 <= self.stride <= self.k:
            raise UserError(
                f"data.stride must be from 1 to data.k={self.k}: tokens further apart skip bases, got {self.stride}"
            )

    def span(self, seq_len: int) -> int:
        """Bases under a window of ``seq_len`` inputs and the target after the last of them."""
        return seq_len * self.stride + self.k


def token_dtype(vocabulary: Vocabulary) -> torch.dtype:
    """Return the smallest type that holds the tokens: uint8, int16 or int32."""
    return torch.uint8 if vocabulary.size <= 256 else torch.int16 if vocabulary.size <= 32767 else torch.int32


class Tokenizer(ABC):
    """Turns base codes into token ids at every position.

    A subclass takes ``k`` and ``stride`` (bases) as arguments, to be named in a config's ``data.tokenizer``. Its
    classes are the k-mers in the order that `Vocabulary` says.
    """

    vocabulary: Vocabulary

    @abstractmethod
    def encode(self, codes: Tensor) -> Tensor:
        """Return the token at every base position.

        Parameters
        ----------
        codes : Tensor
            uint8, shape (n,): A=1 C=2 T=3 G=4, 0 = any other letter.

        Returns
        -------
        Tensor
            uint8, int16 or int32 (the smallest that fits), shape (n,). The last k − 1 positions have no whole
            token and hold the unknown id.
        """

    @abstractmethod
    def reverse_complement(self) -> Tensor:
        """Return the table, int64 of shape (size,), from a token to the same bases read on the other strand."""


class CharTokenizer(Tokenizer):
    """One token a base, ids as in the report: A=1 C=2 T=3 G=4, 0 = any other letter."""

    def __init__(self, k: int = 1, stride: int = 1) -> None:
        if k != 1 or stride != 1:
            raise UserError(f"data=char reads one base a token; use data=kmer with data.k={k} data.stride={stride}")
        self.vocabulary = Vocabulary(size=5, first=1, num_classes=4, unknown=UNKNOWN, k=1, stride=1)

    def encode(self, codes: Tensor) -> Tensor:
        return codes  # the genome's own codes are the tokens: nothing to copy

    def reverse_complement(self) -> Tensor:
        return torch.tensor([0, 3, 4, 1, 2])


class KmerTokenizer(Tokenizer):
    """k bases a token: ids 0 … 4^k − 1, first base most significant, digits A=0 C=1 T=2 G=3; 4^k = unknown."""

    def __init__(self, k: int = 4, stride: int = 1) -> None:
        if not isinstance(k, int) or not 1 <= k <= MAX_K:
            raise UserError(f"data.k must be a whole number from 1 to {MAX_K} (the vocabulary has 4^k tokens), got {k}")
        if not isinstance(stride, int):
            raise UserError(f"data.stride must be a whole number of bases, got {stride}")
        n = 4**k
        self.vocabulary = Vocabulary(size=n + 1, first=0, num_classes=n, unknown=n, k=k, stride=stride)

    def encode(self, codes: Tensor) -> Tensor:
        v = self.vocabulary
        out = torch.full((len(codes),), v.unknown, dtype=token_dtype(v))
        whole = len(codes) - v.k + 1
        for lo in range(0, max(whole, 0), _BLOCK):
            hi = min(lo + _BLOCK, whole)
            token = torch.zeros(hi - lo, dtype=torch.int32)
            known = torch.ones(hi - lo, dtype=torch.bool)
            for j in range(v.k):
                base = codes[lo + j : hi + j]
                known &= base != UNKNOWN
                token.mul_(4).add_(base).sub_(1)
            out[lo:hi] = token.masked_fill_(~known, v.unknown).to(out.dtype)
        return out

    def reverse_complement(self) -> Tensor:
        v = self.vocabulary
        token = torch.arange(v.num_classes)
        out = torch.zeros(v.num_classes, dtype=torch.int64)
        for _ in range(v.k):
            out = out * 4 + (token % 4 + 2) % 4  # A=0 and T=2 pair, C=1 and G=3 pair
            token = token // 4
        return torch.cat([out, torch.tensor([v.unknown])])
