import logging
import math
import warnings
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from genoseq.data.bases import base_log_probs
from genoseq.data.datamodule import GenomeData
from genoseq.data.split import ContiguousSplit
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer
from genoseq.data.windows import Batch
from genoseq.errors import UserError
from genoseq.models.lstm import LSTM
from genoseq.training.metrics import TokenMetrics
from genoseq.training.module import NextToken, on_device

sgd = partial(torch.optim.SGD, lr=0.5)
adam = partial(torch.optim.Adam, lr=0.01)
METRICS = ("loss", "accuracy", "bits_per_base", "perplexity")


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trainer_for(**kwargs) -> Trainer:
    options = {"max_steps": 4, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options |= {"enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0, "log_every_n_steps": 2}
    return Trainer(**(options | {"limit_val_batches": 0} | kwargs))


def small(vocabulary, seed=0, **kwargs) -> LSTM:
    torch.manual_seed(seed)
    return LSTM(vocabulary.size, **{"embed_dim": 8, "hidden_size": 16, **kwargs})


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    def write(records: dict[str, str]) -> str:
        path = tmp_path_factory.mktemp("genome") / "g.fa"
        path.write_text("".join(f">{name}\n{text}\n" for name, text in records.items()))
        return str(path)

    return write


@pytest.fixture(scope="module")
def fasta(write, letters):
    a = letters(3000)
    return write({"a": a[:2500] + "NNNN" + a[2504:], "b": letters(1500, 1)})


def data_for(path, tokenizer=None, test=0.4, **kwargs) -> GenomeData:
    options = {"seq_len": 12, "batch_size": 4, "eval_rows": 8, "eval_chunk": 64, "eval_warmup": 40} | kwargs
    tokenizer = tokenizer or CharTokenizer()
    options |= {"k": tokenizer.vocabulary.k, "stride": tokenizer.vocabulary.stride}
    return GenomeData(path, type(tokenizer), ContiguousSplit(test, 0.1), **options)


def measure(module, data, stage: str) -> dict[str, float]:
    """Return the metrics that a run over the validation or test part reports."""
    trainer = trainer_for(limit_val_batches=None)
    {"val": trainer.validate, "test": trainer.test}[stage](module, data, verbose=False)
    return {name: float(trainer.callback_metrics[f"{stage}/{name}"]) for name in METRICS}


class Losses(Callback):
    """Keeps every step's loss and the weights after it."""

    def __init__(self):
        self.loss, self.weights = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.loss.append(None if not outputs else float(outputs["loss"]))
        self.weights.append(torch.cat([p.detach().flatten().clone() for p in pl_module.net.parameters()]))


def fit(net, data, optimizer=sgd, seed=0, **kwargs) -> Losses:
    """Train a network and return what its steps left."""
    kept = Losses()
    trainer_for(callbacks=[kept], **kwargs).fit(NextToken(net, data.vocabulary, optimizer, seed=seed), data)
    return kept


@pytest.mark.parametrize("tokenizer", [CharTokenizer(), KmerTokenizer(2), KmerTokenizer(3, 3)])
def test_a_new_network_knows_nothing(fasta, tokenizer):
    net = small(tokenizer.vocabulary)
    nn.init.normal_(net.head.weight, std=1e-3)
    nn.init.zeros_(net.head.bias)
    kept = fit(net, data_for(fasta, tokenizer), max_steps=1)
    assert kept.loss[0] == pytest.approx(math.log(tokenizer.vocabulary.num_classes), abs=0.01)


def test_the_unknown_token_takes_no_part_in_the_softmax(fasta):
    v = CharTokenizer().vocabulary
    net = small(v)
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    net.head.bias.data[v.unknown] = 50.0  # were it predicted, everything else would be next to impossible
    kept = fit(net, data_for(fasta), max_steps=1)
    assert kept.loss[0] == pytest.approx(math.log(4), abs=1e-5)


def test_training_learns_a_repeat(write):
    data = data_for(write({"r": "ACGGT" * 400}), reverse_complement=False)
    kept = fit(small(data.vocabulary), data, partial(torch.optim.Adam, lr=0.03), max_steps=60)
    assert kept.loss[0] > 1.2
    assert kept.loss[-1] < 0.5


class OneBatch(GenomeData):
    """Gives windows whose targets are all unknown at the chosen steps."""

    blank = (1, 2)

    def on_after_batch_transfer(self, batch, dataloader_idx=0):
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        if self.trainer.training and batch.step in self.blank:
            batch.tokens[:, 1:] = self.vocabulary.unknown
        return batch


@pytest.mark.parametrize("tokenizer", [CharTokenizer(), KmerTokenizer(2)])
@pytest.mark.parametrize("optimizer", [adam, partial(torch.optim.SGD, lr=0.5, momentum=0.9)])
def test_a_batch_without_a_known_target_is_skipped(fasta, tokenizer, optimizer):
    kept = Losses()
    sizes = {"k": tokenizer.vocabulary.k, "seq_len": 12, "batch_size": 4}
    data = OneBatch(fasta, type(tokenizer), ContiguousSplit(0.4, 0.1), **sizes)
    module = NextToken(small(tokenizer.vocabulary), tokenizer.vocabulary, optimizer)
    trainer = trainer_for(max_steps=5, callbacks=[kept])
    trainer.fit(module, data)
    assert trainer.global_step == 5
    assert [loss is None for loss in kept.loss] == [False, True, True, False, False]
    assert all(weights.isfinite().all() for weights in kept.weights)
    moved = [not torch.equal(a, b) for a, b in zip(kept.weights, kept.weights[1:], strict=False)]
    assert moved == [False, False, True, True]
    assert all(float(trainer.callback_metrics[f"train/{name}"]) < 1e3 for name in METRICS)


class Fixed(nn.Module):
    """Logits that depend on the last token alone, from a table."""

    def __init__(self, size: int):
        super().__init__()
        self.table = nn.Parameter(torch.randn(size, size, generator=torch.Generator().manual_seed(3)))

    def forward(self, tokens, state=None):
        return self.table[tokens], state


@pytest.mark.parametrize("tokenizer", [CharTokenizer(), KmerTokenizer(2)])
def test_scores_are_the_documented_code_lengths(tokenizer):
    v = tokenizer.vocabulary
    net = Fixed(v.size)
    module = NextToken(net, v)
    known = list(range(v.first, v.first + v.num_classes))
    row = [known[1], known[0], v.unknown, known[3], known[2], known[2]]
    batch = Batch(torch.tensor([0]), 5, tokens=torch.tensor([row]))
    batch.scored = torch.tensor([[True, True, True, True, False]])
    scores = module._step(batch, "test")
    nats, scored = scores.nats, scores.scored
    assert scored.tolist() == [[True, False, True, True, False]]  # not the unknown target, not what does not count
    total, cost, right = 0.0, 0.0, 0
    for i in (0, 2, 3):  # what follows an unknown letter is scored: it is read, only never predicted
        logits = net.table[row[i], known].detach().double()
        target = row[i + 1] - v.first
        nat = float(logits.logsumexp(0) - logits[target])
        four = logits[target - target % 4 :][:4]  # the tokens that agree with the bases read
        base_nat = float(four.logsumexp(0) - logits[target])
        assert float(nats[0, i]) == pytest.approx(nat, abs=1e-5)
        assert float(scores.base_nats[0, i, 0]) == pytest.approx(base_nat, abs=1e-5)
        total, cost, right = total + nat, cost + base_nat, right + int(four.argmax() == target % 4)
    assert nats[0, [1, 4]].tolist() == scores.base_nats[0, [1, 4], 0].tolist() == [0, 0]
    metrics = {name: float(value) for name, value in module.test_metrics.compute().items()}
    assert metrics["loss"] == pytest.approx(total / 3, abs=1e-5)
    assert metrics["accuracy"] == pytest.approx(right / 3)
    assert metrics["bits_per_base"] == pytest.approx(cost / 3 / math.log(2), abs=1e-5)


def single_pass(net, data, stage: str) -> tuple[float, float, float]:
    """Loss (nats a token), and accuracy and bits a base, of one call over each interval of a part."""
    v, nats, bits, right, count = data.vocabulary, 0.0, 0.0, 0, 0
    tokens = data.tokenizer.encode(data.genome.codes).long()
    for a, b in data.parts.of(stage).tolist():
        row = tokens[a : b - v.k + 1 : v.stride]
        with torch.no_grad():
            logits = net(row[None, :-1])[0]
        target, keep = row[1:] - v.first, row[1:] != v.unknown
        known = logits[0, :, v.first : v.first + v.num_classes].double()
        nats += float(nn.functional.cross_entropy(known[keep], target[keep], reduction="sum"))
        log_probs, digits = (x[0, keep] for x in base_log_probs(logits, row[None, 1:], v))
        bits -= float(log_probs.take_along_dim(digits[..., None], -1).double().sum()) / math.log(2)
        right += int((log_probs.argmax(-1) == digits).sum())
        count += int(keep.sum())
    return nats / count, right / count / v.stride, bits / count / v.stride


def trained(path, tokenizer, steps=30) -> NextToken:
    v = tokenizer.vocabulary
    module = NextToken(small(v), v, partial(torch.optim.Adam, lr=0.02))
    trainer_for(max_steps=steps).fit(module, data_for(path, tokenizer, batch_size=16))
    return module.eval()


@pytest.mark.parametrize("tokenizer", [CharTokenizer(), KmerTokenizer(3, 1), KmerTokenizer(2, 2)])
def test_streams_in_chunks_equal_a_single_pass(fasta, tokenizer):
    module = trained(fasta, tokenizer)
    for chunk in (7, 5000):
        data = data_for(fasta, tokenizer, eval_rows=1, eval_chunk=chunk)
        metrics = measure(module, data, "val")
        loss, accuracy, bits = single_pass(module.net, data, "val")
        assert metrics["loss"] == pytest.approx(loss, abs=1e-5)
        assert metrics["accuracy"] == pytest.approx(accuracy, abs=1e-6)
        assert metrics["bits_per_base"] == pytest.approx(bits, abs=1e-5)
        assert metrics["perplexity"] == pytest.approx(2**bits, rel=1e-4)


def test_many_streams_with_a_warm_up_stay_close_to_a_single_pass(write, letters, monkeypatch):
    # a repeat that one has to remember to predict: the state matters
    path = write({"a": (letters(23) * 400)[:8000]})
    tokenizer = CharTokenizer()
    module = trained(path, tokenizer, steps=150)
    monkeypatch.setattr("genoseq.data.datamodule.interval_streams", cut_in_small_pieces)

    def bits(**kwargs) -> float:
        data = data_for(path, tokenizer, **kwargs)
        metrics = measure(module, data, "test")
        assert module.test_metrics.count.sum() == sum(b - a - 1 for a, b in data.parts.test.tolist())
        return metrics["bits_per_base"]

    data = data_for(path, tokenizer)
    exact = single_pass(module.net, data, "test")[2]
    assert bits(eval_rows=100, eval_warmup=64) == pytest.approx(exact, abs=0.01)
    assert bits(eval_rows=100, eval_warmup=0) > exact + 0.02  # so the warm-up is what keeps them together


def cut_in_small_pieces(intervals, within, k, stride, rows, warmup):
    from genoseq.data.windows import interval_streams

    return interval_streams(intervals, within, k, stride, rows, warmup, piece=10)


def test_metrics_by_block(fasta):
    data = data_for(fasta, test=0.6)  # 1200 bases of a, all 1500 of b
    module = trained(fasta, CharTokenizer())
    module.test_metrics.__init__(1, groups=len(data.blocks))
    measure(module, data, "test")
    metrics = measure(module, data, "test")  # a second test counts nothing twice
    by_block = module.test_metrics.by_group()
    assert by_block[:, 3].tolist() == [1199 - 4, 1499]  # the four unknown letters are not predicted
    assert metrics["loss"] == pytest.approx(float(by_block[:, 0].sum()) / (1195 + 1499), rel=1e-5)
    assert by_block[0, 0] / 1195 != by_block[1, 0] / 1499


def test_dropout_is_a_function_of_the_step(fasta):
    v, drawn = CharTokenizer().vocabulary, set()

    def weights(seed: int, disturb: int) -> torch.Tensor:
        net = small(v, num_layers=2, dropout=0.5)
        torch.manual_seed(disturb)
        return fit(net, data_for(fasta), seed=seed).weights[-1]

    assert torch.equal(weights(0, 1), weights(0, 2))
    assert not torch.equal(weights(0, 1), weights(1, 1))
    for step in (0, 1, 2, 1):
        NextToken(small(v), v).on_train_batch_start(Batch(torch.tensor([0]), 1, step=step), 0)
        drawn.add(float(torch.rand(())))
    assert len(drawn) == 3


def test_validation_does_not_disturb_training(fasta):
    def weights(**kwargs) -> torch.Tensor:
        net = small(CharTokenizer().vocabulary, num_layers=2, dropout=0.5)
        return fit(net, data_for(fasta, carry_tokens=36), adam, max_steps=6, **kwargs).weights[-1]

    assert torch.equal(weights(), weights(limit_val_batches=None, val_check_interval=1, check_val_every_n_epoch=None))


def test_a_checkpoint_holds_plain_things(fasta, tmp_path):
    v = CharTokenizer().vocabulary
    trainer = trainer_for()
    trainer.fit(NextToken(small(v), v, adam, metadata={"genome": {"name": "g"}}), data_for(fasta))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["genoseq"]["genome"] == {"name": "g"}
    state = content["genoseq"]["ranks"][0]["state"]
    assert [part.shape for part in state] == [(1, 4, 16)] * 2
    assert not any(part.requires_grad for part in state)


def test_a_rank_resumes_its_own_state_and_sums(monkeypatch, caplog):
    v = CharTokenizer().vocabulary
    ranks = []
    for rank in (0, 1):
        metrics = TokenMetrics(1)
        nats, right = torch.full((1, 4), rank + 1.0), torch.ones(1, 4).bool()
        metrics.update(nats, nats[..., None], right[..., None], right)
        ranks.append({"state": (torch.full((1, 4, 16), float(rank)),) * 2, "train_metrics": metrics.metric_state})
    checkpoint = {"genoseq": {"ranks": ranks}}
    alone = NextToken(small(v), v, adam)
    alone.on_load_checkpoint(checkpoint)
    assert "2 process" in caplog.text
    assert alone._state == {} and float(alone.train_metrics.nats.sum()) == 0
    second = NextToken(small(v), v, adam)
    monkeypatch.setattr(NextToken, "_world_size", 2)
    monkeypatch.setattr(NextToken, "global_rank", 1)
    second.on_load_checkpoint(checkpoint)  # Lightning reads it before it moves the module
    assert float(second.train_metrics.nats.sum()) == 8
    second.to("meta")
    second.on_fit_start()
    assert [part.device.type for part in (*second._state["train"], second.train_metrics.nats)] == ["meta"] * 3


def test_scoring_outside_the_loops_uses_the_trainer_s_device_and_precision():
    v = CharTokenizer().vocabulary
    module, trainer = NextToken(small(v), v), trainer_for(precision="bf16-mixed")
    trainer.strategy._root_device = torch.device("meta")
    with on_device(module, trainer):
        assert module.net.head.weight.device.type == "meta"
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def test_the_scheduler_counts_optimizer_steps(fasta):
    v = CharTokenizer().vocabulary
    halve = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    module = NextToken(small(v), v, sgd, scheduler=halve)
    trainer = trainer_for(max_steps=3, accumulate_grad_batches=2)
    trainer.fit(module, data_for(fasta))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.5 / 8)


def test_accumulated_batches_are_one_larger_batch(fasta):
    def weights(accumulate: int, batch_size: int) -> torch.Tensor:
        data = data_for(fasta, batch_size=batch_size)
        return fit(small(data.vocabulary), data, max_steps=3, accumulate_grad_batches=accumulate).weights[-1]

    # up to rounding, and the few unknown letters, which a smaller batch weighs a little differently
    assert torch.allclose(weights(2, 4), weights(1, 8), atol=1e-3)
    assert not torch.allclose(weights(2, 4), weights(1, 4), atol=1e-3)


def test_gradients_of_a_fused_optimizer_are_clipped(fasta):
    data, fused = data_for(fasta), partial(torch.optim.SGD, lr=1.0, fused=True)
    net = small(data.vocabulary)
    before = torch.cat([p.detach().flatten().clone() for p in net.parameters()])
    kept = fit(net, data, fused, max_steps=1, precision="bf16-mixed", gradient_clip_val=1e-3)
    assert float((kept.weights[0] - before).norm()) == pytest.approx(1e-3, rel=0.02)
    float16 = MixedPrecision("16-mixed", "cpu")  # as a plugin: by name a Trainer on the CPU takes bf16 instead
    refusal = pytest.raises(UserError, match=r"optimizer\.fused=false")
    with refusal, torch.backends.mkldnn.flags(enabled=False):  # oneDNN's LSTM has no float16
        fit(net, data, fused, max_steps=1, plugins=[float16], gradient_clip_val=1e-3)
