"""The mixer: what it may not depend on, what its experts count, and an oracle in plain loops."""

import math
import random
from collections import Counter, defaultdict
from contextlib import ExitStack
from unittest import mock

import numpy as np
import pytest
import torch

from genoseq.baselines import counts, experts
from genoseq.data.datamodule import GenomeData
from genoseq.data.split import BlocksSplit, ContiguousSplit
from genoseq.data.tokenizer import CharTokenizer
from genoseq.errors import UserError
from genoseq.models.lstm import LSTM
from genoseq.training import mixing
from genoseq.training.mixing import ExpertMixer
from genoseq.training.module import NextToken

ORDERS = [1, 2, 4, 8, 11, 12, 16, 22]
SIZES = {"steps": 20, "batch_size": 256, "hidden": 4, "lr": 0.05, "online_size": 64, "online_lr": 0.01}
COMPLEMENT = {1: 3, 2: 4, 3: 1, 4: 2}  # of ids A, C, T, G


@pytest.fixture(autouse=True)
def small():
    """Chunks of 700 bases, tables of up to 4 bases, weights that depend on the experts."""
    with ExitStack() as stack:
        for module, values in (
            (experts, {"CHUNK": 700}),
            (counts, {"DIRECT": 4}),
            (mixing, {"CONSTANT_BELOW": 0}),
        ):
            stack.enter_context(mock.patch.multiple(module, **values))
        yield


def turned(letters):
    return letters[::-1].translate(str.maketrans("ACGT", "TGCA"))


def repetitive(letters, seed=0):
    """Return two records of 24 kb in all, copies on both strands everywhere, within the test part too."""
    one, rest, motif = letters(5_000, seed), letters(14_000, seed + 1), letters(300, seed + 2)
    tail = letters(600, seed + 3)
    test = motif + tail + turned(motif) + one[:400] + turned(one[1000:1500]) + tail + turned(tail) + letters(900, 9)
    return {"one": one, "two": motif + rest[:7000] + turned(motif) + "NNN" + rest[7000:] + test}


def data_of(genome, split=None, **kwargs):
    sizes = {"seq_len": 20, "eval_rows": 3, "eval_chunk": 50, "eval_warmup": 30} | kwargs
    data = GenomeData("unused", CharTokenizer, split or ContiguousSplit(0.2, 0.1), **sizes)
    data.genome = genome
    data.setup("fit")
    return data


def network(data):
    torch.manual_seed(1)
    return NextToken(LSTM(data.vocabulary.size, embed_dim=6, hidden_size=8), data.vocabulary)


def fitted(data, **kwargs):
    mixer = ExpertMixer(ORDERS, **(SIZES | kwargs))
    mixer.fit(network(data), data, seed=0)
    return mixer


def predicted(mixer, data, training_data=None):
    """Return positions (n,), digits (n,), features (2, n, experts, 5) and log-probabilities (2, n, 4)."""
    chunks = list(mixer.predict(network(data), data, training_data or data))
    mixed = [np.concatenate([m.at for m, _ in chunks]), torch.cat([m.digit for m, _ in chunks])]
    return *mixed, torch.cat([m.features for m, _ in chunks], 1), torch.cat([p for _, p in chunks], 1)


def test_no_prediction_depends_on_its_base_or_a_later_one(make_genome, letters):
    records = repetitive(letters)
    data = data_of(make_genome(records))
    mixer = fitted(data)
    at, _, features, log_probs = predicted(mixer, data)
    assert features[:, :, :-1, 4].ne(0).any(dim=1).all()  # every expert knows something
    assert not torch.equal(*log_probs) and torch.allclose(log_probs.exp().sum(-1), torch.ones(()))
    rng, text = random.Random(0), "".join(records.values())
    start, end = data.parts.test[0].tolist()
    assert end - start > 5 * experts.CHUNK and features.shape[:2] == (2, end - start - 1)
    # at edges of chunks and of what the weights learn from at once, and anywhere
    for t in (start + 1, start + 701, start + 702, start + 1 + 64 * 9, *(rng.randrange(start, end) for _ in range(4))):
        for last in (t + 1, end):
            other = "".join(rng.choice("ACGT".replace(letter, "")) for letter in text[t:last])
            changed = text[:t] + other + text[last:]
            again = data_of(make_genome({"one": changed[:5_000], "two": changed[5_000:]}))
            same_at, digit, _, same = predicted(mixer, again, training_data=data)
            assert np.array_equal(at, same_at) and (int(digit[at == t]) + 1 == again.genome.codes[t])
            past = at <= t
            assert torch.equal(log_probs[:, past], same[:, past])
            assert not past.all() and not torch.equal(log_probs[:, ~past], same[:, ~past])


def test_a_test_base_changes_no_fitted_weight_and_a_validation_base_does(make_genome, letters):
    records = repetitive(letters)
    data, states = data_of(make_genome(records)), []
    for at in (None, *data.parts.test[0] - [0, 1], data.parts.val[0, 0] + 900):
        text = list("".join(records.values()))
        if at is not None:
            text[at] = "A" if text[at] != "A" else "C"
        data = data_of(make_genome({"one": "".join(text[:5_000]), "two": "".join(text[5_000:])}))
        states.append(fitted(data).state())
    for name, weights in states[0].items():
        assert torch.equal(weights, states[1][name]) and torch.equal(weights, states[2][name])
    assert not all(torch.equal(weights, states[3][name]) for name, weights in states[0].items())


@pytest.mark.parametrize("split", [ContiguousSplit(0.2, 0.1), BlocksSplit(0.2, 0.1, block_size=1500)])
def test_what_is_predicted_is_never_counted(make_genome, letters, monkeypatch, split):
    calls = []

    class Spy(experts.Experts):
        def __init__(self, codes, intervals, *args):
            super().__init__(codes, intervals, *args)
            self.counted = intervals

        def along(self, codes, intervals, adaptive=False):
            calls.append((covered(self.counted), covered(intervals)))
            return super().along(codes, intervals, adaptive)

    def covered(intervals):
        return {base for a, b in intervals.tolist() for base in range(a, b)}

    monkeypatch.setattr(mixing, "Experts", Spy)
    data = data_of(make_genome(repetitive(letters)), split)
    train, val, test = (covered(data.parts.of(stage)) for stage in ("train", "val", "test"))
    mixer = fitted(data)
    *held, last = calls
    assert last == (train, val) and len(held) == mixing.PIECES
    pieces = [train - counted for counted, _ in held]
    for (counted, asked), piece in zip(held, pieces, strict=True):
        assert counted < train and piece <= asked < train  # what the experts begin with is counted, but not predicted
        assert len(asked - piece) <= mixing.LEAD * len(data.parts.train)
    assert sum(map(len, pieces)) == len(set().union(*pieces)) == 4 * (len(train) // 16)
    calls.clear()
    mixer.score(network(data), data, data)
    assert calls == [(train | val, test)]


def counted(letters, spans, k, events):
    """Add what followed each context of k letters, on both strands, within each span."""
    for a, b in spans:
        for t in range(a + k, b):
            _count(events, letters[t - k : t + 1])


def _count(events, window):
    if 0 not in window:
        other = [COMPLEMENT[letter] for letter in window[::-1]]
        for strand in (window, other):
            events[tuple(strand[:-1])][strand[-1] - 1] += 1


def repeated(letters, words, past, t, pointer, length, other, step):
    """Return (guess, hits, misses, length) of a repeat model at t, and its pointer afterwards."""
    if pointer is None and t >= past + length and 0 not in (word := letters[t - length : t]):
        found = words.get(tuple(COMPLEMENT[letter] for letter in word[::-1]) if other else tuple(word))
        pointer = None if found is None else [found[0] - 1 if other else found[0] + length, found[1], 0.0, 0.0, []]
    if pointer is None or not pointer[1][0] <= pointer[0] < pointer[1][1] or not letters[pointer[0]]:
        return None, None
    at, span, hits, misses, seen = pointer
    guess = COMPLEMENT[letters[at]] if other else letters[at]
    hit = guess == letters[t]
    seen = [*seen, hit]
    after = [at + step, span, hits * 0.95 + hit, misses * 0.95 + (not hit), seen]
    return (guess - 1, hits, misses, len(seen) - 1), None if seen[-16:].count(False) > 8 else after


def oracle(letters, known, test, orders, network, state, length=16):
    """Return the log-probabilities (2, n, 4), frozen and adaptive, of the known bases of one test interval."""
    start, end = test
    state = {name: value.double().numpy() for name, value in state.items()}
    events = [[defaultdict(lambda: [0] * 4) for _ in orders] for _ in range(2)]
    for mode in events:
        for k, each in zip(orders, mode, strict=True):
            counted(letters, known, k, each)
    words = [{}, {}]
    for a, b in known:
        for at in range(a, b - length + 1):
            for mode in words:
                mode[tuple(letters[at : at + length])] = (at, (a, b))
    pointers, out = [[None, None], [None, None]], [[], []]
    for t in range(start, end):
        for mode in range(2) if letters[t] else ():
            features = []
            for k, each in zip(orders, events[mode], strict=True):
                a = 1 if k < 11 else 0.3 if k < 14 else 1 / 16
                context = letters[t - k : t] if t - k >= start else [0]
                n = each.get(tuple(context), [0] * 4)
                features.append([*(math.log((x + a) / (sum(n) / 4 + a)) for x in n), math.log(1 + sum(n)) / 4])
            for other in range(2):
                step = 1 - 2 * other
                said, pointers[mode][other] = repeated(
                    letters, words[mode], start, t, pointers[mode][other], length, other, step
                )
                row = [0.0] * 5
                if said:
                    right = min(max((said[1] + 0.6) / (said[1] + said[2] + 1), 0.02), 0.9995)
                    row = [math.log((1 - right) * 4 / 3)] * 4 + [math.log(1 + said[3]) / 4 + 0.1]
                    row[said[0]] = math.log(4 * right)
                features.append(row)
            if t > start:
                features = np.array([*features, [*(network[t] + math.log(4)), 0]])
                ratio = features[:, :4]
                seen = [(np.exp(ratio) / 4 * ratio).sum(1), features[:, 4], ratio.max(1)]
                hidden = np.maximum(state["mlp.0.weight"] @ np.concatenate(seen) + state["mlp.0.bias"], 0)
                weight = state["base"] + state["mlp.2.weight"] @ hidden + state["mlp.2.bias"]
                logit = weight[:-4] @ ratio + weight[-4:]
                out[mode].append(logit - np.log(np.exp(logit).sum()))
        if not letters[t]:
            pointers = [[None, None], [None, None]]
        for k, each in zip(orders, events[1], strict=True):
            if t - k >= start:
                _count(each, letters[t - k : t + 1])
        if t - length >= start:  # a word may be found one base after its end
            words[1][tuple(letters[t - length : t])] = (t - length, test)
    return np.array(out)


def test_an_oracle_in_plain_loops(make_genome, letters):
    one, tail = letters(3600), letters(150, 1)
    test = one[100:300] + "ACGT" + turned(one[400:600]) + tail + "N" + tail + one[3200:3300] + turned(tail)
    data = data_of(make_genome(one + test), ContiguousSplit(len(test) / len(one + test), 0.1), eval_warmup=5000)
    mixer = fitted(data, online_lr=0)
    torch.manual_seed(2)
    for weight in mixer.net.parameters():  # far from what 20 steps make of them
        weight.data += torch.randn_like(weight) / 3
    at, _, features, log_probs = predicted(mixer, data)
    network = dict(zip(at.tolist(), features[0, :, -1, :4].double().numpy() - math.log(4), strict=True))
    known = [tuple(interval) for stage in ("train", "val") for interval in data.parts.of(stage).tolist()]
    want = oracle(data.genome.codes.tolist(), known, tuple(data.parts.test[0]), ORDERS, network, mixer.state())
    assert features[:, :, -3:-1, 4].ne(0).any(dim=1).all()  # both repeat models, frozen and adaptive
    assert np.abs(want - log_probs.double().numpy()).max() < 2e-6 * max(1, np.abs(want).max())


def test_shuffled_letters_cost_their_own_entropy(make_genome, letters):
    n = 60_000
    text = "".join(random.Random(0).choices("ACGT", (0.31, 0.2, 0.19, 0.3), k=n))
    data = data_of(make_genome(text), eval_rows=16)
    with mock.patch.object(experts, "CHUNK", 1 << 14):
        mixer = fitted(data, steps=200, batch_size=1024, hidden=16, lr=0.01, online_lr=0.0005)
        sums = mixer.score(network(data), data, data).sum(1)
    share = [count / n for count in Counter(text).values()]
    own = Counter(text[-n // 5 :]).values()
    entropy, of_test = (-sum(p * math.log2(p) for p in each) for each in (share, [c * 5 / n for c in own]))
    for nats, _, bases in sums:
        assert bases == n // 5 - 1
        assert nats / bases / math.log(2) == pytest.approx(entropy, abs=0.02)
        assert nats / bases / math.log(2) > of_test - 0.001


def test_short_validation_parts_have_constant_weights_and_any_number_of_steps_fits(make_genome, letters):
    data = data_of(make_genome(repetitive(letters)))
    with mock.patch.object(mixing, "CONSTANT_BELOW", 20_000):
        assert set(fitted(data).state()) == {"base"}
    assert set(fitted(data).state()) > {"base"}
    assert all(fitted(data, steps=steps).state()["base"].sum() != 1 for steps in (1, 5, 49))


BAD = {
    "orders": ([], [1, 1], [25], [-1], ["11"]),
    "repeat": (0, 33, 1.5),
    "steps": (0, "many"),
    "online_size": (0,),
    "hidden": (-1,),
    "lr": (-1, "fast", math.inf),
    "online_lr": (-0.1, None),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_settings_out_of_range_are_refused_before_training(name, value):
    with pytest.raises(UserError, match=f"mixer.{name} must be"):
        ExpertMixer(**({"orders": [1, 2]} | {name: value}))


HOSTILE = {
    "no weights": {},
    "a number": 3,
    "a list": [torch.zeros(3)],
    "a tensor": torch.zeros(3),
    "no tensors": {"base": [0.0] * 15},
    "another shape": {"base": torch.zeros(14)},
    "integers": {"base": torch.zeros(15, dtype=torch.int64)},
    "doubles": {"base": torch.zeros(15, dtype=torch.float64)},
    "sparse": {"base": torch.zeros(15).to_sparse()},
    "without memory": {"base": torch.empty(15, device="meta")},
    "a name that is none": {3: torch.zeros(15)},
    "no shape": {"base": torch.zeros(15), "mlp.0.weight": torch.tensor(1.0)},
    "a terabyte": {
        "base": torch.zeros(15),
        "mlp.0.weight": torch.zeros(1).expand(10**10, 33),
        "mlp.0.bias": torch.zeros(1).expand(10**10),
        "mlp.2.weight": torch.zeros(1).expand(15, 10**10),
        "mlp.2.bias": torch.zeros(15),
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_weights_that_are_not_a_mixer_s_are_refused(name):
    with pytest.raises(UserError, match="the checkpoint's mixer has other weights than its settings say"):
        ExpertMixer(ORDERS).load(HOSTILE[name])
    mixer = ExpertMixer(ORDERS)
    mixer.load({"base": torch.ones(15)})
    assert torch.equal(mixer.state()["base"], torch.ones(15))
