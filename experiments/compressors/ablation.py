"""What the mixture's gain comes from: mixers of fewer experts fitted again, and bits by what occurred before."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from experiments import common
from experiments.compressors.plot import difference, is_bare, model
from genoseq.app.checkpoint import load_checkpoint, restore_data, restore_mixer, restore_module
from genoseq.app.runtime import quiet_libraries
from genoseq.baselines.counts import Counts
from genoseq.data.datamodule import GenomeData
from genoseq.data.intervals import as_intervals
from genoseq.errors import UserError, fail
from genoseq.evaluation.blocks import base_metrics
from genoseq.training.mixing import MODES, ExpertMixer, Mixed
from genoseq.training.module import NextToken

LONGEST = (0, 1, 2, 4, 8, 11, 12, 16)
"""Longest contexts that are counted, in bases, before all of them; 0 = none."""
K = 24
CLASSES = ("nowhere before", "only in the test part before it", "in the training or validation part")
"""Where a base's k-mer, the base its last, occurs on either strand."""


class Subset(ExpertMixer):
    """A mixer of some experts. What all of them say of each base is computed once, and kept in `said`."""

    said: dict[bytes, list[Mixed]]
    keep: list[int]

    def _mixed(self, *args: Any) -> Iterator[Mixed]:
        key = b" ".join(each.tobytes() for each in args[3:5])  # asked, counted
        if key not in self.said:
            self.said[key] = list(super()._mixed(*args))
        for mixed in self.said[key]:
            yield mixed._replace(features=mixed.features[:, :, self.keep])


def ablate(module: NextToken, data: GenomeData, settings: dict[str, Any], seed: int) -> pd.DataFrame:
    """Return a row a mixer: its experts, bits per base, and by how many more than with all of them, block by block."""
    said: dict[bytes, list[Mixed]] = {}
    orders, sums, rows = sorted(settings["orders"]), [], []
    lengths = [*(length for length in LONGEST if length < orders[-1]), orders[-1]]
    cases = [(longest, repeats, True) for repeats in (False, True) for longest in lengths]
    for longest, repeats, network in [(orders[-1], True, False), *cases]:
        mixer = Subset(**settings)
        pointers = len(mixer.start) - len(orders) - 1
        kept = [order <= longest for order in orders] + [repeats] * pointers + [network]
        mixer.said, mixer.keep = said, np.flatnonzero(kept).tolist()
        mixer.start = [mixer.start[i] for i in mixer.keep]
        mixer.fit(module, data, seed)
        sums.append(mixer.score(module, data, data))
        rows.append({"longest": longest, "repeats": repeats, "network": network})
    for row, one in zip(rows, sums, strict=True):
        for name, mine, all_of_them in zip(MODES, one, sums[-1], strict=True):
            row[f"{name}/bits_per_base"] = base_metrics(mine)["bits_per_base"]
            row[f"{name}/more"], row[f"{name}/more_error"] = difference(mine, all_of_them)
    return pd.DataFrame(rows)


def by_occurrence(module: NextToken, data: GenomeData, mixer: ExpertMixer) -> pd.DataFrame:
    """Return the share of test bases and each model's bits per base by where the base's k-mer occurs."""
    codes, parts = data.genome.codes.numpy(), data.parts
    counted = as_intervals([*map(tuple, parts.train), *map(tuple, parts.val)])
    where = np.zeros(len(codes), np.uint8)
    for chunk in Counts(codes, counted, [K - 1], both_strands=True).along(codes, parts.test, adaptive=True):
        found = [times[0, np.arange(len(chunk.at)), chunk.digit] > 0 for times in (chunk.seen, chunk.counts)]
        where[chunk.at] = np.where(found[1], 2, found[0])
    sums = np.zeros((len(CLASSES), 4))  # bases; nats of the network, frozen, adaptive
    for mixed, log_probs in mixer.predict(module, data, data):
        network = mixed.features[0, :, -1, :4].log_softmax(-1)
        models = [network, *log_probs]
        nats = [-each.gather(1, mixed.digit[:, None])[:, 0].double().numpy() for each in models]
        for column, values in enumerate([np.ones(len(mixed.at)), *nats]):
            sums[:, column] += np.bincount(where[mixed.at], values, len(CLASSES))
    columns: dict[str, Any] = {"where": CLASSES, "share": sums[:, 0] / sums[:, 0].sum()}
    bits: NDArray[np.float64] = sums[:, 1:] / np.log(2) / np.where(sums[:, :1], sums[:, :1], np.nan)
    names = ("network/bits_per_base", "test/bits_per_base", "adaptive/bits_per_base")
    return pd.DataFrame(columns | dict(zip(names, bits.T, strict=True)))


def main(folder: Path) -> None:
    """Write ablation.csv and occurrences.csv into each finished run of the bare command that lacks them."""
    quiet_libraries()
    runs = common.finished_runs(folder)
    for run in runs.to_dict("records"):
        if not is_bare(model(run)) or (run["folder"] / "occurrences.csv").is_file():
            continue
        print(f"{run['name']}: mixers of fewer experts", file=sys.stderr)
        checkpoint = load_checkpoint(str(run["folder"] / "checkpoints" / "best.ckpt"))
        metadata, mixer = checkpoint["genoseq"], restore_mixer(checkpoint)
        if mixer is None:
            raise UserError(f"the run {run['name']} has no mixer: train it without mixer=none")
        data = restore_data(metadata)
        data.setup("test")
        module = restore_module(checkpoint, data)
        # for the precision that the run had
        module.trainer = Trainer(devices=1, precision=run["precision"], logger=False, enable_checkpointing=False)
        module.to(module.trainer.strategy.root_device)
        settings = {key: value for key, value in metadata["config"]["mixer"].items() if key != "_target_"}
        ablate(module, data, settings, run["seed"]).to_csv(run["folder"] / "ablation.csv", index=False)
        by_occurrence(module, data, mixer).to_csv(run["folder"] / "occurrences.csv", index=False)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except UserError as error:
        fail(str(error))
