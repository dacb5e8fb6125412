"""Scores of alleles: how much less likely each makes the sequence, by a network, its mixer, and a count model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from genoseq.baselines.markov import HIGHEST, InterpolatedMarkov
from genoseq.data.intervals import Intervals
from genoseq.data.tokenizer import Tokenizer
from genoseq.evaluation.haplotypes import Changes, Codes, Windows, read_windows
from genoseq.training.module import NextToken

if TYPE_CHECKING:
    from genoseq.baselines.experts import Experts
    from genoseq.training.mixing import ExpertMixer

MIXED_CONTEXT = 128
"""Bases before an allele that the mixer's experts read."""
MIXED_BLOCK = 1 << 19
"""Bases that the experts are asked of at a time: each time they count the training part again."""
COUNTED_BLOCK = 1 << 21
"""Bases that the count model is asked of at a time."""

Scores = NDArray[np.float64]


def score_strand(
    module: NextToken,
    tokenizer: Tokenizer,
    changes: Changes,
    mixer: ExpertMixer | None = None,
    experts: Experts | None = None,
    checkpoints: Sequence[int] | None = None,
) -> Scores:
    """Return log2 p(alternative haplotype) - log2 p(reference haplotype) of each allele of a strand, in bits.

    Both are summed over ``changes.length`` bases. Tokens that do not overlap are cut in every way, and the mean taken.

    Parameters
    ----------
    checkpoints : sequence of int, optional
        Lengths, in bases, after which the sum is given too.

    Returns
    -------
    ndarray of float64, shape (n,) or, with `checkpoints`, (n, len(checkpoints) + 1)
        The whole sum last.
    """
    steps = [*(checkpoints or []), None]
    out = np.zeros((len(changes), len(steps)))
    phases = tokenizer.vocabulary.stride
    for phase in range(phases):
        for windows in _mixed(read_windows(module, tokenizer, changes, phase), changes, mixer, experts):
            cost = windows.log_probs.gather(-1, windows.digits[..., None])[..., 0].double() * windows.scored
            bits = (cost[1] - cost[0]) / math.log(2)
            for j, step in enumerate(steps):
                out[windows.alleles, j] += bits[:, :step].sum(1).numpy() / phases
    return out if checkpoints is not None else out[:, 0]


def _mixed(
    windows: Iterable[Windows], changes: Changes, mixer: ExpertMixer | None, experts: Experts | None
) -> Iterator[Windows]:
    """Yield windows with the mixture's distributions in place of the network's."""
    if mixer is None or experts is None:
        yield from windows
        return
    held, size = [], 0
    for each in windows:
        held.append(each)
        size += 2 * len(each.alleles) * (MIXED_CONTEXT + each.digits.shape[-1])
        if size >= MIXED_BLOCK:
            yield from _mix(held, changes, mixer, experts)
            held, size = [], 0
    yield from _mix(held, changes, mixer, experts)


def _mix(held: list[Windows], changes: Changes, mixer: ExpertMixer, experts: Experts) -> list[Windows]:
    if not held:
        return []
    pieces, first = [], []
    for alternative in (False, True):
        for windows in held:
            for i in windows.alleles.tolist():
                begin = max(int(changes.low[i]), int(changes.start[i]) - MIXED_CONTEXT)
                pieces.append(changes.haplotype(i, begin, int(changes.length[i]), alternative))
                first.append(int(changes.start[i]) - begin)
    codes, intervals = lay_out(pieces)
    starts = iter(torch.split(torch.from_numpy(intervals[:, 0] + np.array(first)), [len(w.alleles) for w in held] * 2))
    reference, alternative_ = ([next(starts) for _ in held] for _ in range(2))
    where, said = [], []
    for windows, one, two in zip(held, reference, alternative_, strict=True):
        at = torch.stack([one, two])[..., None] + torch.arange(windows.digits.shape[-1])
        where.append(at[windows.scored])
        said.append(windows.log_probs[windows.scored])
    mixed = mixer.mix(experts, codes, intervals, torch.cat(where), torch.cat(said))
    out = []
    for windows, some in zip(held, torch.split(mixed, [len(each) for each in where]), strict=True):
        log_probs = windows.log_probs.clone()
        log_probs[windows.scored] = some
        out.append(windows._replace(log_probs=log_probs))
    return out


def lay_out(pieces: Sequence[Codes]) -> tuple[Codes, Intervals]:
    """Return pieces of sequence end to end, and the interval of each."""
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    starts = np.concatenate([ends[:0], [0], ends[:-1]])
    return np.concatenate(pieces), np.stack([starts, ends], axis=1)


def score_strand_by_counts(model: InterpolatedMarkov, changes: Changes) -> Scores:
    """Return the same difference, (n,) in bits, for the interpolated Markov model.

    A base `HIGHEST` bases after the allele has the same context on both haplotypes. So only the bases up to there are
    read, and those by which one window is longer than the other at its end.
    """
    out = np.zeros(len(changes))
    inserted, length = changes.inserted, changes.length
    pieces: list[Codes] = []
    owner: list[tuple[int, int, int]] = []  # allele, bases of context, sign

    def ask(i: int, piece: Codes, context: int, sign: int) -> None:
        if len(piece) > context:
            pieces.append(piece)
            owner.append((i, context, sign))

    def count() -> None:
        codes, intervals = lay_out(pieces)
        begin = intervals[:, 0] + [context for _, context, _ in owner]
        cost = np.zeros(len(codes))
        for at, log_probs in model.log_probs(codes, intervals):
            cost[at] = log_probs[np.arange(len(at)), codes[at] - 1] / math.log(2)
        total = np.concatenate([[0.0], np.cumsum(cost)])
        np.add.at(out, [i for i, _, _ in owner], [s for _, _, s in owner] * (total[intervals[:, 1]] - total[begin]))
        pieces.clear()
        owner.clear()

    size = 0
    for i in range(len(changes)):
        start, ref, window = int(changes.start[i]), int(changes.ref[i]), int(length[i])
        first = max(int(changes.low[i]), start - HIGHEST)
        after = [window - ref, window - int(inserted[i])]  # bases of the window after each allele
        for alternative, sign in ((False, -1), (True, 1)):
            end = window - after[alternative] + min(after[alternative], HIGHEST)
            ask(i, changes.haplotype(i, first, end, alternative), start - first, sign)
        a, b = (start + ref + max(HIGHEST, each) for each in sorted(after))
        first = max(int(changes.low[i]), a - HIGHEST)
        ask(i, changes.codes[first:b], a - first, 1 if after[1] > after[0] else -1)
        size += 4 * HIGHEST
        if size >= COUNTED_BLOCK or i == len(changes) - 1:
            count()
            size = 0
    return out
