"""The studies under experiments/: their READMEs, their commands, their toy runs, and what they compute."""

import importlib
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import hydra
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.image import imread
from omegaconf import DictConfig
from warm import warm_python

from experiments import common
from genoseq.app import resolvers
from genoseq.app.cli import conf_dir
from genoseq.app.model import genome_of
from genoseq.data.genes import Effects, reading_frames
from genoseq.data.variants import encode
from genoseq.errors import UserError

ROOT = Path(__file__).parent.parent
STUDIES = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/README.md"))


def module(study: str) -> ModuleType:
    return importlib.import_module(f"experiments.{study}.plot")


def plot(study: str, *args: object) -> None:
    own = module(study)
    common.run_study(str(own.__file__), own.record, own.table, own.draw, [str(arg) for arg in args])


def readme(study: str) -> str:
    return (ROOT / "experiments" / study / "README.md").read_text()


def run(study: str, path: Path = Path(sys.executable).parent, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a study's run.sh with the ``python`` of a folder."""
    env = os.environ | {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} | variables
    command = ["bash", str(ROOT / "experiments" / study / "run.sh")]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


def test_every_folder_is_a_study() -> None:
    assert len(STUDIES) == 8
    for study in STUDIES:
        assert {"README.md", "plot.py", "run.sh", "results.csv"} <= {
            p.name for p in (ROOT / "experiments" / study).iterdir()
        }


@pytest.mark.parametrize("study", STUDIES)
def test_the_recorded_results_give_the_table_and_figures_of_the_readme(
    study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot(study, "--out", tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("\n") > 5 and all(table in readme(study) for table in printed.strip().split("\n\n"))
    figures = set(re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme(study)))
    assert figures == {path.name for path in tmp_path.iterdir()}  # nothing else is written
    for name in figures:
        drawn, recorded = (imread(folder / name) for folder in (tmp_path, ROOT / "experiments" / study))
        assert drawn.shape == recorded.shape and drawn.shape[1] == 1300


@pytest.mark.parametrize("study", STUDIES)
def test_the_readme_has_the_commands_of_run_sh(study: str, tmp_path: Path) -> None:
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" python "$@" >> "$SEEN"\necho END >> "$SEEN"\n')
    stub.chmod(0o755)
    seen = tmp_path / "seen"
    for variables in [{}, {"FULL": "1", "LEG": "1m"}] if study == "report" else [{}]:
        done = run(study, tmp_path, SEEN=str(seen), OUT="outputs", QUICK="", **variables)
        assert done.returncode == 0, done.stderr
    ran = [command.splitlines() for command in seen.read_text().strip().removesuffix("END").split("\nEND\n")]
    blocks = re.findall(r"```bash\n(.*?)```", readme(study), re.S)
    assert ran == [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(
    ("target", "command"),
    [("study-context", "bash experiments/context/run.sh"), ("report-full", "FULL=1 bash experiments/report/run.sh")],
)
def test_make_runs_a_study(target: str, command: str) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}  # tests may run under make
    asked = ["make", "-n", "-o", ".venv/.installed", target, "ARGS=seed=1"]
    done = subprocess.run(asked, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1].endswith(f" {command} seed=1")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a ``python`` that starts at once."""
    with warm_python(tmp_path_factory.mktemp("warm")) as folder:
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_the_toy_version_runs(study: str, warm: Path, tmp_path: Path) -> None:
    done = run(study, warm, QUICK="1", OUT=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / f"quick-{study}"
    assert list(pd.read_csv(out / "results.csv")) == list(pd.read_csv(ROOT / "experiments" / study / "results.csv"))
    assert "| --- |" in done.stdout and (out / "figure.png").is_file()


def write_run(folder: Path, result: dict[str, object], *overrides: str, **data: object) -> None:
    """Write a finished run's result and config."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(METRICS | result))
    config = {"seed": result.get("seed", 0), "data": {"batch_size": 8, "seq_len": 32} | data}
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))


METRICS = {
    "val/bits_per_base": 1.8,
    "test/bits_per_base": 1.8,
    "test/accuracy": 0.4,
    "baseline/order": 6,
    "seconds": 60,
    "baseline/bits_per_base": 1.95,
    "baseline/accuracy": 0.39,
    "imm/bits_per_base": 1.93,
    "imm/accuracy": 0.42,
    "train/tokens_per_second": 1000,
    "chance/accuracy": 0.25,
    "chance/bits_per_base": 2.0,
    "model/parameters": 90_000,
    "train/steps": 600,
}


def test_context_weighs_positions_and_averages_seeds(tmp_path: Path) -> None:
    context = module("context")
    for length in (10, 1000):
        for seed in (0, 1):
            folder = tmp_path / f"{length}-{seed}"
            write_run(folder, {"seed": seed}, seq_len=length)
            n = np.full(length, 3000)
            n[0] = 0
            bits = 1.75 + 0.2 / np.arange(1, length + 1) + 0.01 * seed
            columns = {"position": np.arange(1, length + 1), "n": n, "bits_per_base": np.where(n > 0, bits, np.nan)}
            pd.DataFrame(columns).to_csv(folder / "positions.csv", index=False)
    tables = context.record(tmp_path)
    results, points = tables["results.csv"], tables["positions.csv"]
    assert results["data.seq_len"].tolist() == [10, 10, 1000, 1000] and results["seed"].tolist() == [0, 1, 0, 1]
    assert results["train/tokens"].tolist() == [600 * 8 * 10] * 2 + [600 * 8 * 1000] * 2
    tenth = 1.75 + 0.2 / np.arange(901, 1001)
    assert results["last_tenth/bits_per_base"].tolist() == pytest.approx(
        [1.77, 1.78, tenth.mean(), tenth.mean() + 0.01]
    )
    for _, bins in points.groupby("data.seq_len"):  # nothing is missed, nothing counted twice
        assert bins["first"].tolist() == [1, *(bins["last"].iloc[:-1] + 1)]
        assert bins["n"].tolist()[1:] == [6000 * k for k in (bins["last"] - bins["first"] + 1)[1:]]
    second = points[(points["data.seq_len"] == 1000) & (points["first"] == 2)].iloc[0]
    assert second["bits_per_base"] == pytest.approx(1.855) and second["standard_error"] == pytest.approx(0.005)
    (tmp_path / "10-0" / "positions.csv").unlink()
    with pytest.raises(SystemExit) as end:
        plot("context", tmp_path, "--out", tmp_path / "out")
    assert end.value.code == 2


def test_tokens_counts_new_bases(tmp_path: Path) -> None:
    for k, stride in ((4, 4), (3, 1), (1, 1)):
        told = {"tokens/k": k, "tokens/stride": stride, "seed": 0}
        write_run(tmp_path / f"{k}", told)
    results = module("tokens").record(tmp_path)["results.csv"]
    assert results["tokens"].tolist() == ["characters", "overlapping", "disjoint"]
    assert results["train/bases"].tolist() == [600 * 8 * 32 * stride for stride in (1, 1, 4)]


def test_leakage_has_every_order_and_no_bystander(tmp_path: Path) -> None:
    for name, bases, steps in (("short", 4000, 10), ("whole", 9000, 1)):
        for split, stride in (("contiguous", None), ("random_windows", 50), ("random_windows", 1)):
            told = {"genome/name": name, "genome/bases": bases, "train/steps": steps, "split/name": split}
            folder = tmp_path / f"{name}-{split}-{stride}"
            write_run(folder, told | {"split/window_stride": stride, "leakage/positions": 0.5})
            orders = pd.DataFrame({"order": range(17), "accuracy": np.arange(17) / 20, "bits_per_base": 1.9})
            orders.to_csv(folder / "orders.csv", index=False)
    results = module("leakage").record(tmp_path)["results.csv"]
    first = results.drop_duplicates(["genome", "split", "window_stride"])
    assert first["genome"].tolist() == ["whole"] * 3 + ["short"] * 3  # the longest first, then the closest windows
    assert (
        first["window_stride"].astype(object).where(first["window_stride"].notna(), None).tolist() == [1, 50, None] * 2
    )
    assert results["model"].value_counts().to_dict() == {"markov": 6 * 17, "imm": 6, "chance": 6, "LSTM": 3}
    assert set(results[results["model"] == "LSTM"]["genome"]) == {"short"}
    (folder / "orders.csv").unlink()
    with pytest.raises(UserError, match=r"there is no .*orders\.csv: train the runs with baseline=all"):
        module("leakage").record(tmp_path)


def test_report_compares_the_split_that_leaks(tmp_path: Path) -> None:
    report = module("report")
    for split in ("contiguous", "random_windows"):
        folder = tmp_path / split
        told = {"split/name": split, "split/leaks": split == "random_windows"}
        write_run(folder, told, "experiment=report2", f"data/split={split}")
        (folder / "metrics.csv").write_text("step,train/loss,val/loss\n50,1.5,\n100,1.2,1.3\n")
    tables = report.record(tmp_path)
    results, losses = tables["results.csv"], tables["losses.csv"]
    assert results["split"].tolist() == ["random_windows", "contiguous"]
    assert results["report/accuracy"].tolist() == pytest.approx([0.79, math.nan], nan_ok=True)
    assert results["train/last_loss"].tolist() == [1.2, 1.2]
    assert losses[losses["part"] == "validation"][["step", "loss"]].to_numpy().tolist() == [[100, 1.3]] * 2
    shutil.copytree(folder, tmp_path / "again")
    with pytest.raises(UserError, match="the same model and split"):
        report.record(tmp_path)
    with pytest.raises(UserError, match="must end in 1, 2 or 3"):
        report.model_number(("experiment=tokens",))


def test_compressors_pairs_blocks(tmp_path: Path) -> None:
    compressors = module("compressors")
    rng = np.random.default_rng(0)
    network, gain, more = rng.normal(1.8, 0.05, 40), rng.normal(0.05, 0.02, 40), rng.normal(0.01, 0.01, 40)
    blocks = pd.DataFrame({"bases": 10_000, "network/bits_per_base": network, "test/bits_per_base": network - gain})
    blocks["adaptive/bits_per_base"] = blocks["test/bits_per_base"] - more
    told = {"genome/name": "one", "genome/bases": 1_000_000, "model/name": "rnn1", "tokens/stride": 1}
    for name, k, overrides in (("kmer", 4, ["data=kmer"]), ("char", 1, []), ("record", 1, ["experiment=record"])):
        write_run(tmp_path / name, told | {"tokens/k": k}, *overrides)
        blocks.to_csv(tmp_path / name / "blocks.csv", index=False)
    for name in ("ablation.csv", "occurrences.csv"):
        (tmp_path / "char" / name).write_text("some\n1\n")
    tables = compressors.record(tmp_path)
    results = tables["results.csv"]
    assert sorted(results["model"]) == ["record", "rnn1, characters", "rnn1, overlapping 4-mers"]
    for key, fewer in (("mixed", gain), ("reading", more)):
        expected = [-fewer.mean(), fewer.std(ddof=1) / math.sqrt(40), -np.median(fewer)]
        for name, value in zip(("difference", "standard_error", "median"), expected, strict=True):
            assert results[f"{key}/{name}"].tolist() == pytest.approx([value] * 3)
    assert tables["ablation.csv"].to_dict("records") == [{"some": 1, "genome": "one", "model": "rnn1, characters"}]


def gene(rng: np.random.Generator, codons: int) -> str:
    bodies = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in ("TAA", "TAG", "TGA")]
    return "ATG" + "".join(rng.choice(bodies, codons)) + "TAA"


def test_broken_genes_are_planted_and_a_scan_finds_them(letters: Callable[..., str]) -> None:
    plant, detect = (importlib.import_module(f"experiments.broken_genes.{name}") for name in ("plant", "detect"))
    rng = np.random.default_rng(0)
    text = "".join(letters(300, seed) + gene(rng, 300) for seed in range(8)) + letters(300, 9)
    places = plant.sites(text)
    assert 5 <= len(places["frames"]) <= 10  # one a gene
    changed, rows = plant.plant(text, places["frames"], rng)
    assert len(rows) == len(places["frames"]) and len(changed) - len(text) == sum(row["change"] for row in rows)
    mended = changed
    for row in reversed(rows):
        at = row["start"]
        mended = mended[:at] + (mended[at + 1 :] if row["change"] > 0 else mended[at] + mended[at:])
    assert mended == text
    true = np.array([row["start"] for row in rows])
    found = detect.recall(detect.split_frames(changed), true, len(changed), [200])
    assert found["recall"][0] > 0.3 and found["median_distance"][0] < detect.TOLERANCE
    calls = pd.DataFrame({"at": [500, 510, 5000, 900], "score": [9.0, 8.0, 7.0, 6.0]})
    kept = detect.apart(calls)
    assert kept["at"].tolist() == [500, 5000, 900]
    table = detect.recall(kept, np.array([520, 1000]), 10_000, [1, 10])
    assert table["recall"].tolist() == [0.5, 1.0] and table["median_distance"].tolist() == [20, 60]


def test_effects_of_the_alleles_are_what_they_say(letters: Callable[..., str]) -> None:
    effects = importlib.import_module("experiments.broken_genes.effects")
    rng = np.random.default_rng(0)
    one = letters(300) + gene(rng, 320) + letters(300, 1)
    turned = one[::-1].translate(str.maketrans("ACGT", "TGCA"))
    text, other = one + turned, one + turned  # the same gene on both strands
    table = effects.alleles(text, other, 0, len(text), seed=0)
    told = Effects(genome := genome_of(text), reading_frames(genome, 900))
    words = {"stop": "stop_gained", "frameshift": "frameshift_variant"}
    for row in table.itertuples():
        effect = told(row.at, row.ref, encode(row.alt))[1]
        assert effect == words.get(row.kind, f"{row.kind}_variant")
    assert set(table["kind"]) == {"stop", "frameshift", "missense", "synonymous"}
    assert effects.auroc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == 0.875


def test_anomalies_are_planted_and_found() -> None:
    measure, study = importlib.import_module("experiments.anomalies.measure"), module("anomalies")
    text = "ACGT" * 20_000
    changed, planted = measure.plant(text, {"elsewhere": "GATTACA" * 1000})
    assert len(planted) == 12 and (planted["end"].iloc[:-1].to_numpy() < planted["start"].iloc[1:].to_numpy()).all()
    for row in planted.itertuples():
        inner = changed[row.start : row.end]
        assert len(inner) == (0 if row.kind == "misjoined" else 2000) and ("GATT" in inner) == (row.kind[:4] == "from")
    start = np.arange(0, len(changed) - 1000, 100)
    true = planted["start"].to_numpy()
    score = ((start[:, None] + 1000 > true) & (start[:, None] < true)).any(1) * 1.0  # begins before one, ends in it
    windows = pd.DataFrame({"start": start, "perfect": score, "blind": np.where(start == 0, 1.0, 0.0)})
    results = study.found(windows, planted)
    assert (results.loc[results["method"] == "perfect", "found"] == 1).all()
    assert (results.loc[results["method"] == "perfect", "median_bases"] <= 100).all()
    assert (results.loc[results["method"] == "blind", "found"] == 0).all()


def test_the_gains_add_up_to_the_results() -> None:
    folder = ROOT / "experiments" / "compressors"
    files = ("results", "ablation", "occurrences", "blocks")
    results, ablation, occurrences, blocks = (pd.read_csv(folder / f"{name}.csv") for name in files)
    for run in results[results["model"].str.endswith("characters")].to_dict("records"):
        smaller, where, block = (each[each["genome"] == run["genome"]] for each in (ablation, occurrences, blocks))
        whole = smaller.iloc[-1]
        assert whole[["repeats", "network", "test/more"]].tolist() == [True, True, 0]
        for name in ("test", "adaptive"):  # the mixer of all experts is the run's own
            assert whole[f"{name}/bits_per_base"] == pytest.approx(run[f"{name}/bits_per_base"], abs=1e-9)
        for name in ("test", "adaptive", "network"):
            mean = (where["share"] * where[f"{name}/bits_per_base"]).sum()
            assert mean == pytest.approx(run[f"{name}/bits_per_base"], abs=1e-5)
            mean = np.average(block[f"{name}/bits_per_base"], weights=block["bases"])
            assert mean == pytest.approx(run[f"{name}/bits_per_base"], abs=1e-9)


def test_a_study_without_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "metrics.csv").write_text("step,train/loss\n1,1.4\n")
    for study in STUDIES:
        with pytest.raises(SystemExit) as end:
            plot(study, tmp_path / "runs", "--out", tmp_path / "out")
        assert end.value.code == 2
        assert "not in the table: one" in (err := capsys.readouterr().err) and "is finished: give the" in err


def test_the_loss_curves_agree_with_the_results() -> None:
    folder = ROOT / "experiments" / "report"
    results, losses = pd.read_csv(folder / "results.csv"), pd.read_csv(folder / "losses.csv")
    for run in results.to_dict("records"):
        mine = losses[(losses["model"] == run["model"]) & (losses["split"] == run["split"])]
        train, val = (mine[mine["part"] == part] for part in ("training", "validation"))
        assert train["loss"].iloc[-1] == pytest.approx(run["train/last_loss"])
        assert val["loss"].min() == pytest.approx(run["val/bits_per_base"] * math.log(2), rel=1e-6)
    for stated in pd.read_csv(folder / "report.csv").to_dict("records"):
        curve = pd.read_csv(folder / "curves" / f"model{stated['model']:.0f}.csv")
        assert curve["loss"].iloc[-1] == stated["loss"] and curve["step"].iloc[-1] < stated["steps"]


def compose(experiment: str) -> DictConfig:
    resolvers.register()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose("train", [f"experiment={experiment}", "data/split=contiguous"])


def test_the_small_recipes_are_the_report_s_but_for_their_size() -> None:
    assert "data.bases=50000" in readme("report")
    for model in (1, 2, 3):
        small, full = compose(f"report{model}"), compose(f"model{model}")
        assert small.scale == "small" and full.scale == "report"
        assert all(
            small.data[k] == full.data[k] for k in ("seq_len", "k", "stride", "carry_tokens", "reverse_complement")
        )
        assert all(small.model[key] == full.model[key] for key in ("num_layers", "dropout", "forget_bias"))
        assert small.optimizer == full.optimizer and not small.data.carry_state
        assert (
            full.model.hidden_size == 4 * small.model.hidden_size and full.data.batch_size == 32 * small.data.batch_size
        )
        passes = [
            cfg.trainer.max_steps * cfg.data.batch_size / bases for cfg, bases in ((small, 5e4), (full, 5_682_322))
        ]
        assert passes[0] == pytest.approx(passes[1], rel=0.01)
