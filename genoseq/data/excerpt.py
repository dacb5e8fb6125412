"""The beginning of a genome, for runs that are to be short."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

from genoseq.data.genome import UNKNOWN, Genome

log = logging.getLogger(__name__)


def excerpt(genome: Genome, bases: int) -> Genome:
    """Return the first `bases` bases of a genome, the last record cut short.

    Parameters
    ----------
    genome : Genome
    bases : int
        At least 1; a genome that has no more is returned as it is, and that is said.

    Returns
    -------
    Genome
        Named ``NAME[0:BASES]``. Its SHA-256 is that of its own letters, an unknown one as N.
    """
    if bases >= len(genome):
        log.warning(
            "data.bases=%s: genome '%s' has %s bases, and all are read.", bases, genome.name, f"{len(genome):,}"
        )
        return genome
    codes = genome.codes[:bases].clone()  # a slice would keep the whole genome in memory
    unknown = int((codes == UNKNOWN).sum())
    return replace(
        genome,
        name=f"{genome.name}[0:{bases}]",
        codes=codes,
        records=tuple(replace(r, length=min(r.length, bases - r.start)) for r in genome.records if r.start < bases),
        sha256=hashlib.sha256(genome.letters(0, bases).encode()).hexdigest(),
        unknown={"N": unknown} if unknown else {},
    )
