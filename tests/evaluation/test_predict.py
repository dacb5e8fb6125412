"""Base distributions along a part: every base that the test scores, once, in order, at the same cost."""

import numpy as np
import pytest
import torch

from genoseq.data.datamodule import GenomeData
from genoseq.data.split import ContiguousSplit
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.evaluation.blocks import network_sums
from genoseq.evaluation.predict import predict
from genoseq.models.lstm import LSTM
from genoseq.training.module import NextToken


@pytest.mark.parametrize("carry", [True, False], ids=["streams", "windows"])
@pytest.mark.parametrize(("k", "stride"), [(1, 1), (4, 1), (3, 3), (3, 2)])
def test_the_bases_and_nats_are_those_of_the_test(make_genome, letters, k, stride, carry):
    text = letters(22_000)
    records = {"a": text[:9000], "b": text[9000:15_000] + "N" + text[15_001:15_100] + "N" * 30, "c": text[15_100:]}
    tokenizer = CharTokenizer if k == 1 else KmerTokenizer
    sizes = {"seq_len": 20, "eval_rows": 2, "eval_chunk": 50, "eval_warmup": 30, "carry_state": carry}
    data = GenomeData("unused", tokenizer, ContiguousSplit(0.6, 0.1), k=k, stride=stride, **sizes)
    data.genome = make_genome(records)
    data.setup("test")
    torch.manual_seed(1)
    net = LSTM(data.vocabulary.size, embed_dim=6, hidden_size=8)
    module = NextToken(net, data.vocabulary, blocks=len(data.blocks))
    found = list(predict(module, data, data.parts, "test"))
    assert module.training and len(found) > 1
    module.eval()
    with torch.no_grad():
        for batch in data.test_dataloader():
            module.test_step(data.on_after_batch_transfer(batch), 0)
    at, log_probs = np.concatenate([p.at for p in found]), torch.cat([p.log_probs for p in found])
    codes = data.genome.codes.numpy()
    want = []
    for a, b in data.parts.test.tolist():
        window = b - a if carry else data.span
        for low in range(a, b - window + 1, window):
            for token in range(low + stride, low + window - k + 1, stride):
                want += range(token + k - stride, token + k) if codes[token : token + k].all() else ()
    assert at.tolist() == want
    nats = -log_probs.double().numpy()[np.arange(len(at)), codes[at] - 1]
    sums, record = network_sums(module), np.searchsorted([9000, 15_130], at, side="right")
    for i in range(3):
        total = sums[data.blocks.record == i].sum(0)
        assert total[2] == (record == i).sum() and nats[record == i].sum() == pytest.approx(total[0], rel=1e-5)
