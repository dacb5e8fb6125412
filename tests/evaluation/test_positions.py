"""Metrics by position against one pass a window, token by token; which windows cover a part."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from genoseq.data.bases import base_log_probs
from genoseq.data.datamodule import GenomeData
from genoseq.data.split import ContiguousSplit, RandomWindowsSplit
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.evaluation.positions import covering_starts, position_rows, window_metrics
from genoseq.models.lstm import LSTM
from genoseq.training.module import NextToken

TOKENISERS = [CharTokenizer(), KmerTokenizer(2, 1), KmerTokenizer(3, 3)]


@pytest.fixture(scope="module")
def fasta(tmp_path_factory, letters):
    path = tmp_path_factory.mktemp("windows") / "g.fa"
    a = letters(1500)
    path.write_text(f">a\n{a[:1200]}NNN{a[1203:1300]}{'N' * 40}{a[1340:]}\n>b\n{letters(500, 1)}\n")
    return str(path)


def made(path, tokenizer=TOKENISERS[0], split=None, **kwargs) -> GenomeData:
    sizes = {"seq_len": 20, "eval_rows": 7, "eval_chunk": 6, "carry_state": False} | kwargs
    v = tokenizer.vocabulary
    data = GenomeData(path, type(tokenizer), split or ContiguousSplit(0.5, 0.1), k=v.k, stride=v.stride, **sizes)
    data.setup("test")
    return data


def network(data) -> NextToken:
    torch.manual_seed(1)
    return NextToken(LSTM(data.vocabulary.size, embed_dim=6, hidden_size=8), data.vocabulary)


def one_by_one(module, data, starts):
    """Return counts, and accuracy and bits a base, by position: one window at a time, one token at a time."""
    v, tokens = data.vocabulary, data.tokenizer.encode(data.genome.codes).long()
    n, right, bits = np.zeros(data.seq_len), np.zeros(data.seq_len), np.zeros(data.seq_len)
    for start in starts.tolist():
        state = None
        for i in range(data.seq_len):
            token, target = tokens[start + i * v.stride], int(tokens[start + (i + 1) * v.stride])
            with torch.no_grad():
                logits, state = module(token.view(1, 1), state)
            if target != v.unknown:
                log_probs, digits = base_log_probs(logits, torch.tensor([[target]]), v)
                n[i] += 1
                right[i] += float((log_probs.argmax(-1) == digits).double().mean())
                bits[i] -= float(log_probs.take_along_dim(digits[..., None], -1).double().mean()) / math.log(2)
    return n, right / n, bits / n


@pytest.mark.parametrize(
    ("tokenizer", "cover", "rows", "chunk"),
    [(TOKENISERS[0], 1, 7, 6), (TOKENISERS[0], 2, 1000, 7), (TOKENISERS[1], 4, 3, 20), (TOKENISERS[2], 2, 7, 6)],
)
def test_rows_are_those_of_one_token_at_a_time(fasta, tokenizer, cover, rows, chunk):
    data = made(fasta, tokenizer, eval_rows=rows, eval_chunk=chunk)
    module = network(data)
    rows = position_rows(module, data, "test", cover)
    n, accuracy, bits = one_by_one(module, data, covering_starts(data, "test", cover))
    assert [row["position"] for row in rows] == list(range(1, 21))
    assert [row["n"] for row in rows] == n.tolist()
    assert [row["accuracy"] for row in rows] == pytest.approx(accuracy.tolist())
    assert [row["bits_per_base"] for row in rows] == pytest.approx(bits.tolist(), rel=1e-5)


@pytest.mark.parametrize("tokenizer", TOKENISERS, ids=["char", "overlapping", "disjoint"])
def test_windows_tile_a_part_and_ten_fold_their_last_tenths_do(fasta, tokenizer):
    data = made(fasta, tokenizer)
    stride, part = data.vocabulary.stride, data.parts.test
    for cover, tail in ((1, 20), (10, 2)):
        starts = covering_starts(data, "test", cover)
        predicted = Counter((starts[:, None] + stride * np.arange(21 - tail, 21)).ravel().tolist())
        assert set(predicted.values()) == {1}
        for a, b in part.tolist():  # but for the edges, where no window fits
            last = max(p for p in predicted if p < b)
            expected = range(a + stride * (21 - tail), last + 1, stride)
            assert {p for p in predicted if a <= p < b} == set(expected) and b - last <= (tail + 1) * stride
    assert len(covering_starts(data, "test", 99)) == len(covering_starts(data, "test", 20))


def test_a_leaking_split_scores_its_own_windows_only(fasta):
    data = made(fasta, split=RandomWindowsSplit(0.3, 0.1))
    for cover, hop in ((20, 1), (4, 5)):
        starts = covering_starts(data, "test", cover)
        assert data.parts.accepts("test", starts).all()
        assert len(starts) * hop == pytest.approx(0.3 * 1860, rel=0.1)


def test_unknown_letters_are_not_scored_and_what_never_is_has_no_metric(tmp_path, letters):
    path = tmp_path / "g.fa"
    text = list(letters(400))
    for at in range(305, 400, 5):  # the test part starts at 300: every fifth letter from there is unknown
        text[at] = "N"
    path.write_text(f">a\n{''.join(text)}\n")
    data = made(str(path), split=ContiguousSplit(0.25, 0.1), seq_len=10)
    rows = position_rows(network(data), data, "test", 1)
    assert [row["n"] for row in rows] == [9, 9, 9, 9, 0, 9, 9, 9, 9, 0]
    assert [math.isnan(row["bits_per_base"]) for row in rows] == [row["n"] == 0 for row in rows]


@pytest.mark.parametrize("split", [ContiguousSplit(0.5, 0.1), RandomWindowsSplit(0.3, 0.1)], ids=["cut", "windows"])
def test_validation_windows_add_up(fasta, split):
    data = made(fasta, KmerTokenizer(3, 2), split)
    module = network(data)
    metrics = window_metrics(module, data, limit=30)
    counts = metrics.confusion.confmat
    assert 0 < counts.sum() == 2 * metrics.scored.sum() <= 2 * 30 * 20
    assert 2 * (metrics.accuracy * metrics.scored).sum() == pytest.approx(float(counts.trace())) and module.training
