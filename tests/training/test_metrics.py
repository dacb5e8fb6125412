import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genoseq.training.metrics import TokenMetrics


def random_batch(generator, stride, rows=5, length=8):
    scored = torch.rand(rows, length, generator=generator) < 0.7
    base_nats = torch.rand(rows, length, stride, generator=generator) * 3 * scored[..., None]
    nats = (1 + torch.rand(rows, length, generator=generator)) * base_nats.sum(-1)
    correct = (torch.rand(rows, length, stride, generator=generator) < 0.4) & scored[..., None]
    return nats, base_nats, correct, scored


def ones(rows, length):
    """Return a batch of one-base tokens, each scored, right, and one nat."""
    nats = torch.ones(rows, length)
    return nats, nats[..., None], nats[..., None].bool(), nats.bool()


@given(seed=st.integers(0, 10_000), stride=st.integers(1, 6), batches=st.integers(1, 4), groups=st.integers(1, 4))
def test_values_equal_a_direct_computation(seed, stride, batches, groups):
    g = torch.Generator().manual_seed(seed)
    metric = TokenMetrics(stride, groups)
    tokens = []  # (group, nats, base nats, correct bases) of each scored token
    for _ in range(batches):
        nats, base_nats, correct, scored = random_batch(g, stride)
        group = torch.randint(0, groups, scored.shape, generator=g)
        metric.update(nats, base_nats, correct, scored, group)
        for row, column in scored.nonzero().tolist():
            token = nats[row, column], base_nats[row, column].sum(), correct[row, column].sum()
            tokens.append((int(group[row, column]), *map(float, token)))

    def check(values, chosen):
        bases = stride * len(chosen)
        nats, base_nats, right = (sum(t[i] for t in chosen) for i in (1, 2, 3))
        assert float(values["loss"]) == pytest.approx(nats / len(chosen), rel=1e-6)
        assert float(values["accuracy"]) == pytest.approx(right / bases)
        assert float(values["bits_per_base"]) == pytest.approx(base_nats / bases / math.log(2), rel=1e-6)
        assert float(values["perplexity"]) == pytest.approx(2 ** float(values["bits_per_base"]), rel=1e-6)

    check(metric.compute(), tokens)
    sums = [[sum(t[i] for t in tokens if t[0] == group) for i in (1, 2, 3)] for group in range(groups)]
    counts = [sum(t[0] == group for t in tokens) for group in range(groups)]
    by_group = metric.by_group()
    assert by_group[:, 3].tolist() == counts
    torch.testing.assert_close(by_group[:, :3], torch.tensor(sums, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_values_of_an_even_guess_are_two_bits():
    metric = TokenMetrics(stride=1)
    nats = torch.full((2, 3), math.log(4))
    metric.update(nats, nats[..., None], torch.eye(2, 3).bool()[..., None], torch.ones(2, 3).bool())
    values = {name: float(value) for name, value in metric.compute().items()}
    assert values == pytest.approx({"loss": math.log(4), "accuracy": 1 / 3, "bits_per_base": 2, "perplexity": 4})


def test_without_groups_everything_is_the_first():
    metric = TokenMetrics(1, groups=3)
    metric.update(*ones(2, 3))
    assert metric.by_group()[:, 3].tolist() == [6, 0, 0]
    single = TokenMetrics(1)  # one that keeps no groups apart takes any group's number
    single.update(*ones(2, 3), torch.full((2, 3), 7))
    assert int(single.count.sum()) == 6


def test_merged_metrics_are_one():
    g = torch.Generator().manual_seed(0)
    one, parts = TokenMetrics(2, 3), [TokenMetrics(2, 3), TokenMetrics(2, 3)]
    for i in range(6):
        batch = random_batch(g, 2)
        group = torch.randint(0, 3, batch[-1].shape, generator=g)
        one.update(*batch, group)
        parts[i % 2].update(*batch, group)
    parts[0].merge_state(parts[1])
    torch.testing.assert_close(parts[0].by_group(), one.by_group())
    assert float(parts[0].compute()["loss"]) == pytest.approx(float(one.compute()["loss"]))
    assert one._reductions == dict.fromkeys(("nats", "base_nats", "correct", "count"), one._reductions["count"])
    assert torch.equal(one._reductions["nats"](torch.tensor([[1, 2], [3, 4]])), torch.tensor([4, 6]))  # ranks add up


def test_many_small_terms_do_not_drown():
    # a genome's worth of tokens: a float32 sum would stop growing at 2^24
    metric = TokenMetrics(1)
    nats, base_nats, correct, scored = ones(1, 1)
    metric.update(2.0**25 * nats, 2.0**25 * base_nats, correct, scored)
    for _ in range(64):
        metric.update(nats, base_nats, correct, scored)
    assert float(metric.nats.sum()) == float(metric.base_nats.sum()) == 2.0**25 + 64


def test_reset_and_what_a_checkpoint_holds():
    metric = TokenMetrics(1)
    metric.update(*ones(1, 4))
    other = TokenMetrics(1)
    earlier = {name: metric.metric_state[name] for name in ("nats", "correct", "count")}  # before there were base_nats
    assert not other.load_sums(earlier) and int(other.count.sum()) == 0
    assert other.load_sums(metric.metric_state) and int(other.count.sum()) == 4
    metric.reset()
    assert int(metric.count.sum()) == 0
    assert TokenMetrics(1).state_dict() == {}
