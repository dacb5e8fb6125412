"""What the trainer costs beside a bare PyTorch loop, what a busy neighbour costs it, and what two processes gain.

A rate is that of ``genoseq.train`` with all its logging and progress, without its validations and what was before the
first logged interval; the bare loop trains the same network on windows of the same genome, with the same optimizer,
clipping and precision.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.rows import Row, busy_neighbour, by_turns, child, train

ALONE = ("mixer=none", "baseline=false", "data.val_bases=10000", "data.eval_bases=10000")
LARGE = ("model.embed_dim=128", "model.hidden_size=1024", "data.batch_size=64", "data.seq_len=200")
LARGE += ("trainer.log_every_n_steps=4",)
BARE = """
import sys, time, hydra, torch
from genoseq.app import build, resolvers
from genoseq.app.cli import conf_dir
from genoseq.app.runtime import retain_heap
retain_heap()
resolvers.register()
with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
    cfg = hydra.compose("train", sys.argv[2:])
data = build.build_data(cfg.data)
data.setup("fit")
net = build.build_module(cfg, data).net
optimizer = build.instantiate(cfg.optimizer)(net.parameters())
precision = build.precision(cfg.trainer.precision, "cpu")
steps, warm = int(sys.argv[1]), int(sys.argv[1]) // 10 + 1
tokens, span, windows = data.tokenizer.encode(data.genome.codes), data.span, data.windows_per_segment
state = None
with build.few_threads(net, cfg.data.batch_size):
    for step in range(-warm, steps):
        if step == 0:
            begin = time.perf_counter()
        if step % windows == 0 or step == -warm:
            start, state = torch.randint(0, len(tokens) - (windows + 1) * span, (cfg.data.batch_size,)), None
        batch = tokens[start[:, None] + torch.arange(span)].long()
        start = start + cfg.data.seq_len
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            logits, state = net(batch[:, :-1], state)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())
        state = tuple(each.detach() for each in state)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    print("VALUE", steps * cfg.data.batch_size * cfg.data.seq_len / (time.perf_counter() - begin))
"""


def trained(steps: int, *overrides: str, env: dict[str, str] | None = None) -> float:
    """Return the tokens a second of a run of the command."""
    return float(train(f"trainer.max_steps={steps}", *ALONE, *overrides, env=env)["steady"])


def rows(quick: bool) -> Iterator[Row]:
    """Measure."""
    steps, few, repeats = (20, 2, 1) if quick else (1000, 20, 2)

    def beside() -> float:
        with busy_neighbour():
            return trained(steps)

    calls = [lambda: trained(steps), lambda: child(BARE, str(steps), "trainer=cpu"), beside]
    ours, bare, *busy = by_turns(repeats, *calls[: 2 if quick else 3])
    yield Row("genoseq.train, demo", "a bare PyTorch loop", "tokens/s", ours, bare, ">= 0.89")
    if quick:
        return
    yield Row("the demo beside a busy process", "alone", "tokens/s", busy[0], ours, ">= 0.77")
    calls = [lambda: trained(few, *LARGE), lambda: child(BARE, str(few), "trainer=cpu", *LARGE)]
    ours, bare = by_turns(repeats, *calls)
    yield Row("genoseq.train, Model 1's size", "a bare PyTorch loop", "tokens/s", ours, bare, ">= 0.97")
    two, env = ("trainer=ddp_cpu", "trainer.devices=2"), {"OMP_NUM_THREADS": "1"}
    calls = [lambda: trained(steps, *two, env=env), lambda: trained(steps, env={"OMP_NUM_THREADS": "2"})]
    ours, one = by_turns(repeats, *calls)
    yield Row("two processes (DDP), demo", "one with two threads", "tokens/s", ours, one, ">= 0.9")
