"""Sequence drawn from a network or a table of counts, shuffles, and how sequences compare with real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genoseq.baselines.counts import compiled
from genoseq.baselines.markov import MarkovModel
from genoseq.data.intervals import Intervals
from genoseq.data.tokenizer import MAX_K, KmerTokenizer, Tokenizer
from genoseq.evaluation.haplotypes import COMPLEMENT
from genoseq.training.module import NextToken

Codes = NDArray[np.uint8]
CHUNK = 512
"""Tokens of a prompt read at a time."""


@torch.no_grad()
def sample(
    module: NextToken,
    tokenizer: Tokenizer,
    rows: int,
    length: int,
    seed: int,
    temperature: float = 1.0,
    prompt: Codes | None = None,
) -> Codes:
    """Return sequences drawn from a network, letter ids, uint8 (rows, length).

    Each next token is drawn from the network's distribution over those that agree with the bases before it. The first
    is drawn evenly, or read from a prompt, which is not part of what is returned.

    Parameters
    ----------
    module : NextToken
        In evaluation mode.
    temperature : float
        Logits are divided by it.
    prompt : ndarray of uint8, optional
        Letter ids, all known, that all sequences go on from; at least as many as a token has.
    """
    v = tokenizer.vocabulary
    new = 4**v.stride
    dice = torch.Generator().manual_seed(seed)
    state: Any = None
    if prompt is None:
        last = torch.randint(v.num_classes, (rows,), generator=dice)
        out = [_digits(last, v.k)]
    else:
        skip = (len(prompt) - v.k) % v.stride  # so that the last token ends where the prompt does
        tokens = tokenizer.encode(torch.from_numpy(prompt[skip:].copy()))[: len(prompt) - skip - v.k + 1 : v.stride]
        tokens = tokens.long().to(module.device)
        for at in range(0, len(tokens) - 1, CHUNK):
            state = module(tokens[None, at : min(at + CHUNK, len(tokens) - 1)].expand(rows, -1), state)[1]
        last = (tokens[-1].cpu() - v.first).repeat(rows)
        out = []
    for _ in range(-(-(length - sum(map(len, out))) // v.stride)):
        logits, state = module((last + v.first)[:, None].to(module.device), state)
        logits = logits[:, 0, v.first : v.first + v.num_classes].float().cpu() / temperature
        block = last % (v.num_classes // new)  # the bases that the next token shares with this one
        logits = logits.view(rows, -1, new)[torch.arange(rows), block]
        last = block * new + torch.multinomial(logits.softmax(-1), 1, generator=dice)[:, 0]
        out.append(_digits(last, v.stride))
    letters: Codes = torch.cat(out)[:length].T.numpy().astype(np.uint8) + 1
    return letters


def _digits(tokens: torch.Tensor, bases: int) -> torch.Tensor:
    """Return the last bases of classes, as digits 0-3, (bases, n)."""
    return torch.stack([tokens >> 2 * i & 3 for i in range(bases - 1, -1, -1)])


SEED = 11
"""Bases that agree before a match to the training part is looked at."""


@compiled
def _longest(codes: Codes, intervals: Intervals, head: NDArray[Any], after: NDArray[Any], sequence: Codes) -> int:
    """Return the longest stretch of a sequence that occurs in intervals, whose words of `SEED` letters are chained."""
    best, word, known = 0, 0, 0
    for end in range(1, len(sequence) + 1):
        word = (word << 2 | (sequence[end - 1] - 1)) & ((1 << 2 * SEED) - 1)
        known += 1
        if known < SEED:
            continue
        at = head[word]
        while at >= 0:
            limit = intervals[np.searchsorted(intervals[:, 0], at, side="right") - 1, 1]
            length = SEED
            while (
                at + length < limit and end - SEED + length < len(sequence)
                and codes[at + length] == sequence[end - SEED + length]
            ):  # fmt: skip
                length += 1
            best = max(best, length)
            at = after[at]
    return best


def longest_matches(codes: Codes, intervals: Intervals, sequences: Codes) -> NDArray[np.int64]:
    """Return the longest exact match of each sequence (n, length) to intervals of a genome, on either strand, in bases.

    0 where none has `SEED` bases.
    """
    # the places of each word, as chains: the last one, and from each the one before
    head, after = np.full(4**SEED, -1, dtype=np.int64), np.full(len(codes), -1, dtype=np.int64)
    _chain(codes, intervals, head, after)
    turned = COMPLEMENT[sequences[:, ::-1]]
    pairs = zip(sequences, turned, strict=True)
    return np.array([max(_longest(codes, intervals, head, after, text) for text in pair) for pair in pairs])


@compiled
def _chain(codes: Codes, intervals: Intervals, head: NDArray[Any], after: NDArray[Any]) -> None:
    for row in range(len(intervals)):
        word, known = 0, 0
        for i in range(intervals[row, 0], intervals[row, 1]):
            if codes[i] == 0:
                known = 0
                continue
            word = (word << 2 | (codes[i] - 1)) & ((1 << 2 * SEED) - 1)
            known += 1
            if known >= SEED:
                at = i - SEED + 1
                after[at] = head[word]
                head[word] = at


def shuffled(codes: Codes, rng: np.random.Generator) -> Codes:
    """Return letters in another order in which every pair of neighbours occurs as often as before.

    A random Eulerian path (Altschul and Erickson, Molecular Biology and Evolution 2, 526-538, 1985). Its first and last
    letter stay.
    """
    followers = [codes[1:][codes[:-1] == letter] for letter in range(5)]
    used = [letter for letter in range(5) if len(followers[letter])]
    end = int(codes[-1])
    while True:  # the last edges of all letters must lead to the end
        final = {letter: int(rng.choice(followers[letter])) for letter in used if letter != end}
        if all(_leads(letter, final, end) for letter in final):
            break
    queues = []
    for letter in range(5):
        rest = followers[letter]
        if letter in final:
            rest = np.delete(rest, np.flatnonzero(rest == final[letter])[0])
        queues.append([*([final[letter]] if letter in final else []), *rng.permutation(rest).tolist()])
    out = np.empty_like(codes)
    at = int(codes[0])
    for i in range(len(codes)):
        out[i] = at
        if i + 1 < len(codes):
            at = queues[at].pop()
    return out


def _leads(letter: int, final: dict[int, int], end: int) -> bool:
    for _ in range(5):
        if letter == end:
            return True
        letter = final[letter]
    return letter == end


def sample_markov(model: MarkovModel, rows: int, length: int, seed: int) -> Codes:
    """Return sequences drawn from a Markov model, letter ids, uint8 (rows, length); orders above 9 are cut to 9.

    Contexts that are not whole at a sequence's start are drawn evenly.
    """
    order = min(model.order, MAX_K - 1)
    counts = np.zeros(4 ** (order + 1))
    for start, end in model.train.tolist():
        words = KmerTokenizer(order + 1, 1).encode(torch.from_numpy(model.codes[start:end].copy())).numpy()
        counts += np.bincount(words[words < len(counts)], minlength=len(counts))[: len(counts)]
    table = counts.reshape(-1, 4) + model.smoothing
    steps = np.cumsum(table / table.sum(1, keepdims=True), axis=1)
    rng = np.random.default_rng(seed)
    out = rng.integers(0, 4, (rows, order + length))
    context = np.zeros(rows, dtype=np.int64)
    for i in range(order):
        context = context * 4 + out[:, i]
    for i in range(order, order + length):
        out[:, i] = np.minimum((rng.random((rows, 1)) > steps[context]).sum(1), 3)
        context = (context * 4 + out[:, i]) % 4**order
    return (out[:, order:] + 1).astype(np.uint8)


def word_shares(sequences: Codes, k: int) -> NDArray[np.float64]:
    """Return the share of each k-mer in sequences (n, length), (4^k,)."""
    words = np.concatenate([KmerTokenizer(k, 1).encode(torch.from_numpy(row.copy())).numpy() for row in sequences])
    counts = np.bincount(words[words < 4**k], minlength=4**k)
    shares: NDArray[np.float64] = counts / max(1, counts.sum())
    return shares


def longest_run(sequence: Codes) -> int:
    """Return the length of the longest run of one letter."""
    edges = np.flatnonzero(np.concatenate([[True], sequence[1:] != sequence[:-1], [True]]))
    return int(np.diff(edges).max())
