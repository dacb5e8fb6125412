"""Keeps the console for what concerns the user."""

from __future__ import annotations

import logging
import warnings


def quiet_libraries() -> None:
    """Keep Lightning's hardware report, tips and internal deprecations off the console; its warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in (
        ".*isinstance.treespec, LeafSpec..*",  # Lightning inside PyTorch's pytree
        ".*does not have many workers.*",  # there is nothing for a worker to do: a batch is a few integers
        ".*dataloader is not resumable.*",  # ours is a function of the step
        ".*exists and is not empty.*",  # the folder was claimed by OutputFolder
        ".*`training_step` returned `None`.*",  # a batch without a target
        ".*sync_dist=True.*",  # the figures are summed over ranks before they are logged
    ):
        warnings.filterwarnings("ignore", message=text)
