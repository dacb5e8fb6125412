"""A network's last hidden states, pooled over regions, and their baseline: how often each tetranucleotide occurs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genoseq.data.tokenizer import KmerTokenizer, Tokenizer
from genoseq.errors import UserError
from genoseq.training.module import NextToken

CONTEXT = 1024
"""Bases of the record read before a region, at most, so that the first states know where they are."""
CHUNK, ROWS = 512, 64
"""Tokens read at a time, and regions side by side."""

Codes = NDArray[np.uint8]
Span = tuple[int, int, int]
"""First base that may be read before a region, its start, its end."""


@torch.no_grad()
def embed(
    module: NextToken, tokenizer: Tokenizer, codes: Codes, spans: Sequence[Span], pooling: str = "mean"
) -> NDArray[np.float32]:
    """Return the states of a network pooled over regions of one strand, float32 (n, D).

    A region's own tokens, those whose last base lies in it, are pooled; the bases before it are read first, from the
    zero state. Tokens that do not overlap are cut so that one begins where the region does.

    Parameters
    ----------
    module : NextToken
        In evaluation mode.
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of the strand.
    pooling : {"mean", "last"}
        The mean over the region's tokens, or its last one.

    Raises
    ------
    UserError
        If the network does not offer its states, or a region is shorter than a token.
    """
    hidden = getattr(module.net, "hidden", None)
    if hidden is None:
        raise UserError(
            f"{type(module.net).__name__} does not offer its states: give it hidden(tokens, state) -> (states, state)"
        )
    v, out = tokenizer.vocabulary, np.zeros((len(spans), 0), dtype=np.float32)
    order = np.argsort([end - low for low, _, end in spans], kind="stable")
    for at in range(0, len(order), ROWS):
        rows = order[at : at + ROWS].tolist()
        tokens, inside = [], []
        for low, start, end in (spans[i] for i in rows):
            if end - start < v.k:
                raise UserError(f"a region of {end - start} bases is shorter than a token of {v.k}")
            first = start - min(start - low, CONTEXT) // v.stride * v.stride
            own = tokenizer.encode(torch.from_numpy(codes[first:end].copy()))[: end - first - v.k + 1 : v.stride]
            last = first + torch.arange(len(own)) * v.stride + v.k - 1
            tokens.append(own.long())
            inside.append(last >= start if v.stride < v.k else last >= start + v.k - 1)
        length = max(map(len, tokens))
        padded = torch.stack(
            [torch.nn.functional.pad(each, (0, length - len(each)), value=v.unknown) for each in tokens]
        )
        mask = torch.stack([torch.nn.functional.pad(each, (0, length - len(each))) for each in inside])
        if pooling == "last":
            ends = torch.tensor([len(each) for each in tokens]) - 1
            mask = torch.arange(length) == ends[:, None]
        pooled = _pooled(hidden, padded.to(module.device), mask.to(module.device))
        out = out if out.shape[1] else np.zeros((len(spans), pooled.shape[1]), dtype=np.float32)
        out[rows] = pooled.cpu().numpy()
    return out


def _pooled(hidden: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the states at the tokens of `mask`, (B, D)."""
    state: Any = None
    total: Tensor | None = None
    for at in range(0, tokens.shape[1], CHUNK):
        states, state = hidden(tokens[:, at : at + CHUNK], state)
        part = (states.float() * mask[:, at : at + CHUNK, None]).sum(1)
        total = part if total is None else total + part
    assert total is not None
    mean: Tensor = total / mask.sum(1, keepdim=True)
    return mean


def tetranucleotides(codes: Codes, spans: Sequence[Span]) -> NDArray[np.float32]:
    """Return the share of each of the 256 words of four letters in regions, both strands counted, float32 (n, 256).

    The words are in the order of `KmerTokenizer`: digits A=0 C=1 T=2 G=3, first base most significant.
    """
    tokenizer = KmerTokenizer(4, 1)
    turned, out = tokenizer.reverse_complement().numpy()[:256], np.zeros((len(spans), 256), dtype=np.float32)
    for row, (_, start, end) in zip(out, spans, strict=True):
        words = tokenizer.encode(torch.from_numpy(codes[start:end].copy())).numpy()
        counts = np.bincount(words[words < 256], minlength=256).astype(np.float32)
        row[:] = (counts + counts[turned]) / max(1.0, 2 * counts.sum())
    return out


def gc_share(codes: Codes) -> float:
    """Return the share of C and G among known letters; nan where none is known."""
    known = np.count_nonzero(codes)
    return float(np.isin(codes, (2, 4)).sum() / known) if known else float("nan")
