"""What a training run leaves behind, and what it must not depend on."""

import math
from pathlib import Path

import matplotlib.image
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from genoseq.app import build
from genoseq.errors import UserError
from genoseq.files import read_metrics

FILES = Path(__file__).parent / "data" / "files"
GENOME = FILES / "hpylori_start.txt"
PLASMIDS = FILES / "klebsiella_plasmids.fa.gz"
STEPS = 20
SMALL = (
    "model.embed_dim=8",
    "model.hidden_size=16",
    "data.seq_len=32",
    "data.batch_size=8",
    "data.carry_tokens=0",
    "trainer=cpu",
    "trainer.precision=32-true",
    f"trainer.max_steps={STEPS}",
    "trainer.val_every=5",
    "trainer.log_every_n_steps=4",
    "mixer=none",
)
KEYS = {
    *(f"test/{name}" for name in ("loss", "accuracy", "bits_per_base", "perplexity", "mode")),
    *("baseline/order", "baseline/accuracy", "baseline/bits_per_base", "imm/accuracy", "imm/bits_per_base"),
    *("leakage/positions", "leakage/shared_kmers", "train/steps", "train/tokens_per_second", "seconds", "seed"),
    *("genome/name", "genome/bases", "genome/sha256", "git/commit", "git/dirty"),
    *(f"version/{name}" for name in ("genoseq", "python", "torch", "lightning", "hydra")),
}
TIMES = {"seconds", "mixer/seconds", "train/tokens_per_second", "host/peak_memory"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def train(run_verb):
    """A function from a folder and overrides to how that small training ended."""

    def train(folder, *overrides, genome=GENOME):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HYDRA_FULL_ERROR", "1")
            return run_verb("train", folder, f"data.genome={genome}", *SMALL, *overrides)

    return train


@pytest.fixture(scope="module")
def ran(train, tmp_path_factory):
    """A run with everything on."""
    ran = train(tmp_path_factory.mktemp("train") / "run")
    assert ran.code == 0
    return ran


def events(folder):
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def same(result):
    return {key: value for key, value in result.items() if key not in TIMES and not key.startswith("git/")}


def test_it_leaves_these_files_and_no_other(ran):
    found = {str(path.relative_to(ran.folder)) for path in ran.folder.rglob("*") if path.is_file()}
    tensorboard = {name for name in found if name.startswith("tb/")}
    assert found - tensorboard == {
        ".lock",
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "metrics.csv",
        "blocks.csv",
        "split.bed",
        "curves.png",
        "result.json",
    }
    assert {name.split("/")[1] for name in tensorboard if name.count("/") > 1} == {"baseline", "imm", "chance"}
    config = yaml.safe_load((ran.folder / ".hydra" / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == STEPS
    picture = matplotlib.image.imread(ran.folder / "curves.png")
    assert min(picture.shape[:2]) > 300
    assert len(set(picture[..., :3].reshape(-1, 3).sum(1).round(3))) > 20  # not blank


def test_result_json_has_every_key_and_only_finite_numbers(ran):
    result = ran.json()
    assert result.keys() >= KEYS
    numbers = {key: value for key, value in result.items() if isinstance(value, (int, float))}
    assert all(math.isfinite(value) for value in numbers.values())
    assert all(not isinstance(value, (dict, list)) for value in result.values())
    nullable = {key for key in result if key.startswith("git/")}
    assert {key for key, value in result.items() if value is None} <= nullable
    assert result["test/bits_per_base"] == pytest.approx(result["test/loss"] / math.log(2))
    assert result["test/perplexity"] == pytest.approx(2 ** result["test/bits_per_base"])
    assert (result["train/steps"], result["genome/bases"], result["test/mode"]) == (STEPS, 6000, "frozen")
    assert result["train/tokens_per_second"] > 0 < result["seconds"]


@pytest.mark.parametrize("name", ["best", "last"])
def test_checkpoints_are_plain_tensors_and_containers(ran, name):
    saved = torch.load(ran.folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    assert saved["genoseq"]["genome"]["bases"] == 6000
    assert all(key.startswith(("net.", "train_metrics.")) for key in saved["state_dict"])
    if name == "last":
        assert saved["global_step"] == STEPS
        assert len(saved["optimizer_states"]) == 1


def test_best_ckpt_is_that_of_the_lowest_validation(ran):
    table = read_metrics(ran.folder / "metrics.csv")
    bits = {s: b for s, b in zip(table["step"], table["val/bits_per_base"], strict=True) if b is not None}
    lowest = min(bits, key=bits.get)
    assert torch.load(ran.folder / "checkpoints" / "best.ckpt", weights_only=True)["global_step"] == lowest
    assert ran.json()["val/bits_per_base"] == pytest.approx(bits[lowest], rel=1e-6)


def test_metrics_csv_has_a_row_a_report(ran):
    table = read_metrics(ran.folder / "metrics.csv")
    at = {name: [s for s, v in zip(table["step"], table[name], strict=True) if v is not None] for name in table}
    for name in ("loss", "accuracy", "bits_per_base", "perplexity"):
        assert at[f"train/{name}"] == [4, 8, 12, 16, 20]
        assert at[f"val/{name}"] == [5, 10, 15, 20]
        assert at[f"test/{name}"] == [20]
    for name in ("train/lr", "train/tokens_per_second", "train/grad_norm"):
        assert at[name] == [4, 8, 12, 16, 20]
    assert all(v is None or math.isfinite(v) for values in table.values() for v in values)
    assert table["test/loss"][-1] == pytest.approx(ran.json()["test/loss"])


def test_tensorboard_has_the_curves(ran):
    board = events(ran.folder / "tb")
    table = read_metrics(ran.folder / "metrics.csv")
    for name, values in table.items():
        if name != "step":
            want = [(s, v) for s, v in zip(table["step"], values, strict=True) if v is not None]
            got = [(event.step, event.value) for event in board.Scalars(name)]
            assert [s for s, _ in got] == [s for s, _ in want], name
            assert [v for _, v in got] == pytest.approx([v for _, v in want], rel=1e-6), name
    assert {"accuracy by position", "confusion of bases"} <= set(board.Tags()["images"])
    assert all(board.Images(name)[0].width > 200 for name in board.Tags()["images"])
    text = board.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert f"max_steps: {STEPS}" in text


def test_tensorboard_draws_the_baselines_on_the_tags_of_the_curves(ran):
    curves, result = events(ran.folder / "tb").Tags()["scalars"], ran.json()
    for baseline in ("baseline", "imm", "chance"):
        board = events(ran.folder / "tb" / baseline)
        tags = {f"{stage}/{name}" for stage in ("train", "val", "test") for name in ("accuracy", "bits_per_base")}
        assert set(board.Tags()["scalars"]) == tags <= set(curves)
        for tag in tags:
            points = board.Scalars(tag)
            assert [points[0].step, points[-1].step] == [0, STEPS] and len({point.value for point in points}) == 1
        for name in ("accuracy", "bits_per_base"):
            test, val = (board.Scalars(f"{stage}/{name}")[0].value for stage in ("test", "val"))
            assert test == pytest.approx(result[f"{baseline}/{name}"], rel=1e-6)
            assert val != test or baseline == "chance"


def test_tensorboard_has_the_hparams_tab(ran):
    board = events(ran.folder / "tb")
    assert "_hparams_/session_start_info" in board.summary_metadata
    for name in ("val/bits_per_base", "test/bits_per_base", "test/accuracy"):
        assert board.Scalars(f"hp/{name}")[-1].value == pytest.approx(ran.json()[name], rel=1e-6)
    session = board.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"optimizer.lr" in session
    assert b"data.seq_len" in session


def test_the_console_ends_with_the_table(ran):
    end = ran.out[ran.out.index("accuracy (%)") :]
    for row in ("model, frozen test", "baseline, order-", "interpolated Markov model", "chance", "leakage: 0.0 %"):
        assert row in end
    assert f"files:   {ran.folder}" in end
    assert f"tensorboard --logdir {ran.folder}" in end
    assert f"{ran.json()['test/bits_per_base']:.3f}" in end


def test_passes_end_a_run_before_its_steps(train, tmp_path):
    # 4,434 training bases in steps of 8 windows of 32
    ran = train(tmp_path / "a", "passes=0.5", "logger=none", "baseline=false")
    assert ran.json()["train/steps"] == 9
    with pytest.raises(UserError, match="passes must be"):
        train(tmp_path / "b", "passes=0", "logger=none")


def test_split_bed_makes_the_same_parts_again(train, tmp_path):
    text = "".join(GENOME.read_text().split())
    (genome := tmp_path / "two.fa").write_text(f">one\n{text[:3000]}{'N' * 20}{text[3000:4500]}\n>two\n{text[4500:]}\n")
    none = ("logger=none", "baseline=false", "trainer.max_steps=3", "trainer.val_every=3")
    first = train(tmp_path / "a", "data/split=records", "data.split.test=[two]", *none, genome=genome)
    bed = tmp_path / "a" / "split.bed"
    again = train(tmp_path / "b", "data/split=bed", f"data.split.file={bed}", *none, genome=genome)
    assert (tmp_path / "b" / "split.bed").read_text() == bed.read_text()
    assert same(first.json()) | {"split/name": "bed"} == same(again.json())


def test_the_same_command_twice_gives_the_same_result(ran, train, tmp_path):
    again = train(tmp_path / "again")
    assert same(again.json()) == same(ran.json())
    other = train(tmp_path / "other", "seed=1", "baseline=false", "logger=none")
    assert other.json()["test/loss"] != ran.json()["test/loss"]
    tables = [read_metrics(folder / "metrics.csv") for folder in (ran.folder, again.folder)]
    assert all(tables[0][name] == tables[1][name] for name in tables[0].keys() - {"train/tokens_per_second"})


def test_training_never_looks_at_the_test_part(train, tmp_path):
    text = "".join(GENOME.read_text().split())
    lines = "logger=none", "baseline=false", "callbacks=early_stopping", "scheduler=plateau"
    # the last fifth is the test part
    genomes = {"true": text, "wrong": text[:4800] + "".join("ACGT"[(i * i + i // 7) % 4] for i in range(1200))}
    assert len(genomes["true"]) == len(genomes["wrong"]) == 6000
    runs = {}
    for name, letters in genomes.items():
        (path := tmp_path / name / "genome.txt").parent.mkdir()
        path.write_text(letters)
        runs[name] = train(tmp_path / name / "run", *lines, genome=path)
        assert runs[name].code == 0
    true, wrong = (read_metrics(ran.folder / "metrics.csv") for ran in runs.values())
    assert true["test/loss"][-1] != wrong["test/loss"][-1]
    for name in true.keys() - {"train/tokens_per_second"}:
        if not name.startswith("test/"):
            assert true[name] == wrong[name], name
    saved = [torch.load(ran.folder / "checkpoints" / "last.ckpt", weights_only=True) for ran in runs.values()]
    for key, value in saved[0]["state_dict"].items():
        assert torch.equal(value, saved[1]["state_dict"][key])
    moments = [[s for p in c["optimizer_states"][0]["state"].values() for s in p.values()] for c in saved]
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))
    assert runs["true"].json()["val/bits_per_base"] == runs["wrong"].json()["val/bits_per_base"]


def test_the_last_step_is_validated_whatever_the_interval(train, tmp_path):
    ran = train(tmp_path / "a", "logger=none", "baseline=false", "trainer.val_every=3", "trainer.max_steps=8")
    table = read_metrics(ran.folder / "metrics.csv")
    bits = table["val/bits_per_base"]
    assert [s for s, b in zip(table["step"], bits, strict=True) if b is not None] == [3, 6, 8]
    assert torch.load(ran.folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8


def test_batches_without_a_target_are_skipped(train, tmp_path):
    # windows of 4 tokens, most of them unknown letters in a run that is too short to be cut out of the part
    text = "".join(GENOME.read_text().split())
    letters = "".join(text[at : at + 12] + "N" * 40 for at in range(0, 3600, 12)) + text[3600:5400]
    genome = tmp_path / "holes.txt"
    genome.write_text(letters)
    settings = ("data.seq_len=4", "data.batch_size=1", "data.split.unknown_run=100", "trainer.log_every_n_steps=1")
    ran = train(tmp_path / "a", *settings, "logger=none", "baseline=false", "trainer.max_steps=40", genome=genome)
    assert ran.code == 0
    table = read_metrics(ran.folder / "metrics.csv")
    reported = [s for s, v in zip(table["step"], table["train/loss"], strict=True) if v is not None]
    assert 5 < len(reported) < 35  # some batches have a target, some have none
    assert all(v is None or math.isfinite(v) for values in table.values() for v in values)
    saved = torch.load(ran.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 40
    assert all(value.isfinite().all() for value in saved["state_dict"].values())
    assert ran.json()["train/steps"] == 40


@pytest.mark.parametrize(
    ("accelerator", "bf16", "want"),
    [("cpu", False, "32-true"), ("cpu", True, "bf16-mixed"), ("auto", False, "32-true")],
)
def test_precision_auto_is_what_the_hardware_has(accelerator, bf16, want, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: bf16)
    assert build.precision("auto", accelerator) == want
    assert build.precision("64-true", accelerator) == "64-true"


KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "two genomes": (f"data.genome=[{GENOME},{PLASMIDS}]", {"genome/bases": 6000 + 8412}),
    "a record held out": (f"data.genome={PLASMIDS} data/split=records data.split.test=[CP003227.1]", {}),
    "side by side": ("data=kmer data.k=4 data.stride=4", {"tokens/stride": 4}),
    "overlapping": ("data=kmer data.k=6", {"tokens/stride": 1}),
    "half overlapping": ("data=kmer data.k=3 data.stride=2", {"tokens/stride": 2}),
    "random windows": ("data/split=random_windows", {"split/leaks": True}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_input_of_every_kind(kind, run_verb, tiny, tmp_path):
    overrides, expected = KINDS[kind]
    ran = run_verb("train", tmp_path / "run", *tiny, f"data.genome={GENOME}", *overrides.split())
    assert ran.code == 0, ran.err
    result = ran.json()
    assert {key: result[key] for key in expected} == expected
    k, stride = result["tokens/k"], result["tokens/stride"]
    # hardly trained: about 2 bits a base, for each that a token covers and for each that it adds
    bits, ratio = result["test/loss"] / math.log(2) / k, k / stride
    assert 1.5 < bits < 2.6 and 1.5 < result["test/bits_per_base"] < 2.6 and result["chance/accuracy"] == 0.25
    assert result["test/bits_per_base"] == pytest.approx(bits * ratio, rel=1e-6 if ratio == 1 else 1)
    assert result["test/bits_per_base"] <= bits * ratio * (1 + 1e-6)
    leaks = kind == "random windows"
    assert (result["leakage/positions"] > 0.99) == leaks == ("measures memory" in " ".join(ran.out.split()))
    held = {
        line.split("\t")[0] for line in (ran.folder / "split.bed").read_text().splitlines() if line.endswith("test")
    }
    assert held == {"CP003227.1"} or kind != "a record held out"


def test_a_run_killed_before_its_test_resumes_at_it(run_verb, tiny, tmp_path):
    overrides = [*tiny, f"data.genome={FILES / 'hpylori_softmasked.fa'}"]
    first = run_verb("train", tmp_path / "run", *overrides)
    metrics = {k: v for k, v in first.json().items() if k.startswith(("test/", "val/"))}
    (tmp_path / "run" / "result.json").unlink()
    again = run_verb("train", tmp_path / "run", *overrides)
    assert again.code == 0, again.err
    assert {k: v for k, v in again.json().items() if k.startswith(("test/", "val/"))} == metrics
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    elsewhere = run_verb("train", tmp_path / "other", *overrides, f"ckpt={last}")
    assert elsewhere.code == 2 and "raise trainer.max_steps=4" in elsewhere.err
