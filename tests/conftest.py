"""Helpers that several rooms' tests share."""

import os
import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import settings

from genoseq.data.fasta import BASES
from genoseq.data.genome import Genome, Record

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
        made.append(Record(record, at, len(text), record))
        at += len(text)
    return Genome(name, codes, tuple(made), "0" * 64, {}, f"{name}.fa")


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
def reverse_complement() -> Callable[[str], str]:
    """A function from letters to the other strand's, N staying N."""
    pairs = str.maketrans("ACGTN", "TGCAN")
    return lambda text: text[::-1].translate(pairs)
