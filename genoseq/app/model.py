"""A trained model to use: what ``genoseq.load`` gives, and what every command after training is thin over."""

from __future__ import annotations

import copy
import glob
from collections.abc import Iterator, Sequence
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from genoseq.app.build import plain
from genoseq.app.checkpoint import load_checkpoint, restore_data, restore_mixer, restore_module
from genoseq.app.runtime import quiet_libraries
from genoseq.baselines.experts import Experts
from genoseq.baselines.markov import InterpolatedMarkov, Seen, fit_interpolated
from genoseq.data.datamodule import GenomeData
from genoseq.data.genome import BASES, Genome, Record
from genoseq.data.intervals import Intervals, as_intervals, inside, overlap, subtract, usable
from genoseq.data.sources import load_genome
from genoseq.data.split import STAGES, Split
from genoseq.data.variants import encode, trim
from genoseq.errors import UserError
from genoseq.evaluation.alleles import score_strand, score_strand_by_counts
from genoseq.evaluation.edits import changes_in
from genoseq.evaluation.embeddings import embed
from genoseq.evaluation.haplotypes import CONTEXT, Changes
from genoseq.evaluation.predict import Predicted, predict

DOWNSTREAM = 128
"""Bases read after an allele, if nothing else is said."""
_COLUMNS = [0, 1, 3, 2]  # A, C, G, T of columns A, C, T, G


class Model:
    """A checkpoint's network and mixer, and the genome and split that they were trained on.

    Parameters
    ----------
    path : str or Path
        Of a checkpoint; best.ckpt of a finished run has the mixer.
    mixer : bool
        Use the checkpoint's mixer, if it has one. It counts the training genome again, which must be at hand.
    trust : sequence of str
        Packages, other than genoseq, whose classes the checkpoint may name.
    **given
        Settings of the data given anew: ``genome_dir``, ``cache_dir``, ``eval_rows``.

    Raises
    ------
    UserError
        If it is not a checkpoint, or names classes that are not trusted.
    """

    letters = "ACGT"
    """What the columns of `log_probs` are."""

    def __init__(self, path: str | Path, mixer: bool = True, trust: Sequence[str] = (), **given: Any) -> None:
        quiet_libraries()
        self.path, self._trust, self._given = Path(path), trust, given
        self._checkpoint = load_checkpoint(str(path))
        self._training = self._restore()
        self.vocabulary, self.tokenizer = self._training.vocabulary, self._training.tokenizer
        self.mixer = restore_mixer(self._checkpoint, trust) if mixer else None
        self.lender: Model | None = None
        """A model whose training genome this one uses where it is the same: it is read once then."""

    def _restore(self) -> GenomeData:
        return restore_data(self._checkpoint["genoseq"], self._trust, **self._given)

    @property
    def genome_sha256(self) -> str:
        """SHA-256 of the letters of the genome that it was trained on."""
        sha256: str = self._checkpoint["genoseq"]["genome"]["sha256"]
        return sha256

    @property
    def training_split(self) -> Split:
        """The split that it was trained with."""
        return self._training.split

    @cached_property
    def training_data(self) -> GenomeData:
        """What the model was trained on, split as in training.

        Raises
        ------
        UserError
            If the genome cannot be had, or has changed.
        """
        metadata = self._checkpoint["genoseq"]["genome"]
        data = self._training
        if self.lender is not None and self.lender.genome_sha256 == self.genome_sha256:
            data.genome = self.lender.training_data.genome
        if data.genome.sha256 != metadata["sha256"]:
            raise UserError(
                f"the checkpoint's genome '{metadata['name']}' has changed: {data.genome.source} is another sequence "
                "than the one trained on"
            )
        _ = data.parts
        return data

    @cached_property
    def module(self) -> Any:
        """The network with its weights in float32, on a GPU where there is one."""
        data = self._restore()
        data.test_on(genome_of("A" * data.span), as_intervals([(0, data.span)]))
        module = restore_module(self._checkpoint, data, self._trust).float().eval()
        return module.to("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def imm(self) -> InterpolatedMarkov:
        """The interpolated Markov model of the same training part."""
        data = self.training_data
        if data.parts.splits_windows:
            raise UserError(
                "the checkpoint was trained on data/split=random_windows, whose training part holds every base: train "
                "on another split to score sequence"
            )
        return fit_interpolated(Seen.of(data.genome.codes.numpy(), data.parts.train, data.parts.val))

    @cached_property
    def experts(self) -> Experts | None:
        """The mixer's experts."""
        return self.mixer.experts(self.training_data) if self.mixer else None

    def data(self, genome: Genome, intervals: Intervals) -> GenomeData:
        """Return intervals of a genome as the test part of data with the checkpoint's tokens."""
        data = copy.copy(self._training)
        data.test_on(genome, intervals)
        return data

    def predict(self, genome: Genome, intervals: Intervals) -> Iterator[Predicted]:
        """Yield the distribution of each base that is predicted of intervals of a strand, in order.

        Not the first bases of an interval, nor, where tokens cover several, those beside unknown letters.
        """
        data = self.data(genome, intervals)
        if self.mixer:
            yield from self.mixer.predict_frozen(self.module, data, self.training_data)
        else:
            yield from predict(self.module, data, data.parts, "test")

    def score_changes(self, changes: Changes, checkpoints: Sequence[int] | None = None) -> NDArray[np.float64]:
        """Return the scores of a strand's alleles in bits; see `genoseq.evaluation.alleles.score_strand`."""
        return score_strand(self.module, self.tokenizer, changes, self.mixer, self.experts, checkpoints)

    def score_changes_by_counts(self, changes: Changes) -> NDArray[np.float64]:
        """Return the interpolated Markov model's scores."""
        return score_strand_by_counts(self.imm, changes)

    def score(
        self, sequence: str, variants: Sequence[tuple[int, str, str]], downstream: int = DOWNSTREAM
    ) -> NDArray[np.float64]:
        """Return how much less likely variants make a sequence, each alone, in bits, float64 (n,).

        log2 p(alternative) - log2 p(reference) over the allele and `downstream` bases after it, mean of both strands.

        Parameters
        ----------
        variants : sequence of (int, str, str)
            Position (1-based), reference and alternative letters, as in a VCF; ``(3, "AC", "A")`` deletes a base.

        Raises
        ------
        UserError
            If the reference letters are not the sequence's, or an allele has other letters than A, C, G, T.
        """
        genome = genome_of(sequence)
        start, ref, alt = [], [], []
        for pos, have, new in variants:
            if pos < 1 or sequence[pos - 1 : pos - 1 + len(have)].upper() != have.upper():
                raise UserError(f"the sequence does not have {have} at {pos}; positions count from 1")
            first, have, new = trim(have.upper(), new.upper())
            if not set(have + new) <= set(BASES):
                raise UserError(f"a variant at {pos} has other letters than A, C, G and T")
            start.append(pos - 1 + first)
            ref.append(len(have))
            alt.append(encode(new))
        changes = changes_in(genome, np.array(start, np.int64), np.array(ref, np.int64), alt, downstream).left_aligned()
        other = changes.reverse_complement(genome.reverse_complement().codes.numpy())
        return (self.score_changes(changes) + self.score_changes(other)) / 2

    def embed(self, sequence: str, pooling: str = "mean") -> NDArray[np.float32]:
        """Return the network's last hidden states pooled over a sequence, the mean of both strands, float32 (D,)."""
        genome = genome_of(sequence)
        vector: NDArray[np.float32] = self.embed_regions(
            genome, genome.reverse_complement(), [(0, 0, len(genome))], pooling
        )[0]
        return vector

    def embed_regions(
        self, genome: Genome, other_strand: Genome, regions: Sequence[tuple[int, int, int]], pooling: str = "mean"
    ) -> NDArray[np.float32]:
        """Return the states pooled over regions, (first base of its record, start, end), the mean of both strands."""
        n, ends = len(genome), {record.start: record.end for record in genome.records}
        turned = [(n - ends[low], n - end, n - start) for low, start, end in regions]
        one = embed(self.module, self.tokenizer, genome.codes.numpy(), regions, pooling)
        two = embed(self.module, self.tokenizer, other_strand.codes.numpy(), turned, pooling)
        return (one + two) / np.float32(2)

    def log_probs(self, sequence: str) -> NDArray[np.float32]:
        """Return ln p of A, C, G and T at each base of a sequence given those before it, float32 (L, 4).

        A base that is not predicted (the first of the sequence, or beside an unknown letter) has 1/4 of each.
        """
        genome = genome_of(sequence)
        out = np.full((len(genome), 4), np.log(0.25), dtype=np.float32)
        if len(genome) > self.vocabulary.span(0):
            for said in self.predict(genome, as_intervals([(0, len(genome))])):
                out[said.at] = said.log_probs.numpy()[:, _COLUMNS]
        return out


class Models:
    """Checkpoints and a genome to use them on: each position is scored by a model that has not seen it, or is marked.

    Of folds, a position has the one in whose test part it lies. Another genome has the mean of all.

    Parameters
    ----------
    paths : str or sequence of str
        Checkpoints, or patterns of their names.
    genome : str or sequence of str, optional
        As ``data.genome``; the checkpoints' own if left out.
    **kwargs
        As of `Model`.
    """

    def __init__(self, paths: str | Sequence[str], genome: str | Sequence[str] | None = None, **kwargs: Any) -> None:
        self.models = [Model(path, **kwargs) for path in _expanded([paths] if isinstance(paths, str) else paths)]
        first = self.models[0]
        for model in self.models[1:]:
            model.lender = first
        if genome is None:
            self.genome = first.training_data.genome
        else:
            folders = {key: kwargs.get(key) for key in ("genome_dir", "cache_dir")}
            self.genome = load_genome(genome, **folders)
        self.own = all(model.genome_sha256 == self.genome.sha256 for model in self.models)
        """Whether the genome is the one that all models were trained on."""
        if any(model.genome_sha256 != first.genome_sha256 for model in self.models):
            raise UserError("the checkpoints were trained on different genomes: give those of one sweep over folds")
        for model in self.models if self.own else []:
            if model.training_data.parts.splits_windows:
                raise UserError(f"{model.path} was trained on data/split=random_windows: no position is held out")

    def owners(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the model that scores each position; -1 for the mean of all, which scores another genome."""
        owner = np.full(len(positions), 0 if self.own else -1)
        for number, model in reversed(list(enumerate(self.models if self.own else []))):
            owner[inside(model.training_data.parts.test, positions)] = number
        return owner

    def parts(self, positions: NDArray[np.int64], ends: NDArray[np.int64] | None = None) -> NDArray[np.str_]:
        """Return where each position lies for the model that scores it: test, val, train, gap, or other_genome.

        With `ends`, where the stretch from each position lies; mixed if not wholly in one of them.
        """
        ends = positions + 1 if ends is None else ends
        out = np.full(len(positions), "gap" if self.own else "other_genome", dtype="<U12")
        owner = self.owners(positions)
        for number, model in enumerate(self.models if self.own else []):
            for stage in STAGES:
                inner = overlap(model.training_data.parts.of(stage), positions, ends)
                out[(owner == number) & (inner > 0)] = "mixed"
                out[(owner == number) & (inner == ends - positions)] = stage
        return out

    def score(self, changes: Changes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scores of alleles of the genome's own strand, and the count model's: means of both strands.

        Returns
        -------
        scores, by_counts : ndarray of float64, (n,)
            log2 p(alternative haplotype) - log2 p(reference haplotype), in bits.
        """
        owner = self.owners(changes.start)
        out = np.zeros((2, len(changes)))
        for number, model in enumerate(self.models):
            index = np.flatnonzero((owner == number) | (owner < 0))
            mine = changes.take(index).left_aligned()
            share = np.where(owner[index] < 0, len(self.models), 1) * 2
            for strand in (mine, mine.reverse_complement(self._other_strand)) if len(index) else ():
                out[0, index] += model.score_changes(strand) / share
                out[1, index] += model.score_changes_by_counts(strand) / share
        return out[0], out[1]

    def distributions(self, start: int, end: int) -> NDArray[np.float64]:
        """Return p(A), p(C), p(G), p(T) of bases `start` to `end` of one record, (n, 4), the mean of both strands.

        Each strand reads `CONTEXT` bases before them first, fewer at the record's edge; 1/4 where nothing is predicted.
        """
        record = next(record for record in self.genome.records if start < record.end)
        owner = int(self.owners(np.array([(start + end) // 2]))[0])
        models, n = self.models if owner < 0 else [self.models[owner]], len(self.genome)
        out = np.zeros((end - start, 4))
        other = self.genome.reverse_complement()
        for model in models:
            for genome, lo, hi in ((self.genome, start, end), (other, n - end, n - start)):
                edge = record.start if genome is self.genome else n - record.end
                p = np.full((hi - lo, 4), 0.25)
                for said in model.predict(genome, as_intervals([(max(edge, lo - CONTEXT), hi)])):
                    keep = said.at >= lo
                    p[said.at[keep] - lo] = said.log_probs.exp().numpy()[keep][:, _COLUMNS]
                # T, G, C, A in reverse on the other strand
                out += (p if genome is self.genome else p[::-1, ::-1]) / (2 * len(models))
        return out

    @cached_property
    def _other_strand(self) -> NDArray[np.uint8]:
        codes: NDArray[np.uint8] = self.genome.reverse_complement().codes.numpy()
        return codes

    @cached_property
    def held_out(self) -> list[tuple[list[Model], Intervals]]:
        """The genome's intervals that no model has seen, none of them twice, with the models that score each list."""
        if not self.own:
            return [(self.models, usable(self.genome, self.models[0].training_split.unknown_run))]
        tests = [model.training_data.parts.test for model in self.models]
        return [([model], reduce(subtract, tests[:i], tests[i])) for i, model in enumerate(self.models)]


def models_of(cfg: DictConfig) -> Models:
    """Return the checkpoints and the genome that a command's config names."""
    if (mixer := cfg.get("mixer")) not in ("checkpoint", None):
        raise UserError("mixer must be checkpoint or none: the mixer is the checkpoint's own")
    given = {key: cfg.data[key] for key in ("genome_dir", "cache_dir") if cfg.data[key] is not None}
    genome = plain(cfg.data.get("genome"))
    return Models(plain(cfg.ckpt), genome, mixer=mixer == "checkpoint", trust=plain(cfg.trust), **given)


def _expanded(paths: Sequence[str]) -> list[str]:
    """Return the files that paths and patterns name, in order; what matches nothing stays, for its own message."""
    found = (sorted(glob.glob(path)) or [path] for path in paths)  # noqa: PTH207  (Path.glob takes no absolute pattern)
    return list(dict.fromkeys(path for some in found for path in some))


def genome_of(sequence: str, name: str = "sequence") -> Genome:
    """Return a sequence of letters as a genome of one record; what is not A, C, G or T is unknown."""
    codes = encode(sequence)
    return Genome(name, torch.from_numpy(codes), (Record(name, 0, len(codes)),), "", {}, ())


def load(path: str | Path, mixer: bool = True, trust: Sequence[str] = ()) -> Model:
    """Return the model of a checkpoint: ``log_probs(sequence)``, ``score(sequence, variants)``, ``embed(sequence)``."""
    return Model(path, mixer, trust)
