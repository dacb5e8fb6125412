"""Helpers that several rooms' tests share."""

import importlib
import io
import json
import logging
import os
import random
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import settings

from genoseq.data.fasta import BASES
from genoseq.data.genome import Genome, Record

torch.set_num_threads(1)  # the networks here are tiny: more threads would only wait for one another
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same for runs in processes of their own

settings.register_profile("local", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def _make_genome(records: str | dict[str, str], name: str = "small") -> Genome:
    """Return a genome from letters, or from letters by record name."""
    parts = {"one": records} if isinstance(records, str) else records
    letters = "".join(parts.values())
    codes = torch.tensor([BASES.find(letter) + 1 for letter in letters], dtype=torch.uint8)
    made, at = [], 0
    for record, text in parts.items():
        made.append(Record(record, at, len(text)))
        at += len(text)
    return Genome(name, codes, tuple(made), "0" * 64, {}, (Path(f"{name}.fa"),))


def _letters(n: int, seed: int = 0, alphabet: str = "ACGT") -> str:
    """Return `n` letters drawn evenly."""
    return "".join(random.Random(seed).choices(alphabet, k=n))


@pytest.fixture(scope="session")
def make_genome() -> Callable[..., Genome]:
    """A function from letters (or letters by record name) to a genome."""
    return _make_genome


@pytest.fixture(scope="session")
def letters() -> Callable[..., str]:
    """A function from (n, seed) to n random letters."""
    return _letters


@pytest.fixture(scope="session")
def genome_of_codes() -> Callable[..., Genome]:
    """A function from letter ids, uint8 (n,), to a genome of one record."""
    return lambda codes: Genome("some", torch.from_numpy(codes.copy()), (Record("one", 0, len(codes)),), "", {}, ())


@pytest.fixture(scope="session")
def reverse_complement() -> Callable[[str], str]:
    """A function from letters to the other strand's, N staying N."""
    pairs = str.maketrans("ACGTN", "TGCAN")
    return lambda text: text[::-1].translate(pairs)


@dataclass(frozen=True)
class Ran:
    """How a verb ended: its exit code, what it printed, and its folder."""

    code: int
    out: str
    err: str
    folder: Path

    def json(self, name: str = "result.json") -> dict[str, Any]:
        """Return a file of the run's folder."""
        content: dict[str, Any] = json.loads((self.folder / name).read_text())
        return content


def _run_verb(verb: str, folder: Path, *overrides: object) -> Ran:
    """Run ``python -m genoseq.VERB hydra.run.dir=FOLDER OVERRIDES`` in this process."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    module = importlib.import_module(f"genoseq.{verb}")
    argv = [f"genoseq-{verb}", *map(str, overrides), f"hydra.run.dir={folder}"]
    root, code = logging.getLogger(), 0
    handlers, level = root.handlers[:], root.level
    GlobalHydra.instance().clear()
    out, err = io.StringIO(), io.StringIO()
    try:
        with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
            module.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
    return Ran(code, out.getvalue(), err.getvalue(), folder)


@pytest.fixture(scope="session")
def run_verb() -> Callable[..., Ran]:
    """A function from (verb, folder, overrides…) to how the command ended."""
    return _run_verb


TINY = (
    "model.embed_dim=8",
    "model.hidden_size=16",
    "data.seq_len=32",
    "data.batch_size=8",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_steps=4",
    "trainer.log_every_n_steps=2",
    "trainer.val_every=1.0",
    "data.eval_rows=4",
    "data.eval_warmup=64",
    "baseline=false",
    "mixer=none",
    "logger=none",
)


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Overrides for a run of a few steps and no count models."""
    return TINY
