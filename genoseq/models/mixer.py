"""The mixer: a log-linear mixture of experts' base distributions, whose weights depend on what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Mixer(nn.Module):
    """ln p(x) = b(x) + the sum of w_i ln p_i(x) over the experts i, normalised; w and b depend on the experts.

    Mixing in the logistic domain is what context-mixing compressors do (Mahoney, "Adaptive weighing of context models
    for lossless data compression", 2005). Here a small network sees three numbers of each expert (how far its
    distribution is from even, its largest log-ratio, its confidence) and moves the weights. It does not see which
    letters are meant: a mixer that did learnt a short validation part by heart.

    Parameters
    ----------
    start : sequence of float
        Weight of each expert before the fit.
    hidden : int
        Hidden units; 0 = constant weights.
    """

    def __init__(self, start: Sequence[float], hidden: int) -> None:
        super().__init__()
        experts = len(start)
        self.base = nn.Parameter(torch.tensor([*start, 0.0, 0.0, 0.0, 0.0]))
        self.mlp = None
        if hidden:
            last = nn.Linear(hidden, experts + 4)
            self.mlp = nn.Sequential(nn.Linear(3 * experts, hidden), nn.ReLU(), last)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return the mixture's log-probabilities of A, C, T, G, (n, 4).

        Parameters
        ----------
        features : Tensor
            What each expert says of each base: four log-ratios ln(4 p) and its confidence; (n, experts, 5).
        """
        ratio, confidence = features[..., :4], features[..., 4]
        weight = self.base.expand(len(features), -1)
        if self.mlp is not None:
            divergence = ((ratio - math.log(4)).exp() * ratio).sum(-1)
            weight = weight + self.mlp(torch.cat([divergence, confidence, ratio.amax(-1)], -1))
        experts = features.shape[1]
        return ((weight[:, :experts, None] * ratio).sum(1) + weight[:, experts:]).log_softmax(-1)
