"""Reading, memory and feeding: from a file to a batch on the model's device."""

from __future__ import annotations

import gzip
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.around import made_up
from benchmarks.rows import Row, by_turns, child, rate, seconds
from benchmarks.step import whole_sequence
from genoseq.data.datamodule import GenomeData
from genoseq.data.genome import read_genome
from genoseq.data.split import ContiguousSplit
from genoseq.data.tokenizer import CharTokenizer
from genoseq.data.windows import TrainingWindows
from genoseq.models.lstm import LSTM

# after it has read and set up everything: the memory that is this process's, shared pages divided by who shares them
SET_UP = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from genoseq.app.runtime import trim_heap
from genoseq.data.datamodule import GenomeData
from genoseq.data.split import ContiguousSplit
from genoseq.data.tokenizer import CharTokenizer

def held():
    trim_heap()
    return 1024 * int(next(l.split()[1] for l in open("/proc/self/smaps_rollup") if l.startswith("Pss:")))

genome, seq_len, cache = sys.argv[1], int(sys.argv[2]), sys.argv[3]
before = held()
data = GenomeData(genome, CharTokenizer, ContiguousSplit(), seq_len, cache_dir=cache)
for stage in ("fit", "test"):
    data.setup(stage)
data.trainer = SimpleNamespace(global_rank=0, world_size=1, global_step=0, max_steps=9, accumulate_grad_batches=1)
held_by = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
int(data.genome.codes[::1024].sum())  # every page
if len(sys.argv) > 4:  # until all are here
    Path(sys.argv[4], str(time.time())).touch()
    while len(list(Path(sys.argv[4]).iterdir())) < int(sys.argv[5]):
        time.sleep(0.05)
rise = held() - before
if len(sys.argv) > 4:  # nobody goes before all have looked
    Path(sys.argv[4], f"done{time.time()}").touch()
    while len(list(Path(sys.argv[4]).glob("done*"))) < int(sys.argv[5]):
        time.sleep(0.05)
print("VALUE", rise / (len(data.genome) if len(sys.argv) == 4 else 1))
"""
LIST = """
import sys, torch
from genoseq.data.genome import read_genome
from pathlib import Path
codes = read_genome([Path(sys.argv[1])]).codes[:20000].tolist()
n = int(sys.argv[2])

def held():
    return 1024 * int(next(l.split()[1] for l in open("/proc/self/smaps_rollup") if l.startswith("Pss:")))

before = held()
windows = [(torch.tensor(codes[i : i + n]), torch.tensor(codes[i + 1 : i + n + 1])) for i in range(len(codes) - n)]
print("VALUE", (held() - before) / len(windows))
"""


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """A window an item, as most loaders have it."""

    def __init__(self, tokens: Tensor, seq_len: int) -> None:
        self.tokens, self.seq_len = tokens, seq_len

    def __len__(self) -> int:
        return len(self.tokens) - self.seq_len

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        window = self.tokens[index : index + self.seq_len + 1].long()
        return window[:-1], window[1:]


def feeding(genome: Path, seq_len: int, workers: Sequence[int], least: float) -> Iterator[Row]:
    """Compare batches of 512 windows with a DataLoader's."""
    data = GenomeData(str(genome), CharTokenizer, ContiguousSplit(), seq_len, 512)
    data.setup("fit")
    windows = TrainingWindows(data.parts, data.vocabulary, seq_len, 512, 0)
    steps = iter(range(10**9))

    def feed() -> None:
        data.on_after_batch_transfer(windows[next(steps)])

    for count in workers:
        loader = DataLoader(Windows(data.genome.codes, seq_len), 512, shuffle=True, num_workers=count, drop_last=True)
        batches = iter(loader)
        next(batches)
        calls = (feed, partial(next, batches))
        ours, theirs = by_turns(3, *(partial(rate, call, 512, least) for call in calls))
        what, against = f"feeding, seq_len {seq_len}", f"a DataLoader, {count} workers"
        yield Row(what, against, "windows/s", ours, theirs, ">= 50", "feeding | seq_len", seq_len)
    if seq_len == 10:
        sampler = GenomeData(str(genome), CharTokenizer, ContiguousSplit(), 32, 32, carry_tokens=1024)
        sampler.setup("fit")
        some = TrainingWindows(sampler.parts, sampler.vocabulary, 32, 32, 0, windows_per_segment=32)
        step = whole_sequence(LSTM(5, 16, 256), CharTokenizer(), sampler.on_after_batch_transfer(some[0]).tokens, True)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        ours, theirs = by_turns(
            3,
            lambda: 1e3 / rate(lambda: sampler.on_after_batch_transfer(some[next(steps)]), 1, least),
            lambda: 1e3 / rate(step, 1, least),
        )
        torch.set_num_threads(threads)
        yield Row("feeding the demo", "its step", "ms", ours, theirs, "<= 0.01")


def reading(genome: Path) -> Iterator[Row]:
    """Compare reading FASTA with others' readers, which keep the letters, and count nothing."""
    packed = genome.with_suffix(".fa.gz")
    packed.write_bytes(gzip.compress(genome.read_bytes(), 1))
    for path in (genome, packed):
        kind, size = ("gzip" if path is packed else "plain"), genome.stat().st_size / 1e6
        for peer in ("dnaio", "pyfastx", "Bio"):
            try:
                importlib.import_module(peer)
            except ModuleNotFoundError:
                print(f"{peer} is not installed: its rows are left out")
                continue
            ours, theirs = by_turns(
                3, partial(rate, partial(read_genome, [path]), size), partial(rate, partial(READERS[peer], path), size)
            )
            yield Row(f"reading FASTA, {kind}", f"{peer} alone", "MB/s", ours, theirs, ">= 1")
    cache = genome.parent / "again"
    read_genome([packed], cache=cache)
    calls = (partial(read_genome, [packed], cache=cache), partial(read_genome, [packed]))
    again, first = by_turns(3, *(partial(seconds, call) for call in calls))
    yield Row("reading it again, from the cache", "the first time", "s", again, first, "<= 0.1")


def _dnaio(path: Path) -> int:
    import dnaio

    with dnaio.open(path) as file:
        return sum(len(record.sequence) for record in file)


def _pyfastx(path: Path) -> int:
    import pyfastx

    return sum(len(sequence) for _, sequence in pyfastx.Fastx(str(path)))


def _biopython(path: Path) -> int:
    from Bio import SeqIO

    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return sum(len(str(record.seq)) for record in SeqIO.parse(file, "fasta"))


READERS: dict[str, Callable[[Path], int]] = {"dnaio": _dnaio, "pyfastx": _pyfastx, "Bio": _biopython}


def memory(genome: Path, seq_lens: Sequence[int], cache: Path) -> Iterator[Row]:
    """Measure bytes a base once all stages are set up."""
    bases = genome.stat().st_size * 70 / 71
    for seq_len in seq_lens:
        ours = [child(SET_UP, str(genome), str(seq_len), str(cache)) for _ in range(2)]
        title = "bytes of RAM a base | bases"
        what = f"RAM of {bases / 1e6:,.0f} Mb set up, seq_len {seq_len:,}"
        yield Row(what, "1 byte a base", "bytes a base", ours, [1.0] * 2, "<= 2.2", title, round(bases))


def together(genome: Path, processes: int, cache: Path) -> Row:
    """Compare the memory of several processes on one genome with that of one."""
    totals = []
    for count in (processes, 1):
        with tempfile.TemporaryDirectory() as here:
            command = [sys.executable, "-c", SET_UP, str(genome), "200", str(cache), here, str(count)]
            started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
            said = [process.communicate()[0] for process in started]
        totals.append(sum(float(text.rpartition("VALUE ")[2]) for text in said) / 1e6)
    what = f"RAM of {processes} processes on one genome of 100 Mb"
    return Row(what, "one process", "MB", totals[:1], totals[1:], "<= 1.2")


def rows(quick: bool) -> Iterator[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, cache = made_up(folder / "small.fa", 0.2 if quick else 5.7), folder / "cache"
        for seq_len in (200,) if quick else (10, 200, 5000):
            yield from feeding(small, seq_len, (0,) if quick else (0, 2), 0.05 if quick else 0.5)
        if quick:
            return
        yield from reading(made_up(folder / "read.fa", 25))
        large = made_up(folder / "large.fa", 100)
        yield from memory(small, (10, 50_000), cache)
        yield from memory(large, (10, 50_000), cache)
        ours = [child(SET_UP, str(small), "200", str(cache)) for _ in range(2)]
        lists = [child(LIST, str(small), "200") for _ in range(2)]
        yield Row("RAM set up, seq_len 200", "a list of windows", "bytes a base", ours, lists)
        yield together(large, 8, cache)
