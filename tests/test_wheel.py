"""The built wheel: it has what a run needs, and it runs from any folder without the checkout."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LETTERS = Path(__file__).parent / "data" / "files" / "hpylori_start.txt"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("hatchling") is None, reason="building the wheel needs hatchling"),
    pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="there is no checkout to build from"),
]


def call(*words: object, cwd: Path, **environment: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | environment
    ran = subprocess.run([*map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:] + ran.stdout[-1000:]
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q", "-w", folder]
    call(sys.executable, "-m", "pip", "wheel", ROOT, *options, cwd=folder)
    (built,) = folder.glob("genoseq-*.whl")
    return built


@pytest.fixture(scope="module")
def target(wheel: Path) -> Path:
    """A folder that has the installed wheel and nothing else."""
    folder = wheel.parent / "target"
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "-q", "--target", folder]
    call(sys.executable, "-m", "pip", "install", wheel, *options, cwd=wheel.parent)
    return folder


def test_what_it_carries(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        scripts = next(archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    conf = {f"genoseq/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert conf and conf <= names
    code = {
        str(path.relative_to(ROOT)) for room in ("genoseq", "hydra_plugins") for path in (ROOT / room).rglob("*.py")
    }
    assert code <= names
    assert {"genoseq/py.typed", "genoseq/data/bundled/hpylori_G27.fa.gz"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].removesuffix(".dist-info").split("-")[0] for name in names} == {
        "genoseq",
        "hydra_plugins",
    }
    assert not [name for name in names if "test" in Path(name).name or "__pycache__" in name]
    assert "genoseq-train = genoseq.train:main" in scripts and "genoseq-evaluate = genoseq.evaluate:main" in scripts


def test_it_runs_from_another_folder(target: Path, tmp_path: Path, tiny: tuple[str, ...]) -> None:
    path = {"PYTHONPATH": str(target)}
    where = "import genoseq, genoseq.app.cli as c; print(genoseq.__file__); print(c.conf_dir())"
    package, conf = call(sys.executable, "-c", where, cwd=tmp_path, **path).split()
    assert Path(package) == target / "genoseq" / "__init__.py" and Path(conf) == target / "genoseq" / "conf"

    run = ["hydra.run.dir=run", f"data.genome={LETTERS}", *tiny]
    call(sys.executable, "-m", "genoseq.train", *run, cwd=tmp_path, **path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["train/steps"] == 4 and result["genome/bases"] == 6000

    measure = ["hydra.run.dir=measured", "ckpt=run/checkpoints/best.ckpt", "baseline=false"]
    call(sys.executable, "-m", "genoseq.evaluate", *measure, "trainer.precision=32-true", cwd=tmp_path, **path)
    measured = json.loads((tmp_path / "measured" / "evaluation.json").read_text())
    assert measured["test/loss"] == pytest.approx(result["test/loss"], rel=1e-5)


def test_its_bundled_genome_is_whole(target: Path, tmp_path: Path) -> None:
    code = (
        "from genoseq.data.sources import load_genome, named_genomes\n"
        "g, about = load_genome('hpylori'), named_genomes()['hpylori']\n"
        "print(len(g) == about.bases == 1652982 and g.sha256 == about.sha256, g.source)"
    )
    same, source = call(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(target)).split()
    assert same == "True" and Path(source).is_relative_to(target)
