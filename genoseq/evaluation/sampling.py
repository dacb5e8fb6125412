"""Sequence drawn from a network, base by base or token by token, and shuffles that keep every pair of neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genoseq.data.tokenizer import Tokenizer
from genoseq.training.module import NextToken

Codes = NDArray[np.uint8]


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
    if prompt is None:
        state: Any = None
        last = torch.randint(v.num_classes, (rows,), generator=dice)
        out = [_digits(last, v.k)]
    else:
        skip = (len(prompt) - v.k) % v.stride  # so that the last token ends where the prompt does
        tokens = tokenizer.encode(torch.from_numpy(prompt[skip:].copy()))[: len(prompt) - skip - v.k + 1 : v.stride]
        tokens = tokens.long().to(module.device)
        state = module(tokens[None, :-1].expand(rows, -1), None)[1] if len(tokens) > 1 else None
        last = (tokens[-1].cpu() - v.first).repeat(rows)
        out = []
    while sum(map(len, out)) < length:
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
