import pytest
import torch

from genoseq.models.lstm import LSTM


@pytest.fixture
def tokens():
    return torch.randint(0, 17, (3, 20), generator=torch.Generator().manual_seed(0))


def small(**kwargs) -> LSTM:
    torch.manual_seed(0)
    return LSTM(17, **{"embed_dim": 6, "hidden_size": 10, **kwargs})


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_one_call_is_one_token_at_a_time(tokens, layers):
    net = small(num_layers=layers).eval()
    whole, last = net(tokens)
    state, logits = None, []
    for t in range(tokens.shape[1]):
        out, state = net(tokens[:, t : t + 1], state)
        logits.append(out)
    assert torch.allclose(torch.cat(logits, 1), whole, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(state, last, strict=True))
    cold, _ = net(tokens[:, 10:])
    assert not torch.allclose(cold, whole[:, 10:], atol=1e-4)  # so the state does carry something


def test_a_prediction_sees_nothing_after_it(tokens):
    net = small().eval()
    other = tokens.clone()
    other[:, 12:] = (other[:, 12:] + 1) % 17
    a, b = net(tokens)[0], net(other)[0]
    assert torch.equal(a[:, :12], b[:, :12])
    assert not torch.allclose(a[:, 12:], b[:, 12:])


def test_shapes(tokens):
    logits, (h, c) = small(num_layers=2)(tokens)
    assert logits.shape == (3, 20, 17)
    assert h.shape == c.shape == (2, 3, 10)


def test_the_vocabulary_is_the_embeddings_and_the_heads(tokens):
    net = small()
    assert net.embedding.num_embeddings == net.head.out_features == 17
    with pytest.raises(IndexError):
        net(tokens.new_tensor([[17]]))


@pytest.mark.parametrize("layers", [1, 2])
def test_forget_bias_touches_the_forget_gates_only(layers):
    plain, biased = small(num_layers=layers), small(num_layers=layers, forget_bias=1.0)
    for name, value in plain.state_dict().items():
        difference = biased.state_dict()[name] - value
        if name.startswith("lstm.bias_hh"):
            expected = torch.zeros(40)
            expected[10:20] = 1  # PyTorch's order: input, forget, cell, output
            assert torch.allclose(difference, expected)
        else:
            assert torch.equal(difference, torch.zeros_like(difference))


def test_a_large_forget_bias_keeps_the_cell_state(tokens):
    def kept(bias: float) -> torch.Tensor:  # share of an earlier cell state that one token leaves: the forget gate
        net, zero = small(forget_bias=bias), torch.zeros(1, 3, 10)
        return net(tokens[:, :1], (zero, zero + 1))[1][1] - net(tokens[:, :1], (zero, zero))[1][1]

    assert torch.allclose(kept(30.0), torch.ones(1, 3, 10), atol=1e-5)
    assert torch.allclose(kept(-30.0), torch.zeros(1, 3, 10), atol=1e-5)


def test_state_dict_round_trip(tokens, tmp_path):
    net = small(num_layers=2)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    torch.manual_seed(1)
    other = LSTM(17, embed_dim=6, hidden_size=10, num_layers=2)
    before = other(tokens)[0]
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    assert torch.equal(other(tokens)[0], net(tokens)[0])
    assert not torch.equal(before, net(tokens)[0])


def test_dropout_lies_between_layers_and_only_in_training(tokens):
    net = small(num_layers=2, dropout=0.5)
    assert not torch.equal(net(tokens)[0], net(tokens)[0])
    net.eval()
    assert torch.equal(net(tokens)[0], net(tokens)[0])
    single = small(dropout=0.5)  # one layer has no place for it
    assert torch.equal(single(tokens)[0], single(tokens)[0])
