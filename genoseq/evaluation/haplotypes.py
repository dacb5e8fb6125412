"""What a network says of both haplotypes of an allele, with the state before it shared by all alleles there.

The reference is read once, in streams from `CONTEXT` bases or more before each allele; on the way the state is kept
every few tokens, and each alternative haplotype is read from the last state that it shares with the reference. The
left context depends on the allele's place alone, not on what else is scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from genoseq.data.bases import base_log_probs
from genoseq.data.tokenizer import Tokenizer
from genoseq.training.module import NextToken

CONTEXT = 1024
"""Bases read before a cell of the genome, whose first state is zero; fewer at a record's start."""
CELL = 4096
"""Bases in a cell: the alleles of one share a stream."""
EVERY = 16
"""Tokens from one state that is kept to the next."""
STREAMS, ROWS = 64, 512
"""Streams, and alternative haplotypes, side by side."""

COMPLEMENT = np.array([0, 3, 4, 1, 2], dtype=np.uint8)
"""Of the letter ids, A=1 C=2 T=3 G=4."""

Codes = NDArray[np.uint8]


@dataclass(frozen=True)
class Changes:
    """Alleles of one strand, each alone on the reference; arrays of one element an allele.

    What REF and ALT share is trimmed, and insertions and deletions are left-aligned in the strand's direction.
    """

    codes: Codes
    """Letter ids of the strand, A=1 C=2 T=3 G=4, 0 = unknown; (n_bases,)."""
    low: NDArray[np.int64]
    """First base of the allele's record."""
    high: NDArray[np.int64]
    """End of its record."""
    start: NDArray[np.int64]
    """First base that the allele replaces."""
    ref: NDArray[np.int64]
    """Bases that it replaces."""
    alt: Sequence[Codes]
    """Letter ids in their place."""
    downstream: int
    """Bases read after the longer of both."""

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def inserted(self) -> NDArray[np.int64]:
        """Bases in place of the replaced ones, (n,)."""
        return np.array([len(alt) for alt in self.alt], dtype=np.int64).reshape(-1)

    @cached_property
    def length(self) -> NDArray[np.int64]:
        """Bases that are read of both haplotypes from `start`: the same of each, fewer at a record's end; (n,)."""
        shorter = np.minimum(self.ref, self.inserted)
        left = self.high - self.start - self.ref + shorter
        length: NDArray[np.int64] = np.minimum(self.ref + self.inserted - shorter + self.downstream, left)
        return length

    def haplotype(self, i: int, first: int, end: int, alternative: bool) -> Codes:
        """Return a haplotype of allele `i` from `first`, at most its start, to `end` bases after its start."""
        start, ref, high = int(self.start[i]), int(self.ref[i]), int(self.high[i])
        if not alternative:
            return self.codes[first : min(start + end, high)]
        alt = self.alt[i]
        after = start + ref
        rest = self.codes[after : min(after + max(end - len(alt), 0), high)]
        return np.concatenate([self.codes[first:start], alt[:end], rest])

    def left_aligned(self) -> Changes:
        """Return the same alleles with insertions and deletions moved left as far as the haplotype stays the same.

        They must be trimmed of what REF and ALT share.
        """
        codes, start, alts = self.codes, self.start.copy(), list(self.alt)
        for i in np.flatnonzero((self.ref == 0) != (self.inserted == 0)).tolist():
            at, low, ref, alt = int(start[i]), int(self.low[i]), int(self.ref[i]), alts[i].tolist()
            while at > low and codes[at - 1] == (alt[-1] if alt else codes[at + ref - 1]):
                at -= 1
                alt = [*alt[-1:], *alt[:-1]]
            start[i], alts[i] = at, np.array(alt, dtype=np.uint8)
        return replace(self, start=start, alt=alts)

    def reverse_complement(self, codes: Codes) -> Changes:
        """Return the same alleles as they are read on the other strand, whose letter ids are `codes`."""
        n = len(codes)
        alt = [COMPLEMENT[each[::-1]] for each in self.alt]
        low, high, start = n - self.high, n - self.low, n - self.start - self.ref
        return Changes(codes, low, high, start, self.ref, alt, self.downstream).left_aligned()

    def take(self, index: NDArray[np.int64]) -> Changes:
        """Return some of the alleles."""
        low, high, start, ref = (array[index] for array in (self.low, self.high, self.start, self.ref))
        return replace(self, low=low, high=high, start=start, ref=ref, alt=[self.alt[i] for i in index.tolist()])


class Windows(NamedTuple):
    """What a network says of the bases from alleles' starts on; [0] the reference haplotype, [1] the alternative."""

    alleles: NDArray[np.int64]  # their numbers, (n,)
    log_probs: Tensor  # natural logarithms in the order A, C, T, G, float32 (2, n, W, 4)
    digits: Tensor  # the bases, A=0 C=1 T=2 G=3, int64 (2, n, W)
    scored: Tensor  # whether a base is known, predicted and in the window, bool (2, n, W)


@torch.no_grad()
def read_windows(module: NextToken, tokenizer: Tokenizer, changes: Changes, phase: int = 0) -> Iterator[Windows]:
    """Yield what the network says of each allele's window, in blocks that memory does not grow with.

    Parameters
    ----------
    module : NextToken
        In evaluation mode; it computes in its weights' own precision.
    changes : Changes
    phase : int
        Bases left out at each stream's start: tokens that do not overlap, or not wholly, begin there; below the stride.
    """
    base = np.maximum(changes.low + (changes.start - changes.low) // CELL * CELL - CONTEXT, changes.low)
    begins, stream = np.unique(base, return_inverse=True)
    order = np.argsort(stream, kind="stable")
    edges = np.searchsorted(stream[order], np.arange(0, len(begins) + STREAMS, STREAMS))
    reader = _Reader(module, tokenizer, phase)
    for a, b in pairwise(edges.tolist()):
        if b > a:
            yield from reader.read(changes, order[a:b], base[order[a:b]])


class _Reader:
    def __init__(self, module: NextToken, tokenizer: Tokenizer, phase: int) -> None:
        self.module, self.tokenizer, self.vocabulary, self.phase = module, tokenizer, tokenizer.vocabulary, phase
        tokens = torch.full((2, 1), self.vocabulary.first, device=module.device)
        one, two = (tree_flatten(module(tokens[:rows])[1])[0] for rows in (1, 2))
        # the dimension of each of the state's tensors that is the batch's
        self._dims = [next(d for d in range(a.ndim) if a.shape[d] != b.shape[d]) for a, b in zip(one, two, strict=True)]

    def read(self, changes: Changes, index: NDArray[np.int64], base: NDArray[np.int64]) -> Iterator[Windows]:
        v, phase = self.vocabulary, self.phase
        some = changes.take(index)
        begins, row = np.unique(base, return_inverse=True)
        # input token that the haplotypes first differ in, less one that predicts it; the state kept before that
        shared = (some.start - base - phase - v.k) // v.stride
        kept = np.maximum(shared, 0) // EVERY
        needed = int(np.max(some.start - base + some.length))
        lanes = [some.codes[b : min(b + needed, h)] for b, h in zip(begins, _first(some.high, row), strict=True)]
        reference, states = self._reference(lanes, needed, int(kept.max()))
        skip = kept * EVERY * v.stride
        ends = some.start - base - skip + some.length
        tokens = np.maximum(-(-(ends - phase - v.k) // v.stride), 1)
        order = np.argsort(tokens, kind="stable")
        for at in range(0, len(order), ROWS):
            rows = order[at : at + ROWS]
            texts = [
                some.haplotype(i, int(base[i] + skip[i]), int(some.length[i]), alternative=True) for i in rows.tolist()
            ]
            inputs = self._tokens(texts, int(tokens[rows].max()))
            state = self._gather(states, kept[rows], row[rows])
            alternative = self._predict(inputs, state)[0]
            where = torch.from_numpy(some.start[rows] - base[rows])
            width = torch.from_numpy(some.length[rows])
            chosen = [each[torch.from_numpy(row[rows])] for each in reference]
            ref = self._window(chosen, where, width)
            alt = self._window(alternative, where - torch.from_numpy(skip[rows]), width)
            yield Windows(index[rows], *(torch.stack(pair) for pair in zip(ref, alt, strict=True)))

    def _tokens(self, texts: Sequence[Codes], predictions: int) -> Tensor:
        """Return input and target tokens of letters, int64 (n, predictions + 1); what is missing reads as A."""
        v = self.vocabulary
        size = self.phase + v.span(predictions)
        codes = np.ones((len(texts), size), dtype=np.uint8)
        for lane, text in zip(codes, texts, strict=True):
            lane[: len(text)] = text[:size]
        every = self.tokenizer.encode(torch.from_numpy(codes).flatten()).view(len(texts), size)
        return every[:, self.phase :: v.stride][:, : predictions + 1].long().to(self.module.device)

    def _predict(self, tokens: Tensor, state: Any) -> tuple[list[Tensor], Any]:
        """Return each new base's log-probabilities, digit and whether it is known, (B, T * stride), and the state."""
        logits, state = self.module(tokens[:, :-1], state)
        target = tokens[:, 1:]
        log_probs, digits = base_log_probs(logits.float(), target, self.vocabulary)
        known = (target != self.vocabulary.unknown)[..., None].expand_as(digits)
        return [each.flatten(1, 2).cpu() for each in (log_probs, digits, known)], state

    def _reference(self, lanes: Sequence[Codes], bases: int, last: int) -> tuple[list[Tensor], list[Any]]:
        """Read streams; return what is predicted of their bases and the leaves of the states kept, (J, B, …)."""
        v = self.vocabulary
        predictions = max(-(-(bases - self.phase - v.k) // v.stride), last * EVERY + 1)
        tokens = self._tokens(lanes, predictions)
        state, kept, said = None, [], []
        for at in range(0, predictions, EVERY):
            if state is not None and at <= last * EVERY:
                self._structure = tree_flatten(state)[1]
                leaves = tree_flatten(state)[0]
                kept.append([leaf.movedim(d, 0) for leaf, d in zip(leaves, self._dims, strict=True)])
            part, state = self._predict(tokens[:, at : at + EVERY + 1], state)
            said.append(part)
        return [torch.cat(each, 1) for each in zip(*said, strict=True)], kept

    def _gather(self, states: list[Any], kept: NDArray[np.int64], row: NDArray[np.int64]) -> Any:
        """Return the state of each of some alleles: that of stream `row` before its token ``kept * EVERY``."""
        if not states:
            return None
        leaves = []
        for number, dim in enumerate(self._dims):
            out = torch.zeros((len(row), *states[0][number].shape[1:]), device=self.module.device)
            for j in np.unique(kept[kept > 0]).tolist():
                mine = torch.from_numpy(np.flatnonzero(kept == j)).to(out.device)
                out[mine] = states[j - 1][number][torch.from_numpy(row[kept == j]).to(out.device)]
            leaves.append(out.movedim(0, dim).contiguous())
        return tree_unflatten(leaves, self._structure)

    def _window(self, said: Sequence[Tensor], where: Tensor, width: Tensor) -> list[Tensor]:
        """Return what is said of the `width` bases from `where` on, counted from the first letter read."""
        offset = torch.arange(int(width.max()))
        at = where[:, None] - self.phase - self.vocabulary.k + offset
        inside = (at >= 0) & (offset < width[:, None])
        at = at.clamp(0, said[1].shape[1] - 1)
        log_probs, digits, known = said
        row = torch.arange(len(at))[:, None]
        return [log_probs[row, at], digits[row, at], known[row, at] & inside]


def _first(values: NDArray[np.int64], group: NDArray[np.int64]) -> list[int]:
    """Return one value of each group, groups numbered from 0."""
    out: list[int] = values[np.unique(group, return_index=True)[1]].tolist()
    return out
