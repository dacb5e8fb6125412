"""Count models learn from what training windows cover, and are scored on what test windows cover."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genoseq.baselines import fit
from genoseq.baselines.fit import Baselines, baseline_lines, write_orders
from genoseq.data.datamodule import GenomeData
from genoseq.data.intervals import as_intervals
from genoseq.data.split import ContiguousSplit, Parts, RandomWindowsSplit, Split
from genoseq.data.tokenizer import CharTokenizer
from genoseq.evaluation.leakage import leakage
from genoseq.files import read_metrics


@pytest.fixture
def data(tmp_path: Path, letters: Callable[..., str]) -> Callable[[Split], GenomeData]:
    (tmp_path / "random.txt").write_text(letters(30_000))

    def make(split: Split) -> GenomeData:
        return GenomeData(str(tmp_path / "random.txt"), CharTokenizer, split, seq_len=50)

    return make


# letters drawn evenly: whatever beats a quarter is memory
@pytest.mark.parametrize(
    ("split", "low", "high"),
    [
        (RandomWindowsSplit(), 0.98, 1.0),
        (RandomWindowsSplit(window_stride=25), 0.6, 0.9),
        (RandomWindowsSplit(window_stride=51), 0.22, 0.28),
        (ContiguousSplit(), 0.22, 0.28),
    ],
)
def test_memory_scores_what_training_windows_cover(
    data: Callable[[Split], GenomeData], tmp_path: Path, split: Split, low: float, high: float
) -> None:
    made = data(split)
    write_orders(made, tmp_path / "orders.csv")
    tables = read_metrics(tmp_path / "orders.csv")
    assert tables["order"] == list(range(17))
    assert low < tables["accuracy"][16] < high
    assert 0.22 < tables["accuracy"][0] < 0.29
    baselines = Baselines.fit(made)
    best = baselines.score("test")["baseline"]
    assert best.accuracy == pytest.approx(tables["accuracy"][baselines.markov.order])
    assert best.bits_per_base == pytest.approx(tables["bits_per_base"][baselines.markov.order], rel=1e-3)
    leaked = leakage(made)
    assert best.accuracy < 0.3 or leaked["leakage/positions"] > 0.6
    assert leaked["leakage/positions"] <= (1.0 if made.parts.overlap(51) else 0.0)


def test_a_base_counts_once_for_each_test_window_over_it_and_a_part_is_scored_once(
    data: Callable[[Split], GenomeData], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = data(RandomWindowsSplit(window_stride=25))
    windows = sum(int(made.parts.accepts("test", made.parts.test[0, :1] + i)[0]) for i in range(0, 30_000 - 50, 25))
    baselines = Baselines.fit(made)
    scores = baselines.score("test")
    assert windows * 51 - 3 <= scores["imm"].bases <= windows * 51  # the genome's first base has none before it
    monkeypatch.setattr(fit, "score_each", None)
    lines = baseline_lines(baselines, "test")
    assert lines["imm"] == {f"test/{name}": value for name, value in scores["imm"].metrics.items()}
    assert lines["chance"] == {"test/accuracy": 0.25, "test/bits_per_base": 2.0}


def test_runs_on_the_same_parts_share_what_is_measured(
    data: Callable[[Split], GenomeData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, alone = (Baselines.fit(data(ContiguousSplit()), folder) for folder in (tmp_path / "shared", None))
    assert one.score("test") == alone.score("test") and len(list(tmp_path.glob("shared/*.json"))) == 2
    monkeypatch.setattr(fit, "score_each", None)
    monkeypatch.setattr(fit.Seen, "of", None)
    again = Baselines.fit(data(ContiguousSplit()), tmp_path / "shared")
    assert again.score("test") == one.score("test") and again.markov.order == one.markov.order
    assert again.imm.strengths.tolist() == one.imm.strengths.tolist()
    with pytest.raises(TypeError):
        Baselines.fit(data(ContiguousSplit(test=0.3)), tmp_path / "shared")  # other parts
    strides = [fit.shared_file(data(RandomWindowsSplit(window_stride=n)), tmp_path, "test") for n in (1, 25)]
    assert len(set(strides)) == 2
    made = data(ContiguousSplit())
    files = set()
    for cut in (1, 2):  # the same intervals, cut otherwise
        three = as_intervals([(0, 1000), (1000, 2000), (2000, 3000)])
        made.parts = Parts(three[:cut], three[cut:], three[:0])
        files.add(fit.shared_file(made, tmp_path, "test"))
    assert len(files) == 2


def test_every_order_is_measured_when_asked(
    run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    genome = Path(__file__).parents[1] / "data" / "files" / "hpylori_start.txt"
    ran = run_verb("train", tmp_path / "run", *tiny, f"data.genome={genome}", "baseline=all")
    assert ran.code == 0, ran.err
    tables, result = read_metrics(ran.folder / "orders.csv"), ran.json()
    assert tables["accuracy"][result["baseline/order"]] == pytest.approx(result["baseline/accuracy"])
    wrong = run_verb("train", tmp_path / "wrong", *tiny, f"data.genome={genome}", "baseline=some")
    assert wrong.code == 2 and "baseline must be true, false or all, got some" in wrong.err
