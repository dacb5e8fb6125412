"""Compose a command's config as Hydra does, without starting the command."""

from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from genoseq.app import resolvers
from genoseq.app.cli import conf_dir


def compose(*overrides: str, root: str = "train") -> DictConfig:
    """Return the config of ``python -m genoseq.ROOT OVERRIDES``."""
    resolvers.register()
    here = [f"hydra.runtime.output_dir={Path.cwd()}", f"hydra.job.name={root}"]  # what Hydra's job would know
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = hydra.compose(root, [*here, *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    OmegaConf.set_struct(cfg, False)
    cfg.pop("hydra")
    return cfg
