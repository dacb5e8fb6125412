"""``genoseq.embed`` and ``genoseq.sample``."""

import csv
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import genoseq
from genoseq.data.intervals import as_intervals
from genoseq.data.regions import parse_region, read_regions, windows
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.errors import UserError
from genoseq.evaluation import embeddings
from genoseq.evaluation.sampling import longest_matches, longest_run, reading_frames, sample_markov
from genoseq.models.lstm import LSTM
from genoseq.training.module import NextToken

LETTERS = Path(__file__).parent / "data" / "files" / "hpylori_start.txt"


@pytest.fixture(scope="module")
def trained(run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    ran = run_verb("train", tmp_path_factory.mktemp("use") / "run", *tiny, "optimizer.lr=0.1", f"data.genome={LETTERS}")
    assert ran.code == 0, ran.err
    return ran


@pytest.mark.parametrize("tokenizer", [CharTokenizer(), KmerTokenizer(3, 1), KmerTokenizer(3, 3)])
def test_a_regions_vector_is_that_of_its_states(tokenizer):
    torch.manual_seed(0)
    net = LSTM(tokenizer.vocabulary.size, embed_dim=4, hidden_size=6)
    module = NextToken(net, tokenizer.vocabulary).eval()
    codes = np.random.default_rng(0).integers(1, 5, 3000).astype(np.uint8)
    spans = [(0, 0, 90), (0, 1500, 1590), (1000, 1003, 1100), (0, 2000, 2700)]
    got = embeddings.embed(module, tokenizer, codes, spans)
    last = embeddings.embed(module, tokenizer, codes, spans, "last")
    v = tokenizer.vocabulary
    for row, end_row, (low, start, end) in zip(got, last, spans, strict=True):
        first = max(low, start - 1024)
        first += (start - first) % v.stride
        ends = list(range(first + v.k, end + 1, v.stride))
        tokens = tokenizer.encode(torch.from_numpy(codes[first:end].copy()))[: len(ends) * v.stride : v.stride]
        with torch.no_grad():
            states = net.hidden(tokens[None].long())[0][0]
        own = [i for i, stop in enumerate(ends) if stop - (v.k if v.stride == v.k else 1) >= start]
        assert np.allclose(row, states[own].mean(0), atol=1e-5) and np.allclose(end_row, states[-1], atol=1e-5)
    with mock.patch.multiple(embeddings, CHUNK=7, ROWS=2):
        assert np.allclose(got, embeddings.embed(module, tokenizer, codes, spans), atol=1e-5)
    module.net.hidden = None
    with pytest.raises(UserError, match="does not offer its states"):
        embeddings.embed(module, tokenizer, codes, spans)


def test_embed_writes_vectors_in_the_order_of_the_regions(trained, run_verb, tmp_path, reverse_complement):
    ckpt = trained.folder / "checkpoints" / "best.ckpt"
    model = genoseq.load(ckpt)
    genome = model.training_data.genome
    name, text = genome.records[0].name, genome.letters()
    (tmp_path / "r.bed").write_text(f"track x\n{name}\t0\t500\tone\t0\t-\n{name}\t5000\t5900\n")
    ran = run_verb("embed", tmp_path / "e", f"ckpt={ckpt}", f"regions={tmp_path / 'r.bed'}")
    assert ran.code == 0, ran.err
    vectors = np.load(ran.folder / "embeddings.npy", mmap_mode="r")
    assert vectors.dtype == np.float32 and vectors.shape == (2, 16)
    words = np.load(ran.folder / "tetranucleotides.npy")
    assert words.shape == (2, 256) and np.allclose(words.sum(1), 1)
    rows = list(csv.DictReader((ran.folder / "regions.tsv").open(), delimiter="\t"))
    assert [(row["name"], row["strand"], row["part"]) for row in rows] == [
        ("one", "-", "train"),
        (f"{name}:5001-5900", ".", "test"),
    ]
    assert np.allclose(model.embed(text[:500]), model.embed(reverse_complement(text[:500])), atol=1e-6)
    tiled = run_verb("embed", tmp_path / "w", f"ckpt={ckpt}", "window=700", "pooling=last")
    assert len(np.load(tiled.folder / "embeddings.npy")) == 9 and tiled.json("embed.json")["regions"] == 9
    (tmp_path / "bad.bed").write_text(f"{name}\t0\t99999999\n")
    bad = run_verb("embed", tmp_path / "b", f"ckpt={ckpt}", f"regions={tmp_path / 'bad.bed'}")
    assert bad.code == 2 and "bad.bed, line 1" in bad.err and not list(bad.folder.glob("*.npy"))


def test_regions_of_gff_and_of_names(make_genome, tmp_path):
    genome = make_genome({"a:b": "ACGT" * 10, "two": "ACGT" * 20})
    file = tmp_path / "g.gff3"
    head = "##gff-version 3\n# a comment\n"
    gene = "two\tx\tgene\t5\t20\t.\t-\t.\tID=g1;Name=il%20vG\n"
    cds = "a%3Ab\tx\tCDS\t1\t9\t.\t+\t0\tID=c1\n"
    for lines, wanted in ((gene + cds, ("il vG", 44, 60, "-")), (cds, ("c1", 0, 9, "+"))):
        file.write_text(head + lines + "##FASTA\n>two\nACGT\n")
        (region,) = read_regions(file, genome)
        assert (region.name, region.start, region.end, region.strand) == wanted
    for text, words in (
        ("two\tx\tgene\t0\t9\t.\t+\t.\tID=a\n", "is not inside"),
        ("two\tx\n", "9 fields"),
        ("", "no gene"),
    ):
        file.write_text(head + text)
        with pytest.raises(UserError, match=words):
            read_regions(file, genome)
    assert parse_region("a:b:2-5", genome) == (1, 5) and parse_region("two", genome) == (40, 120)
    assert parse_region("two:1-1,0", genome) == (40, 50)
    for wrong in ("two:0-5", "two:5-4", "two:1-81", "three:1-2", "1-2", "two:-", None):
        with pytest.raises(UserError, match="region"):
            parse_region(wrong, genome)
    edges = [(region.start, region.end) for region in windows(genome, 30)]
    assert edges == [(0, 40), (40, 70), (70, 100), (100, 120)]


def test_sample_writes_sequences_beside_real_ones(trained, run_verb, tmp_path):
    ckpt = trained.folder / "checkpoints" / "best.ckpt"
    ran = run_verb("sample", tmp_path / "s", f"ckpt={ckpt}", "n=3", "length=90", "temperature=0.8", "prompt=ACGTAC")
    assert ran.code == 0, ran.err
    lines = (ran.folder / "samples.fa").read_text().split("\n")
    assert lines[0].startswith(">sample1 temperature=0.8 seed=0 prompt=ACGTAC") and len(lines[1] + lines[2]) == 90
    rows = list(csv.DictReader((ran.folder / "samples.csv").open()))
    assert [row["sequence"].split()[0] for row in rows] == ["samples", "held-out", rows[2]["sequence"].split()[0]]
    assert all(0 < float(row["gc"]) < 1 and 0 <= float(row["3mer_divergence"]) <= 1 for row in rows)
    again = run_verb("sample", tmp_path / "t", f"ckpt={ckpt}", "n=3", "length=90", "temperature=0.8", "prompt=ACGTAC")
    assert (again.folder / "samples.fa").read_text() == (ran.folder / "samples.fa").read_text()
    for i, (override, words) in enumerate(
        {"temperature=0": "temperature", "prompt=XX": "region", "length=99999": "lower length"}.items()
    ):
        bad = run_verb("sample", tmp_path / str(i), f"ckpt={ckpt}", override)
        assert bad.code == 2 and words in bad.err and not (bad.folder / "samples.fa").exists()


@given(st.data())
def test_the_longest_match_is_found_on_either_strand(data):
    letters = st.lists(st.integers(1, 3), min_size=30, max_size=80)
    codes = np.array(data.draw(letters), dtype=np.uint8)
    intervals = as_intervals([(0, 20), (20, len(codes))])
    sequence = np.array(data.draw(letters), dtype=np.uint8)[:30]
    if data.draw(st.booleans()):
        sequence[:15] = codes[3:18]
    texts = [codes[a:b].tobytes() for a, b in intervals]
    turned = embeddings.np.array([0, 3, 4, 1, 2], dtype=np.uint8)[sequence[::-1]]
    best = max(
        (
            b - a
            for one in (sequence, turned)
            for a in range(30)
            for b in range(a + 11, 31)
            for t in texts
            if one[a:b].tobytes() in t
        ),
        default=0,
    )
    assert longest_matches(codes, intervals, sequence[None])[0] == best


def test_measures_of_sequences(make_genome):
    code = lambda text: np.array(["NACTG".index(x) for x in text], dtype=np.uint8)  # noqa: E731
    frame = code("CC" + "ATG" + "GCA" * 98 + "TAA" + "CATG")
    assert reading_frames(frame) == 1 and reading_frames(frame, 303) == 0
    assert reading_frames(np.array([0, 3, 4, 1, 2], dtype=np.uint8)[frame[::-1]]) == 1
    assert longest_run(code("ACCCCGT")) == 4
    from genoseq.baselines.markov import MarkovModel

    text = code("ACGT" * 200)
    drawn = sample_markov(MarkovModel(text, as_intervals([(0, 800)]), 2, 1e-3), 4, 50, 0)
    follow = {1: 2, 2: 4, 4: 3, 3: 1}
    assert drawn.shape == (4, 50)
    assert all(follow[a] == b for row in drawn for a, b in pairwise(row[5:].tolist()))
