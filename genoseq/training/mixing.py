"""The last stage of training: k-mer experts, mixed with a trained network on bases that none of them has counted."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import nll_loss

from genoseq.baselines.counts import LONGEST, Codes
from genoseq.baselines.experts import Experts
from genoseq.baselines.repeats import LONGEST as LONGEST_REPEAT
from genoseq.data.intervals import Intervals, as_intervals, bases, intersect, spread
from genoseq.errors import UserError
from genoseq.evaluation.predict import Predicted, predict
from genoseq.models.mixer import Mixer

if TYPE_CHECKING:
    from genoseq.data.datamodule import GenomeData
    from genoseq.training.module import NextToken

MOST = 1 << 18
"""Bases of the validation part that the weights are fitted to, at most."""
PIECES, PIECE = 4, 1 << 16
"""Pieces of the training part that experts predict without having counted them, and the bases of each, at most."""
LEAD = 256
"""Bases before a piece of a part from which its experts begin, so that they know its first bases' contexts."""
CONSTANT_BELOW = 20_000
"""Bases of the validation part for which the weights are constants: fewer do not tell what they depend on."""
MODES = ("test", "adaptive")
"""Prefixes in result.json of the frozen and the adaptive mixture."""


class Mixed(NamedTuple):
    """Bases with what the experts and, last of them, the network say of them."""

    at: NDArray[np.int64]  # position of each base, (n,)
    digit: Tensor  # the base itself, int64 (n,)
    features: Tensor  # float32 (modes, n, experts, 5)


class ExpertMixer:
    """Mixes a network with k-mer experts and repeat models that have counted the same training part.

    The weights are fitted to the validation part, and to pieces of the training part that are left out of the counts
    for it. Frozen, the mixture learns nothing from the test part; adaptive, it counts what it has read of it, as a
    compressor does, and its weights go on learning.

    Parameters
    ----------
    orders : sequence of int
        Lengths of the contexts whose followers are counted, in bases, at most 24.
    repeat : int
        Bases that have to agree for a repeat model to begin.
    hidden : int
        Hidden units of the network that sets the weights; 0 = constant weights.
    steps, batch_size, lr : int, int, float
        Of the fit (AdamW, one-cycle schedule); the best weights on the last quarter of the validation part are kept.
    online_size, online_lr : int, float
        Bases predicted before the adaptive mixture's weights learn from them, and the learning rate; 0 = never.
    """

    def __init__(
        self,
        orders: Sequence[int],
        repeat: int = 16,
        hidden: int = 16,
        steps: int = 600,
        batch_size: int = 4096,
        lr: float = 0.01,
        online_size: int = 1024,
        online_lr: float = 0.0005,
    ) -> None:
        orders = [orders] if isinstance(orders, int) else orders
        known = all(isinstance(order, int) and 0 <= order <= LONGEST for order in orders)
        if not known or not 0 < len(orders) == len(set(orders)):
            raise UserError(f"mixer.orders must be different whole numbers from 0 to {LONGEST}, got {list(orders)}")
        sizes = {"repeat": repeat, "steps": steps, "batch_size": batch_size, "online_size": online_size}
        for name, value in (sizes | {"hidden": hidden}).items():
            if not isinstance(value, int) or value < (name != "hidden"):
                raise UserError(f"mixer.{name} must be a whole number of at least {int(name != 'hidden')}, got {value}")
        for name, rate in (("lr", lr), ("online_lr", online_lr)):
            if not isinstance(rate, (int, float)) or not 0 <= rate < math.inf:
                raise UserError(f"mixer.{name} must be a number of at least 0, got {rate}")
        if repeat > LONGEST_REPEAT:
            raise UserError(f"mixer.repeat must be at most {LONGEST_REPEAT} bases, got {repeat}")
        self.orders, self.repeat, self.hidden = tuple(orders), repeat, hidden
        self.steps, self.batch_size, self.lr = steps, batch_size, lr
        self.online_size, self.online_lr = online_size, online_lr
        # k-mer experts, two repeat models (a validation part without repeats does not tell their worth), the network
        self.start = [0.0] * len(self.orders) + [0.5, 0.5, 1.0]
        self.net = Mixer(self.start, 0)

    def fit(self, module: NextToken, data: GenomeData, seed: int) -> None:
        """Fit the weights; neither the network nor the experts learn anything more."""
        check_split(data)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._fit(module, data)

    def _fit(self, module: NextToken, data: GenomeData) -> None:
        train, val = data.parts.train, spread(data.parts.val, MOST, PIECE)[0]
        size = min(PIECE, bases(train) // 16)
        pieces = spread(train, PIECES * size, size)[0] if size >= 1000 else train[:0]
        # at most a sixteenth is left out of the counts at a time
        groups = np.array_split(pieces, min(PIECES, -(-16 * bases(pieces) // max(1, bases(train)))) or 1)
        held = [(some, _without(train, some), "train") for some in groups if len(some)]
        asked = [*held, (val, train, "val")]
        # half as precise, to take half the memory
        learn = [[(m.digit, m.features.half()) for m in self._mixed(module, data, data, *some)] for some in asked]
        digit = torch.cat([digits for some in learn for digits, _ in some])
        features = torch.cat([features for some in learn for _, features in some], dim=1)
        fitted = len(digit) - sum(len(digits) for digits, _ in learn[-1]) // 4
        self.net = Mixer(self.start, self.hidden if bases(data.parts.val) >= CONSTANT_BELOW else 0)
        if fitted < 1:
            return
        optimizer = torch.optim.AdamW(self.net.parameters(), self.lr)
        # PyTorch fails at 0.2 of 5 steps
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, self.steps, pct_start=0.21)
        best, kept = self._cost(features[0, fitted:], digit[fitted:]), copy.deepcopy(self.net)
        for step in range(self.steps):
            rows = torch.randint(fitted, (self.batch_size,))
            # frozen and adaptive in turn, so that the weights suit both
            loss = nll_loss(self.net(features[step % 2, rows].float()), digit[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            if (step + 1) % 50 and step + 1 < self.steps:
                continue
            if (cost := self._cost(features[0, fitted:], digit[fitted:])) < best:
                best, kept = cost, copy.deepcopy(self.net)
        self.net = kept

    @torch.no_grad()
    def _cost(self, features: Tensor, digit: Tensor) -> float:
        """Return the nats of held-back bases."""
        pairs = zip(torch.split(features, PIECE), torch.split(digit, PIECE), strict=True)
        return sum(float(nll_loss(self.net(some.float()), those, reduction="sum")) for some, those in pairs)

    def score(self, module: NextToken, data: GenomeData, training_data: GenomeData) -> NDArray[np.float64]:
        """Score the test part of `data` with experts that have counted `training_data`, its validation part included.

        Returns
        -------
        ndarray of float64, shape (modes, blocks, 3)
            Nats, correct bases and bases of each block of the genome: frozen, and adaptive.
        """
        check_split(training_data)
        blocks = data.blocks
        sums = np.zeros((len(MODES), len(blocks), 3))
        for mixed, log_probs in self.predict(module, data, training_data):
            block = blocks.index(mixed.at)
            for out, mode in zip(sums, log_probs, strict=True):
                nats = -mode.gather(1, mixed.digit[:, None])[:, 0].double().numpy()
                correct = (mode.argmax(1) == mixed.digit).numpy()
                for i, values in enumerate((nats, correct, np.ones(len(block)))):
                    out[:, i] += np.bincount(block, values, len(blocks))
        return sums

    def predict(self, module: NextToken, data: GenomeData, training_data: GenomeData) -> Iterator[tuple[Mixed, Tensor]]:
        """Yield the bases of the test part of `data`, and their log-probabilities, float32 (modes, n, 4)."""
        online = copy.deepcopy(self.net)
        optimizer = torch.optim.Adam(online.parameters(), self.online_lr, betas=(0.9, 0.99))
        for mixed in self._mixed(module, data, training_data, data.scored_parts.test, _counted(training_data), "test"):
            frozen, adaptive = mixed.features
            with torch.no_grad():
                unlearned = self.net(frozen)
            read, size = [], self.online_size
            for some, digit in zip(torch.split(adaptive, size), torch.split(mixed.digit, size), strict=True):
                read.append(online(some))
                if self.online_lr:  # from bases that are predicted by now
                    optimizer.zero_grad()
                    torch.autograd.backward(nll_loss(read[-1], digit))
                    optimizer.step()
            yield mixed, torch.stack([unlearned, torch.cat(read).detach()])

    @torch.no_grad()
    def predict_frozen(self, module: NextToken, data: GenomeData, training_data: GenomeData) -> Iterator[Predicted]:
        """Yield the frozen mixture's distribution of each base of the test part of `data`."""
        asked = data.parts.test, _counted(training_data), "test", False
        for mixed in self._mixed(module, data, training_data, *asked):
            yield Predicted(mixed.at, self.net(mixed.features[0]))

    def experts(self, training_data: GenomeData) -> Experts:
        """Return the experts of the frozen mixture, which have counted the training and the validation part."""
        check_split(training_data)
        return Experts(training_data.genome.codes.numpy(), _counted(training_data), self.orders, self.repeat)

    @torch.no_grad()
    def mix(self, experts: Experts, codes: Codes, intervals: Intervals, at: Tensor, log_probs: Tensor) -> Tensor:
        """Return the frozen mixture's distribution of some bases of intervals of any letters.

        Parameters
        ----------
        at : Tensor
            Their positions, each once, int64 (n,).
        log_probs : Tensor
            What the network says of them, (n, 4); it stays where a letter is unknown.
        """
        row_of = torch.full((len(codes),), -1)
        row_of[at] = torch.arange(len(at))
        out = log_probs.clone()
        for said in experts.along(codes, intervals):
            rows = row_of[torch.from_numpy(said.at)]
            asked, rows = rows >= 0, rows[rows >= 0]
            out[rows] = self.net(torch.cat([said.features[0, asked], _network_features(log_probs[rows])], dim=1))
        return out

    def _mixed(
        self,
        module: NextToken,
        data: GenomeData,
        training_data: GenomeData,
        asked: Intervals,
        counted: Intervals,
        stage: str,
        adaptive: bool = True,
    ) -> Iterator[Mixed]:
        """Yield the bases that both the network and experts predict of some pieces of a part."""
        part: dict[str, Any] = {stage: asked}
        predicted = predict(module, data, replace(data.parts, **part), stage)
        at, log_probs = np.zeros(0, np.int64), torch.zeros(0, 4)
        experts = Experts(training_data.genome.codes.numpy(), counted, self.orders, self.repeat)
        for said in experts.along(data.genome.codes.numpy(), _with_lead(asked, data.parts.of(stage)), adaptive):
            while not len(at) or at[-1] < said.at[-1]:
                block = next(predicted, None)
                if block is None:
                    break
                at, log_probs = np.concatenate([at, block.at]), torch.cat([log_probs, block.log_probs])
            if not (end := int(np.searchsorted(at, said.at[-1], side="right"))):
                continue
            rows = np.searchsorted(said.at, at[:end])
            network = _network_features(log_probs[:end]).expand(len(said.features), -1, -1, -1)
            features = torch.cat([said.features[:, rows], network], dim=2)
            yield Mixed(at[:end], torch.from_numpy(said.digit[rows].astype(np.int64)), features)
            at, log_probs = at[end:], log_probs[end:]

    def state(self) -> dict[str, Tensor]:
        """Return the fitted weights, for a checkpoint."""
        return self.net.state_dict()

    def load(self, state: Any) -> None:
        """Load the weights of a checkpoint.

        Raises
        ------
        UserError
            If they are not those of this mixer.
        """
        try:
            if not all(map(_is_plain, state.values())):
                raise TypeError("not float32 weights that the file holds")
            with torch.device("meta"):  # takes no memory, whatever the file says
                self.net = Mixer(self.start, len(state["mlp.0.weight"]) if "mlp.0.weight" in state else 0)
            self.net.load_state_dict(state, assign=True)
        except (RuntimeError, TypeError, AttributeError, KeyError) as error:
            raise UserError("the checkpoint's mixer has other weights than its settings say") from error


def _is_plain(weight: Tensor) -> bool:
    """Return whether a tensor of a file takes as much memory as it says, in the type of a mixer's weights."""
    strided = weight.is_cpu and weight.layout == torch.strided and weight.dtype == torch.float32
    return strided and weight.is_contiguous()


def check_split(data: GenomeData) -> None:
    """Raise `UserError` if experts would have counted the bases that they are to predict."""
    if data.parts.splits_windows:
        raise UserError(
            "mixer=experts counts the training part, which on data/split=random_windows holds the test part's own "
            "bases; add mixer=none"
        )


def _network_features(log_probs: Tensor) -> Tensor:
    """Return a network's distributions (n, 4) as those of one more expert, (n, 1, 5)."""
    return torch.nn.functional.pad(log_probs + math.log(4), (0, 1))[:, None]


def _counted(training_data: GenomeData) -> Intervals:
    """Return what the experts of a finished run count: the training and the validation part."""
    parts = training_data.parts
    return as_intervals([*map(tuple, parts.train), *map(tuple, parts.val)])


def _without(intervals: Intervals, pieces: Intervals) -> Intervals:
    """Return intervals without pieces of them."""
    edges = [0, *pieces.flatten().tolist(), int(intervals.max())]
    return intersect(intervals, as_intervals(list(zip(edges[::2], edges[1::2], strict=True))))


def _with_lead(pieces: Intervals, part: Intervals) -> Intervals:
    """Return pieces of a part with up to `LEAD` bases of it before each, as far as they are in no other piece."""
    row = np.searchsorted(part[:, 0], pieces[:, 0], side="right") - 1
    free = np.maximum(part[row, 0], np.concatenate([[0], pieces[:-1, 1]]))
    return np.stack([np.maximum(pieces[:, 0] - LEAD, free), pieces[:, 1]], axis=1)
