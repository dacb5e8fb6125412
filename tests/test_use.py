"""``genoseq.embed`` and ``genoseq.sample``."""

import csv
import itertools
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
from scipy.stats import chisquare

import genoseq
from genoseq.data.bases import base_log_probs
from genoseq.data.intervals import as_intervals
from genoseq.data.regions import parse_region, read_regions, windows
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.data.variants import encode
from genoseq.errors import UserError
from genoseq.evaluation import embeddings, sampling
from genoseq.evaluation.sampling import longest_matches, longest_run, sample, sample_markov
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
    (edge, _), *_ = model.training_data.parts.test.tolist()
    bed = f"track x\n{name}\t0\t500\tone\t0\t-\n{name}\t5000\t5900\n{name}\t{edge - 5}\t{edge + 70}\tedge\n"
    (tmp_path / "r.bed").write_text(bed)
    ran = run_verb("embed", tmp_path / "e", f"ckpt={ckpt}", f"regions={tmp_path / 'r.bed'}")
    assert ran.code == 0, ran.err
    vectors = np.load(ran.folder / "embeddings.npy", mmap_mode="r")
    assert vectors.dtype == np.float32 and vectors.shape == (3, 16)
    words = np.load(ran.folder / "tetranucleotides.npy")
    assert words.shape == (3, 256) and np.allclose(words.sum(1), 1)
    rows = list(csv.DictReader((ran.folder / "regions.tsv").open(), delimiter="\t"))
    assert [(row["name"], row["strand"], row["part"]) for row in rows] == [
        ("one", "-", "train"),
        (f"{name}:5001-5900", ".", "test"),
        ("edge", ".", "mixed"),
    ]
    assert float(rows[0]["gc"]) == pytest.approx(sum(map(text[:500].count, "CG")) / 500, abs=1e-4)
    other, n = genome.reverse_complement(), len(genome)
    spans = [(0, 2000, 2700), (0, 5000, 5900)]
    turned = model.embed_regions(other, genome, [(0, n - end, n - start) for _, start, end in spans])
    assert np.allclose(model.embed_regions(genome, other, spans), turned, atol=1e-6)
    assert np.allclose(vectors[1], turned[1], atol=1e-6)
    assert np.allclose(model.embed(text[:500]), model.embed(reverse_complement(text[:500])), atol=1e-6)
    tiled = run_verb("embed", tmp_path / "w", f"ckpt={ckpt}", "window=700", "pooling=last")
    assert len(np.load(tiled.folder / "embeddings.npy")) == 9 and tiled.json("embed.json")["regions"] == 9
    (tmp_path / "bad.bed").write_text(f"{name}\t0\t99999999\n")
    bad = run_verb("embed", tmp_path / "b", f"ckpt={ckpt}", f"regions={tmp_path / 'bad.bed'}")
    assert bad.code == 2 and "bad.bed, line 1" in bad.err and not list(bad.folder.glob("*.npy"))
    two = f"ckpt=[{ckpt},{trained.folder / 'checkpoints' / 'last.ckpt'}]"
    elsewhere = LETTERS.parent / "klebsiella_pKPHS6.fa"
    refused = run_verb("embed", tmp_path / "two", two, f"data.genome={elsewhere}")
    assert refused.code == 2 and "cannot be averaged" in refused.err and not list(refused.folder.glob("*.npy"))


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


@pytest.mark.parametrize("prompt", [None, "ACGTTGCA"])
@pytest.mark.parametrize("tokenizer", [CharTokenizer(), KmerTokenizer(2, 1), KmerTokenizer(3, 2), KmerTokenizer(2, 2)])
def test_samples_have_the_networks_distribution(tokenizer, prompt):
    """Every possible sequence is drawn as often as base distributions, chained, say."""
    torch.manual_seed(0)
    v = tokenizer.vocabulary
    net = LSTM(v.size, embed_dim=4, hidden_size=6)
    for weight in net.parameters():
        weight.data *= 4  # far from even
    module, temperature, length, n = NextToken(net, v).eval(), 0.7, 5 if (v.k, v.stride) == (3, 2) else 4, 100_000
    before = encode(prompt or "")
    drawn = sample(module, tokenizer, n, length, 3, temperature, before if prompt else None)
    with mock.patch.object(sampling, "CHUNK", 2):
        again = sample(module, tokenizer, n, length, 3, temperature, before if prompt else None)
    assert (drawn == again).all()
    assert (drawn[:99] != sample(module, tokenizer, 99, length, 4, temperature, before if prompt else None)).any()

    every = np.array(list(itertools.product(range(1, 5), repeat=length)), dtype=np.uint8)
    skip = (len(before) - v.k) % v.stride if prompt else 0
    texts = np.concatenate([np.tile(before[skip:], (len(every), 1)), every], axis=1)
    size = texts.shape[1]
    texts = np.pad(texts, ((0, 0), (0, (v.k - size) % v.stride)), constant_values=1)  # to a whole token
    tokens = torch.stack([tokenizer.encode(torch.from_numpy(row)) for row in texts]).long()
    tokens = tokens[:, : texts.shape[1] - v.k + 1 : v.stride]
    with torch.no_grad():
        log_probs, digits = base_log_probs(module(tokens[:, :-1])[0] / temperature, tokens[:, 1:], v)
    each = log_probs.gather(-1, digits[..., None]).flatten(1)[:, : size - v.k]  # of the bases after the first token
    drawn_bases = each[:, len(before) - skip - v.k :] if prompt else each
    p = drawn_bases.double().sum(1).exp() / (1 if prompt else 4**v.k)
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert p.max() > 10 * p.min()  # a sampler that draws evenly would be seen
    index = ((drawn.astype(int) - 1) * 4 ** np.arange(length)[::-1]).sum(1)
    expected = n * (p / p.sum()).numpy()
    common = expected > 10
    assert (
        chisquare(
            np.append(np.bincount(index, minlength=4**length)[common], (~common)[index].sum() + 1e-9),
            np.append(expected[common], expected[~common].sum() + 1e-9),
        ).pvalue
        > 1e-3
    )


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
    last = trained.folder / "checkpoints" / "last.ckpt"
    for i, (override, words) in enumerate(
        {
            "temperature=0": "temperature",
            "prompt=XX": "prompt=XX",
            "length=99999": "lower length",
            f"ckpt=[{ckpt},{last}]": "names 2 checkpoints",
        }.items()
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
    assert longest_run(code("ACCCCGT")) == 4
    from genoseq.baselines.markov import MarkovModel

    text = code("ACGT" * 200)
    drawn = sample_markov(MarkovModel(text, as_intervals([(0, 800)]), 2, 1e-3), 4, 50, 0)
    follow = {1: 2, 2: 4, 4: 3, 3: 1}
    assert drawn.shape == (4, 50)
    assert all(follow[a] == b for row in drawn for a, b in pairwise(row[5:].tolist()))
