"""The training step of the report's Models 1 and 3, against the report's own loop and against its matrix products.

The report feeds one token a call, adds up the losses and steps once, in 32 bits. The matrix products alone are those of
the step's forward and backward pass, in its precision and shapes, their outputs allocated once. Rows of 64 windows: the
report's 512 (256 for Model 3) are the same work eight times on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.rows import Row, by_turns, rate
from genoseq.app.build import few_threads, precision
from genoseq.app.runtime import retain_heap
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer, Tokenizer
from genoseq.data.windows import Batch
from genoseq.models.lstm import LSTM
from genoseq.training.module import NextToken

MODELS: dict[str, tuple[Tokenizer, dict[str, float]]] = {
    "Model 1": (CharTokenizer(), {"embed_dim": 128, "hidden_size": 1024, "num_layers": 1}),
    "Model 3": (KmerTokenizer(4), {"embed_dim": 512, "hidden_size": 1024, "num_layers": 3, "dropout": 0.5}),
}
CUDA = torch.cuda.is_available()


def whole_sequence(net: nn.Module, tokenizer: Tokenizer, tokens: Tensor, bf16: bool) -> Callable[[], None]:
    """Return genoseq's step: the module's loss, clipping, a fused optimizer."""
    module = NextToken(net, tokenizer.vocabulary, has_unknown=False).to(tokens.device)
    optimizer = torch.optim.Adam(net.parameters(), 0.001, fused=True)
    batch = Batch(tokens[:, 0], tokens.shape[1] - 1, tokens=tokens)

    def step() -> None:
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=bf16):
            scores = module.score(batch)
        optimizer.zero_grad()
        (scores.nats.sum() / scores.scored.sum()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if CUDA:
            torch.cuda.synchronize()

    return step


def one_token_a_call(net: nn.Module, tokens: Tensor) -> Callable[[], None]:
    """Return the report's step."""
    optimizer = torch.optim.Adam(net.parameters(), 0.001)

    def step() -> None:
        loss, state = torch.zeros((), device=tokens.device), None
        for i in range(tokens.shape[1] - 1):
            logits, state = net(tokens[:, i : i + 1], state)
            loss = loss + nn.functional.cross_entropy(logits[:, 0], tokens[:, i + 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if CUDA:
            torch.cuda.synchronize()

    return step


def products(net: LSTM, rows: int, length: int, bf16: bool) -> Callable[[], None]:
    """Return the matrix products of a step: inputs of all tokens at once, the recurrent ones token by token."""
    dtype, device = torch.bfloat16 if bf16 else torch.float32, "cuda" if CUDA else "cpu"
    hidden = net.lstm.hidden_size

    def make(*shape: int) -> Tensor:
        return torch.randn(shape, device=device).to(dtype)

    calls: list[tuple[int, Tensor, Tensor, Tensor]] = []

    def add(times: int, m: int, k: int, n: int) -> None:
        calls.append((times, make(m, k), make(k, n), make(m, n)))

    for layer in range(net.lstm.num_layers):
        width = net.lstm.input_size if layer == 0 else hidden
        add(1, rows * length, width, 4 * hidden)
        add(length, rows, hidden, 4 * hidden)
        add(1, rows * length, 4 * hidden, width)
        add(length, rows, 4 * hidden, hidden)
        add(1, 4 * hidden, rows * length, width)
        add(1, 4 * hidden, rows * length, hidden)
    classes = net.head.out_features
    for m, k, n in (
        (rows * length, hidden, classes),
        (rows * length, classes, hidden),
        (classes, rows * length, hidden),
    ):
        add(1, m, k, n)

    def step() -> None:
        for times, a, b, out in calls:
            for _ in range(times):
                torch.mm(a, b, out=out)
        if CUDA:
            torch.cuda.synchronize()

    return step


def rows(quick: bool) -> Iterator[Row]:
    """Measure."""
    size, length, repeats = (4, 8, 1) if quick else (64, 200, 2)
    retain_heap()  # as genoseq's commands do
    bf16 = precision("auto", "gpu" if CUDA else "cpu") == "bf16-mixed"
    for name, (tokenizer, sizes) in MODELS.items():
        torch.manual_seed(0)
        net = LSTM(tokenizer.vocabulary.size, **sizes)  # type: ignore[arg-type]
        if quick:
            net = LSTM(tokenizer.vocabulary.size, 8, 16)
        net.to("cuda" if CUDA else "cpu")
        first, classes = tokenizer.vocabulary.first, tokenizer.vocabulary.num_classes
        tokens = torch.randint(first, first + classes, (size, length + 1), device=net.head.weight.device)
        steps = [
            whole_sequence(net, tokenizer, tokens, bf16),
            one_token_a_call(net, tokens),
            products(net, size, length, bf16),
        ]
        with few_threads(net, size):
            for warm in (whole_sequence(net, tokenizer, tokens[:, :9], bf16), one_token_a_call(net, tokens[:, :9])):
                warm()
            ours, report, alone = by_turns(repeats, *(partial(rate, step, size * length, 0.1) for step in steps))
        kind = "bf16" if bf16 else "fp32"
        goals = (">= 20", ">= 0.5") if CUDA else (">= 4" if bf16 else ">= 2.9", ">= 0.8")
        yield Row(f"training step, {name}, {kind}", "the report's loop", "tokens/s", ours, report, goals[0])
        yield Row(f"training step, {name}, {kind}", "its matrix products alone", "tokens/s", ours, alone, goals[1])
