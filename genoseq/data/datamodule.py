"""The DataModule: start positions in, gathered tokens out. No worker, no list of windows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from genoseq.data.blocks import Blocks
from genoseq.data.cache import cached
from genoseq.data.fetch import cache_folder
from genoseq.data.genome import Genome
from genoseq.data.intervals import Intervals, bases, spread, usable
from genoseq.data.sources import load_genome
from genoseq.data.split import Parts, Split, check_count
from genoseq.data.tokenizer import KmerTokenizer, Tokenizer, token_dtype
from genoseq.data.windows import (
    Batch,
    Gather,
    StepSampler,
    StreamChunks,
    Streams,
    TrainingWindows,
    fit_windows_per_segment,
    interval_streams,
    window_streams,
)
from genoseq.errors import UserError

log = logging.getLogger(__name__)


class GenomeData(LightningDataModule):
    """A genome, its tokens, its split, and the windows of each stage.

    Parameters
    ----------
    genome : str or sequence of str
        As `load_genome` takes it.
    tokenizer : callable
        Called with `k` and `stride` (bases a token, bases from one to the next), returns a `Tokenizer`.
    seq_len : int
        Inputs a window, in tokens.
    batch_size : int
        Windows a step on each device.
    reverse_complement : bool
        Train on both strands.
    carry_tokens : int
        Tokens a segment: a training row reads the windows of a segment one after another with the state carried
        (truncated back-propagation through time) before it moves on; 0 = each window from the zero state.
    carry_state : bool
        Validate and test on whole intervals with the state carried; False = on separate windows from the zero state.
        ``random_windows`` always uses separate windows.
    eval_rows, eval_chunk, eval_warmup : int
        Streams side by side, predictions a chunk, predictions that warm a stream up.
    eval_windows : int
        Separate windows scored at most.
    val_bases, eval_bases : int or None
        Bases of the validation and of the test part that are scored, in evenly spread pieces; None = all. Not for
        ``random_windows``.
    genome_dir, cache_dir : str or None
        Folders in which named genomes and downloads are looked for.
    bases : int or None
        Read the genome's first so many bases only, if it has more; None = all.
    """

    def __init__(
        self,
        genome: str | Sequence[str],
        tokenizer: Callable[..., Tokenizer],
        split: Split,
        seq_len: int = 256,
        batch_size: int = 64,
        seed: int = 0,
        k: int = 1,
        stride: int = 1,
        reverse_complement: bool = True,
        carry_tokens: int = 0,
        carry_state: bool = True,
        eval_rows: int = 64,
        eval_chunk: int = 128,
        eval_warmup: int = 1024,
        eval_windows: int = 4096,
        val_bases: int | None = 300_000,
        eval_bases: int | None = 1_200_000,
        genome_dir: str | None = None,
        cache_dir: str | None = None,
        bases: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"seq_len": seq_len, "batch_size": batch_size, "eval_rows": eval_rows, "eval_chunk": eval_chunk}
        sizes |= {"eval_windows": eval_windows}
        limits = {"val_bases": val_bases, "eval_bases": eval_bases, "bases": bases}
        sizes |= {name: limit for name, limit in limits.items() if limit is not None}
        for name, size in sizes.items():
            check_count(name, size)
        check_count("eval_warmup", eval_warmup, least=0)
        check_count("carry_tokens", carry_tokens, least=0)
        if not isinstance(seed, int):
            raise UserError(f"seed must be a whole number, got {seed}")
        self.spec = genome if isinstance(genome, str) else list(genome)
        self.tokenizer, self.split = tokenizer(k=k, stride=stride), split
        self.vocabulary = self.tokenizer.vocabulary
        self.seq_len, self.batch_size, self.seed = seq_len, batch_size, seed
        self.reverse_complement, self.carry_tokens, self.carry_state = reverse_complement, carry_tokens, carry_state
        self.eval_rows, self.eval_chunk, self.eval_warmup = eval_rows, eval_chunk, eval_warmup
        self.eval_windows, self.val_bases, self.eval_bases = eval_windows, val_bases, eval_bases
        self.genome_dir, self.cache_dir, self.bases = genome_dir, cache_dir, bases
        self.span = self.vocabulary.span(seq_len)
        self._gather: Gather | None = None

    @cached_property
    def genome(self) -> Genome:
        """The genome, read on first use."""
        genome = load_genome(self.spec, genome_dir=self.genome_dir, cache_dir=self.cache_dir)
        if self.bases is not None:
            genome = genome.excerpt(self.bases)
        longest = max(genome.records, key=lambda record: record.length)
        if longest.length < self.span:
            raise UserError(
                f"the longest record of genome '{genome.name}' ({genome.source}), '{longest.name}', has "
                f"{longest.length:,} bases and a window of data.seq_len={self.seq_len} needs {self.span:,}; lower "
                "data.seq_len or give a longer sequence"
            )
        return genome

    @cached_property
    def blocks(self) -> Blocks:
        """What test scores are kept apart by."""
        return Blocks.of(self.genome)

    @cached_property
    def parts(self) -> Parts:
        """The split of the genome, made on first use."""
        return self.split(self.genome, self.span, self.seed)

    @property
    def scored_parts(self) -> Parts:
        """The parts, of a long validation or test part the pieces that are scored."""
        if self.parts.splits_windows:
            return self.parts
        for name, most in (("val_bases", self.val_bases), ("eval_bases", self.eval_bases)):
            if most is not None and most < self.span:
                raise UserError(
                    f"data.{name}={most} is less than a window of data.seq_len={self.seq_len}: {self.span:,}"
                )
        val, test = self.parts.val, self.parts.test
        piece = max(4096, 4 * self.span)  # where windows are scored one by one, most of a piece is in one
        val = val if self.val_bases is None else spread(val, self.val_bases, piece)[0]
        test = test if self.eval_bases is None else spread(test, self.eval_bases, piece)[0]
        return replace(self.parts, val=val, test=test)

    def test_on_all(self) -> None:
        """Make the whole genome the test part, for weights that were trained on another (or on an excerpt of one)."""
        if self.bases is not None:
            self.bases = None
            self.__dict__.pop("genome", None)  # an excerpt that may have been read
        whole = usable(self.genome, self.split.unknown_run)
        shortest = self.vocabulary.span(1) if self.carry_state else self.span
        lengths = whole[:, 1] - whole[:, 0]
        fits = lengths >= shortest
        if not fits.any():
            raise UserError(f"genome '{self.genome.name}' ({self.genome.source}) has no interval of {shortest:,} bases")
        if lost := int(lengths[~fits].sum()):
            log.warning("%s bases lie in pieces too short to score (under %s bases) and are left out.", lost, shortest)
        self.parts = Parts(train=whole[:0], val=whole[:0], test=whole[fits])

    def test_on(self, genome: Genome, intervals: Intervals) -> None:
        """Make some intervals of a genome at hand the test part."""
        self.genome, self.parts = genome, Parts(train=intervals[:0], val=intervals[:0], test=intervals)
        self.__dict__.pop("blocks", None)
        self._gather, self.eval_bases = None, None
        self.setup("test")

    def prepare_data(self) -> None:
        """Read (and, once, fetch) the genome."""
        _ = self.genome

    def setup(self, stage: str) -> None:
        """Read, split and tokenize, once."""
        _ = self.parts
        if self._gather is None:
            self._gather = Gather(self._tokens(), self.tokenizer.reverse_complement(), self.vocabulary.stride)

    def _tokens(self) -> Tensor:
        """Return the token at every base; those of a large genome from the cache, which all processes share."""
        genome, v, encode = self.genome, self.vocabulary, self.tokenizer.encode
        if type(self.tokenizer) is not KmerTokenizer or not genome.sha256:
            return encode(genome.codes)
        cache, name = cache_folder(self.cache_dir), f"{genome.sha256}.{v.k}mers"
        return cached(cache, name, len(genome), token_dtype(v), lambda: encode(genome.codes))

    @property
    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def steps_of(self, passes: float) -> int:
        """Return the steps of one device in which so many times the training part's bases are read."""
        return math.ceil(passes * bases(self.parts.train) / (self.batch_size * self.seq_len * self.vocabulary.stride))

    @property
    def windows_per_segment(self) -> int:
        """Windows a training segment: `carry_tokens`' worth, fewer where the training part is in short pieces."""
        wanted = max(1, self.carry_tokens // self.seq_len)
        return fit_windows_per_segment(self.parts, self.vocabulary, self.seq_len, wanted)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the batches from the trainer's own step to its last."""
        assert self.trainer is not None
        if self.trainer.max_steps < 0:
            raise UserError(f"trainer.max_steps must be a number of steps, got {self.trainer.max_steps}")
        windows = TrainingWindows(
            self.parts,
            self.vocabulary,
            self.seq_len,
            self.batch_size,
            self.seed,
            *self._rank,
            self.reverse_complement,
            self.windows_per_segment,
        )
        batches = self.trainer.accumulate_grad_batches
        first, total = self.trainer.global_step * batches, self.trainer.max_steps * batches
        return DataLoader(windows, batch_size=None, sampler=StepSampler(first, total))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation part as streams or windows."""
        return self._eval_dataloader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test part as streams or windows."""
        return self._eval_dataloader("test")

    def _eval_dataloader(self, stage: str) -> DataLoader[Batch]:
        streams = self.streams(self.scored_parts, stage, self.eval_rows * self._rank[1])
        return DataLoader(self.chunks(streams, *self._rank), batch_size=None, shuffle=False)

    def streams(self, parts: Parts, stage: str, rows: int) -> Streams:
        """Return what is scored of pieces of a part: about `rows` streams with the state carried, or separate windows.

        The state is warmed up on the bases before a piece.
        """
        v = self.vocabulary
        if self.carry_state and not parts.splits_windows:
            return interval_streams(parts.of(stage), self.parts.of(stage), v.k, v.stride, rows, self.eval_warmup)
        return window_streams(parts, stage, self.span, self.seq_len, self.eval_windows, self.seed)

    def chunks(self, streams: Streams, rank: int = 0, world_size: int = 1) -> StreamChunks:
        """Return the evaluation batches of streams."""
        stride = self.vocabulary.stride
        return StreamChunks(streams, self.blocks, self.eval_rows, self.eval_chunk, stride, rank, world_size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Gather the batch's tokens where the model lives."""
        assert self._gather is not None
        if self._gather.tokens.device != batch.starts.device:
            self._gather = self._gather.to(batch.starts.device)
        batch.tokens = self._gather(batch)
        return batch
