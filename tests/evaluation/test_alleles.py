"""Scores of alleles: the same as two windows read from their beginning, for every tokenizer, on both strands."""

import math
from functools import partial
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genoseq.baselines import counts
from genoseq.baselines.markov import Seen, fit_interpolated
from genoseq.data.datamodule import GenomeData
from genoseq.data.intervals import as_intervals
from genoseq.data.split import ContiguousSplit
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.evaluation import alleles, haplotypes
from genoseq.evaluation.haplotypes import Changes
from genoseq.evaluation.predict import predict
from genoseq.models.lstm import LSTM
from genoseq.training.mixing import ExpertMixer
from genoseq.training.module import NextToken

TOKENS = {
    "char": CharTokenizer(),
    "kmer": KmerTokenizer(3, 1),
    "kmer_stride_2": KmerTokenizer(3, 2),
    "kmer_disjoint": KmerTokenizer(3, 3),
}
EDGES = [0, 1500, 4000]  # of two records
DOWNSTREAM = 20


@pytest.fixture(scope="module", autouse=True)
def small():
    """Tables of up to 4 bases."""
    with mock.patch.object(counts, "DIRECT", 4):
        yield


@pytest.fixture(scope="module")
def codes(letters):
    return np.array(["NACTG".index(x) for x in letters(3900, 3)[:2000] + "N" + letters(1999, 4)], dtype=np.uint8)


@pytest.fixture(scope="module", params=TOKENS)
def network(request):
    torch.manual_seed(0)
    tokenizer = TOKENS[request.param]
    net = LSTM(tokenizer.vocabulary.size, embed_dim=6, hidden_size=12, num_layers=2)
    for weight in net.parameters():  # so that a state lasts, and the predictions differ
        torch.nn.init.uniform_(weight, -0.8, 0.8)
    return NextToken(net, tokenizer.vocabulary).eval(), tokenizer


def changes_of(codes, some):
    """Return alleles from (start, bases replaced, letters instead)."""
    record = np.searchsorted(EDGES, [start for start, *_ in some], side="right") - 1
    return Changes(
        codes,
        np.array(EDGES)[record],
        np.array(EDGES)[record + 1],
        np.array([start for start, *_ in some]),
        np.array([min(ref, EDGES[r + 1] - start) for (start, ref, _), r in zip(some, record, strict=True)]),
        [np.array(alt, dtype=np.uint8) for *_, alt in some],
        DOWNSTREAM,
    )


ALLELES = st.lists(
    st.tuples(st.integers(0, 3999), st.integers(0, 5), st.lists(st.integers(1, 4), max_size=5)), min_size=1, max_size=12
)


def along(module, tokenizer, codes, genome, phase):
    """Return log-probabilities of the bases of letters, read as `genoseq.evaluate` reads an interval."""
    data = GenomeData("unused", lambda k, stride: tokenizer, ContiguousSplit(), seq_len=8, eval_chunk=50, eval_rows=2)
    data.test_on(genome(codes), as_intervals([(phase, len(codes))]))
    out = np.zeros((len(codes), 4))
    scored = np.zeros(len(codes), dtype=bool)
    for said in predict(module, data, data.parts, "test"):
        out[said.at], scored[said.at] = said.log_probs, True
    return out, scored


@settings(max_examples=12, deadline=None)
@given(some=ALLELES)
def test_a_score_is_the_difference_of_both_haplotypes_windows(network, codes, genome_of_codes, some):
    (module, tokenizer), changes = network, changes_of(codes, some)
    got = alleles.score_strand(module, tokenizer, changes)
    cells = changes.low + (changes.start - changes.low) // haplotypes.CELL * haplotypes.CELL
    for i, begin in enumerate(np.maximum(changes.low, cells - haplotypes.CONTEXT).tolist()):
        start, length, sums = int(changes.start[i]) - begin, int(changes.length[i]), []
        for alternative in (False, True):
            text = changes.haplotype(i, begin, length, alternative)
            padded = np.concatenate([text, np.ones(4, np.uint8)])  # so that the last bases have a whole token
            assert len(text) == start + length
            total = 0.0
            for phase in range(tokenizer.vocabulary.stride):
                log_probs, scored = along(module, tokenizer, padded, genome_of_codes, phase)
                window = np.flatnonzero(scored[: len(text)])
                window = window[window >= start]
                total += log_probs[window, padded[window] - 1].sum() / tokenizer.vocabulary.stride / math.log(2)
            sums.append(total)
        assert got[i] == pytest.approx(sums[1] - sums[0], abs=1e-4 * max(length, 1))
    alone = np.array(
        [alleles.score_strand(module, tokenizer, changes.take(np.array([i])))[0] for i in range(len(some))]
    )
    assert np.allclose(got, alone, atol=1e-4)  # what else is scored does not matter


@settings(max_examples=15, deadline=None)
@given(some=ALLELES)
def test_count_model_scores_only_what_differs(codes, some):
    model = fit_interpolated(Seen.of(codes, as_intervals([(0, 2500)]), as_intervals([(2600, 3000)])))
    changes = changes_of(codes, some)
    got = alleles.score_strand_by_counts(model, changes)
    for i in range(len(changes)):
        begin, sums = max(int(changes.low[i]), int(changes.start[i]) - 16), []
        for alternative in (False, True):
            text = changes.haplotype(i, begin, int(changes.length[i]), alternative)
            cost = np.zeros(len(text))
            if len(text):
                for at, log_probs in model.log_probs(text, as_intervals([(0, len(text))])):
                    cost[at] = log_probs[np.arange(len(at)), text[at] - 1] / math.log(2)
            sums.append(cost[int(changes.start[i]) - begin :].sum())
        assert got[i] == pytest.approx(sums[1] - sums[0], abs=1e-3)


def test_a_mixtures_score_is_that_of_its_own_predictions(codes, genome_of_codes):
    torch.manual_seed(0)
    tokenizer = CharTokenizer()
    module = NextToken(LSTM(5, embed_dim=6, hidden_size=8), tokenizer.vocabulary).eval()
    data = GenomeData("unused", CharTokenizer, ContiguousSplit(0.2, 0.1), seq_len=20)
    data.genome = genome_of_codes(np.concatenate([codes[:1500], codes[:1500], codes[1500:]]))
    data.setup("fit")
    mixer = ExpertMixer([2, 12, 16], hidden=4)
    for weight in mixer.net.parameters():
        torch.nn.init.uniform_(weight, 0.2, 1.0)
    changes = changes_of(codes, [(400, 1, [4]), (2500, 0, [1, 2]), (3990, 3, []), (1, 1, [2])])
    score = partial(alleles.score_strand, module, tokenizer)
    got = score(changes, mixer, mixer.experts(data), checkpoints=[8])
    assert got.shape == (4, 2) and not np.allclose(got[:, 1], score(changes), atol=0.1)
    for i in range(len(changes)):
        sums = []
        for alternative in (False, True):
            begin = int(changes.low[i])
            text = changes.haplotype(i, begin, int(changes.length[i]), alternative)
            lone = GenomeData("unused", CharTokenizer, ContiguousSplit(), seq_len=8)
            lone.test_on(genome_of_codes(text), as_intervals([(0, len(text))]))
            total = 0.0
            for said in mixer.predict_frozen(module, lone, data):
                keep = said.at >= int(changes.start[i]) - begin
                total += said.log_probs.numpy()[keep, text[said.at[keep]] - 1].sum() / math.log(2)
            sums.append(total)
        # repeat models may have read more before the allele than the 128 bases that a score gives them
        assert got[i, 1] == pytest.approx(sums[1] - sums[0], abs=0.5)
