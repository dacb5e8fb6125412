"""``genoseq.track``: the same bits as an evaluation, on both strands, and files that browsers read."""

import csv
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genoseq.app.model import Models
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.evaluation.sampling import sample, shuffled
from genoseq.evaluation.tracks import Tracks
from genoseq.models.lstm import LSTM
from genoseq.training.module import NextToken

FILES = Path(__file__).parent / "data" / "files"
SMALL = FILES / "klebsiella_pKPHS6.fa"


@pytest.fixture(scope="module", params=["data=char", "data=kmer_disjoint"])
def trained(
    request: Any, run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    genome = f"data.genome={FILES / 'hpylori_start.txt'}"
    ran = run_verb("train", tmp_path_factory.mktemp("track") / "run", *tiny, request.param, "optimizer.lr=0.1", genome)
    assert ran.code == 0, ran.err
    return ran


def test_tracks_have_the_bits_of_an_evaluation(trained, run_verb, tmp_path, reverse_complement, monkeypatch):
    monkeypatch.setattr("genoseq.evaluation.tracks.SAMPLED", (8, 2000))  # a million bases take half a minute
    ckpt = f"ckpt={trained.folder / 'checkpoints' / 'best.ckpt'}"
    data = Models(ckpt[5:], mixer=False).models[0].training_data
    name, genes = data.genome.records[0].name, tmp_path / "genes.gff3"
    cds = "".join(f"{name}\tx\tCDS\t{at}\t{at + 299}\t.\t+\t0\tID=g{at}\n" for at in (1, 5001, 5501))
    genes.write_text("##gff-version 3\n" + cds)
    options = ("strands=true", "window=100", "step=50", f"genes={genes}")
    ran = run_verb("track", tmp_path / "t", ckpt, *options)
    assert ran.code == 0, ran.err
    result = ran.json("track.json")
    # as in training: forward on the test part, reverse on the other strand of it
    assert result["surprise_forward"] == pytest.approx(trained.json()["test/bits_per_base"], abs=1e-4)
    first, last = data.parts.test[0].tolist()
    (tmp_path / "other.fa").write_text(">other\n" + reverse_complement(data.genome.letters(first, last)) + "\n")
    there = run_verb(
        "evaluate", tmp_path / "e", ckpt, f"data.genome={tmp_path / 'other.fa'}", "trainer.precision=32-true"
    )
    reverse = there.json("evaluation.json")["test/bits_per_base"]
    assert result["surprise_reverse"] == pytest.approx(reverse, abs=1e-4)
    files = {"surprise", "entropy", "imm_surprise", "surprise_forward", "surprise_reverse"}
    assert {path.stem for path in ran.folder.glob("*.bw")} == files and not list(ran.folder.glob(".*part*"))
    resources = {node.get("path") for node in ElementTree.parse(ran.folder / "igv_session.xml").iter("Resource")}
    assert resources == {*(f"{name}.bw" for name in files), "unusual.bed", str(genes)}
    assert all((ran.folder / name).exists() for name in resources) and (ran.folder / "genome.fa").exists()
    (row,) = csv.DictReader((ran.folder / "records.csv").open())
    assert float(row["bits_per_base"]) == pytest.approx(result["surprise"], abs=1e-5)
    assert 1 < float(row["shuffled/bits_per_base"]) < 3
    pyBigWig = pytest.importorskip("pyBigWig")
    with pyBigWig.open(str(ran.folder / "surprise.bw")) as track:
        values = np.array(track.values(data.genome.records[0].name, 0, len(data.genome)))
    assert (
        np.isnan(values[:first]).all()
        and np.isnan(values[first])
        and not np.isnan(values[first + 20 : last - 20]).any()
    )
    assert np.nanmean(values) == pytest.approx(result["surprise"], abs=1e-5)
    told = [(row["gene"], float(row["bits_per_base"])) for row in csv.DictReader((ran.folder / "genes.csv").open())]
    means = {f"g{at}": np.nanmean(values[at - 1 : at + 299]) for at in (5001, 5501)}  # the first is not held out
    assert dict(told) == pytest.approx(means, abs=1e-5) and told[0][1] > told[1][1]
    assert "already" in run_verb("track", tmp_path / "t", ckpt, *options).out


def test_another_genome_has_the_mean_of_all_models_and_its_mirror_image_on_the_other_strand(trained):
    path = str(trained.folder / "checkpoints" / "best.ckpt")
    models = Models([path], str(SMALL), mixer=False)
    tracks = Tracks.empty(len(models.genome))
    ((some, intervals),) = models.held_out
    tracks.add(some * 2, models.genome, intervals)  # the mean of twice the same is the same
    turned, other = models.genome.reverse_complement(), Tracks.empty(len(models.genome))
    other.add(some, turned, len(turned) - intervals[::-1, ::-1])
    for name, mirror in (("forward", "reverse"), ("entropy", "entropy"), ("varentropy", "varentropy"), ("imm", "imm")):
        assert np.allclose(tracks.values[name], other.values[mirror][::-1], atol=1e-4, equal_nan=True)


def test_a_base_that_two_checkpoints_hold_out_counts_once(trained):
    path = trained.folder / "checkpoints" / "best.ckpt"
    models = Models([str(path), str(path.with_name("last.ckpt"))], mixer=False)
    tracks = Tracks.empty(len(models.genome))
    for some, intervals in models.held_out:
        tracks.add(some, models.genome, intervals)
    first, last = models.models[0].training_data.parts.test[0].tolist()
    assert 1.5 < tracks.mean("surprise", [(first, last)])[0] < 2.5 and [len(i) for _, i in models.held_out] == [1, 0]


def test_mistakes_are_one_sentence(trained, run_verb, tmp_path):
    ckpt = f"ckpt={trained.folder / 'checkpoints' / 'best.ckpt'}"
    for i, (override, words) in enumerate(
        {"window=0": "window must", "genes=nowhere.gff3": "nowhere.gff3 does not exist"}.items()
    ):
        ran = run_verb("track", tmp_path / str(i), ckpt, override)
        assert ran.code == 2 and words in ran.err and not list(ran.folder.glob("*.bw"))


@given(letters=st.lists(st.integers(1, 4), min_size=2, max_size=200), seed=st.integers(0, 9))
def test_a_shuffle_keeps_pairs_of_neighbours(letters, seed):
    codes = np.array(letters, dtype=np.uint8)
    other = shuffled(codes, np.random.default_rng(seed))
    pairs = [Counter(zip(some.tolist(), some[1:].tolist(), strict=False)) for some in (codes, other)]
    assert pairs[0] == pairs[1] and other[0] == codes[0] and other[-1] == codes[-1]


@pytest.mark.parametrize("tokenizer", [CharTokenizer(), KmerTokenizer(2, 1), KmerTokenizer(3, 2), KmerTokenizer(2, 2)])
def test_samples_follow_the_network(tokenizer):
    v = tokenizer.vocabulary
    torch.manual_seed(0)
    module = NextToken(LSTM(v.size, embed_dim=4, hidden_size=4), v).eval()
    with torch.no_grad():  # a distribution that does not depend on what was read
        module.net.head.weight.zero_()
        module.net.head.bias.normal_(0, 1)
    p = module.net.head.bias.detach()[v.first : v.first + v.num_classes].softmax(0)
    n = v.stride
    rows, steps = 2000, 5
    codes = sample(module, tokenizer, rows, v.k + n * steps, seed=1)
    assert codes.shape == (rows, v.k + n * steps) and codes.min() == 1 and codes.max() == 4
    assert np.array_equal(codes, sample(module, tokenizer, rows, v.k + n * steps, seed=1))
    assert not np.array_equal(codes, sample(module, tokenizer, rows, v.k + n * steps, seed=2))
    last = torch.from_numpy(codes[:, -v.k :].astype(np.int64) - 1)
    token = sum(last[:, i] * 4 ** (v.k - 1 - i) for i in range(v.k))
    for prefix in range(4 ** (v.k - n)):  # given the bases that tokens share, the rest follows the network
        here = token[token // 4**n == prefix]
        given = p[prefix * 4**n : (prefix + 1) * 4**n]
        expected = given / given.sum() * len(here)
        counts = torch.bincount(here % 4**n, minlength=4**n)
        assert float(((counts - expected) ** 2 / expected).sum()) < 4**n + 6 * math.sqrt(2 * 4**n)
    prompt = np.array([1, 2, 3, 4, 1, 2, 3], dtype=np.uint8)
    cold = sample(module, tokenizer, 3, 8, seed=0, temperature=1e-3, prompt=prompt)
    assert (cold == cold[0]).all()
