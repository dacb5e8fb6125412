import hashlib
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genoseq.data.blocks import Blocks
from genoseq.data.datamodule import GenomeData
from genoseq.data.intervals import bases, inside, intersect
from genoseq.data.split import STAGES, ContiguousSplit, RandomWindowsSplit
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.data.windows import StreamChunks, interval_streams
from genoseq.errors import UserError

TOKENIZERS = [
    {"tokenizer": CharTokenizer},
    {"tokenizer": KmerTokenizer, "k": 3},
    {"tokenizer": KmerTokenizer, "k": 3, "stride": 3},
    {"tokenizer": KmerTokenizer, "k": 3, "stride": 2},
]


@pytest.fixture(scope="module")
def text(letters):
    a = letters(4000)
    return {"a": a[:3100] + "N" * 12 + a[3112:3600] + "NN" + a[3602:], "b": letters(1500, 1)}


@pytest.fixture(scope="module")
def fasta(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "two.fa"
    path.write_text("".join(f">{name} some words\n{letters}\n" for name, letters in text.items()))
    return str(path)


@pytest.fixture
def make_data(fasta):
    def make(split=None, world=(0, 1), max_steps=5, done=0, accumulate=1, **kwargs):
        options = {"seq_len": 16, "batch_size": 4, "eval_rows": 3, "eval_chunk": 100, "eval_warmup": 64} | kwargs
        options.setdefault("tokenizer", CharTokenizer)
        data = GenomeData(fasta, split=split or ContiguousSplit(0.3, 0.1), **options)
        data.setup("fit")
        data.trainer = SimpleNamespace(
            global_rank=world[0],
            world_size=world[1],
            global_step=done,
            max_steps=max_steps,
            accumulate_grad_batches=accumulate,
        )
        return data

    return make


def slow_token(text: str, position: int, v) -> int:
    """Return the documented token at one position of the whole genome's letters."""
    kmer = text[position : position + v.k]
    if len(kmer) < v.k or "N" in kmer:
        return v.unknown
    if v.first:
        return "ACTG".index(kmer) + 1
    return sum("ACTG".index(letter) * 4 ** (v.k - 1 - j) for j, letter in enumerate(kmer))


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_training_tokens_are_those_of_the_windows_bases(make_data, text, reverse_complement, tokenizer):
    data = make_data(**tokenizer, max_steps=6)
    v, whole = data.vocabulary, "".join(text.values())
    batches = list(data.train_dataloader())
    assert [batch.step for batch in batches] == [0, 1, 2, 3, 4, 5]
    strands = set()
    for batch in batches:
        tokens = data.on_after_batch_transfer(batch, 0).tokens
        assert tokens.shape == (4, 17)
        for row, start, flip in zip(tokens.tolist(), batch.starts.tolist(), batch.flip.tolist(), strict=True):
            bases = whole[start : start + data.span]
            bases = reverse_complement(bases) if flip else bases
            assert row == [slow_token(bases, i * v.stride, v) for i in range(17)]
            assert any(a <= start and start + data.span <= b for a, b in data.parts.train.tolist())
            strands.add(flip)
    assert strands == {True, False}


@pytest.mark.parametrize(("rows", "chunk", "world"), [(3, 100, 1), (1, 7, 1), (64, 4096, 1), (2, 50, 2), (64, 33, 3)])
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_ranks_together_score_every_prediction_once(make_data, text, tokenizer, rows, chunk, world):
    whole, seen = "".join(text.values()), []
    for rank in range(world):
        data = make_data(**tokenizer)
        v = data.vocabulary
        streams = interval_streams(data.parts.test, data.parts.test, v.k, v.stride, rows * world, warmup=64, piece=90)
        blocks = Blocks(np.array([0, 4000]), np.array([0, 1]))
        for batch in StreamChunks(streams, blocks, rows, chunk, v.stride, rank, world):
            tokens = data.on_after_batch_transfer(batch).tokens
            assert len(batch) <= rows and tokens.shape == (len(batch), batch.length + 1)
            assert batch.length <= chunk
            scored = torch.ones(len(batch), batch.length, dtype=torch.bool) if batch.scored is None else batch.scored
            for row, column in scored.nonzero().tolist():
                position = int(batch.starts[row]) + (column + 1) * v.stride
                assert tokens[row, column + 1] == slow_token(whole, position, v)
                assert batch.block[row, column] == (position >= 4000)
                seen.append(position)
    assert sorted(seen) == [p for a, b in data.parts.test.tolist() for p in range(a + v.stride, b - v.k + 1, v.stride)]


@pytest.mark.parametrize("carry_state", [True, False])
def test_a_long_part_is_scored_in_evenly_spread_pieces(make_data, carry_state):
    data = make_data(val_bases=100, eval_bases=300, carry_state=carry_state, eval_chunk=64)
    some, whole = data.scored_parts, data.parts
    assert [bases(some.of(stage)) for stage in STAGES] == [bases(whole.train), 100, 300]
    with pytest.raises(UserError, match="eval_bases=16 is less than a window"):
        _ = make_data(eval_bases=16).scored_parts
    for stage in ("val", "test"):
        assert np.array_equal(intersect(some.of(stage), whole.of(stage)), some.of(stage))
    scored = 0
    for batch in data.test_dataloader():
        mask = torch.ones(len(batch), batch.length, dtype=torch.bool) if batch.scored is None else batch.scored
        positions = batch.starts[:, None] + torch.arange(batch.length) + 1
        assert inside(some.test, positions[mask].numpy()).all()
        scored += int(mask.sum())
    assert scored == sum((b - a - 1) if carry_state else (b - a) // 17 * 16 for a, b in some.test.tolist())


def test_a_chunk_continues_where_the_last_one_ended(make_data):
    data = make_data(eval_rows=4, eval_chunk=30)
    batches = list(data.test_dataloader())
    assert not batches[0].continues
    assert [batch.continues for batch in batches].count(True) > 10
    for last, batch in pairwise(batches):
        assert batch.continues == (last.length == 30 and torch.equal(batch.starts, last.starts + 30))
        if batch.continues:
            before, after = (data.on_after_batch_transfer(b).tokens for b in (last, batch))
            assert torch.equal(before[:, -1], after[:, 0])


# random windows never carry the state, whatever is asked
@pytest.mark.parametrize(("split", "carry_state"), [(ContiguousSplit(0.3, 0.1), False), (RandomWindowsSplit(), True)])
def test_separate_windows_are_whole_and_start_anew(make_data, split, carry_state):
    data = make_data(split=split, carry_state=carry_state, eval_windows=20, eval_chunk=16)
    batches = list(data.test_dataloader())
    starts = torch.cat([batch.starts for batch in batches])
    assert len(starts) == 20
    assert all(batch.length == 16 and not batch.continues and batch.scored is None for batch in batches)
    assert data.parts.accepts("test", starts.numpy()).all()
    assert max(map(len, batches)) == 3


def test_training_resumes_from_the_trainers_step(make_data):
    whole = list(make_data(max_steps=6).train_dataloader())
    loader = make_data(max_steps=6, done=2).train_dataloader()
    rest = list(loader)
    assert [batch.step for batch in rest] == [2, 3, 4, 5]
    assert len(loader) == 6  # the whole run's, as Lightning counts a resumed epoch
    for a, b in zip(whole[2:], rest, strict=True):
        assert torch.equal(a.starts, b.starts) and torch.equal(a.flip, b.flip)
    assert [b.step for b in make_data(max_steps=3, done=1, accumulate=2).train_dataloader()] == [2, 3, 4, 5]
    two = [next(iter(make_data(world=(rank, 2), batch_size=2).train_dataloader())) for rank in range(2)]
    assert torch.equal(torch.cat([batch.starts for batch in two]), whole[0].starts)
    with pytest.raises(UserError, match=r"trainer\.max_steps .* got -1"):
        make_data(max_steps=-1).train_dataloader()


@pytest.mark.parametrize(("carry_tokens", "windows"), [(0, 1), (15, 1), (31, 1), (32, 2), (160, 10)])
def test_carried_tokens_make_segments_of_whole_windows(make_data, carry_tokens, windows):
    batches = make_data(carry_tokens=carry_tokens, max_steps=2 * windows).train_dataloader()
    assert [batch.continues for batch in batches] == [i % windows > 0 for i in range(2 * windows)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("seq_len", "batch_size", "eval_rows", "eval_chunk", "eval_windows", "bases")),
        ("carry_tokens", -1),
        ("eval_warmup", -1),
        ("bases", 1e5),
        ("seq_len", "long"),
        ("seed", "x"),
    ],
)
def test_sizes_that_cannot_be(fasta, name, value):
    with pytest.raises(UserError, match=rf"{name} must be a whole number.*, got {value}"):
        GenomeData(fasta, CharTokenizer, ContiguousSplit(), **{name: value})


@pytest.mark.parametrize(
    ("bases", "records"), [(900, [("a", 900)]), (4000, [("a", 4000)]), (4321, [("a", 4000), ("b", 321)])]
)
def test_an_excerpt_is_the_genomes_first_bases(make_data, text, bases, records):
    data, whole = make_data(bases=bases), "".join(text.values())
    genome = data.genome
    assert len(genome) == bases
    assert genome.letters() == whole[:bases]
    assert [(record.name, record.length) for record in genome.records] == records
    assert genome.name == f"two[0:{bases}]"
    assert genome.sha256 == hashlib.sha256(whole[:bases].encode()).hexdigest()
    assert genome.unknown == ({"N": whole[:bases].count("N")} if bases > 3100 else {})
    assert max(data.parts.of(stage).max() for stage in STAGES) <= bases
    data.test_on_all()  # the genome, not the excerpt
    assert len(data.genome) == data.parts.test.max() == 5500


def test_a_genome_that_has_no_more_bases_is_read_whole(make_data, caplog):
    assert make_data(bases=5500).genome.name == "two"
    assert "data.bases=5500: genome 'two' has 5,500 bases, and all are read" in caplog.text


def test_a_genome_shorter_than_a_window_is_named(fasta):
    with pytest.raises(UserError) as error:
        GenomeData(fasta, CharTokenizer, ContiguousSplit(), seq_len=4000).prepare_data()
    for part in ("'two'", "two.fa", "'a'", "4,000 bases", "data.seq_len=4000", "needs 4,001"):
        assert part in str(error.value)


def test_steps_of_passes(make_data):
    data = make_data(k=1, batch_size=8, seq_len=16)
    train = int(np.diff(data.parts.train).sum())
    assert data.steps_of(2.5) == math.ceil(2.5 * train / (8 * 16))
