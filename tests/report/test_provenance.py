"""A result says what made it, and does not claim a commit that is not its own."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from genoseq.report import provenance as room
from genoseq.report.provenance import provenance


def _git(folder: Path, *words: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", folder, *name, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package in a fresh work tree, committed, that provenance takes for genoseq."""
    package = tmp_path / "genoseq"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / "notes.txt").write_text("")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "genoseq")
    _git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.setattr(room, "_PACKAGE", package)
    return package


def test_versions_are_those_in_use() -> None:
    found = provenance()
    assert found["version/python"] == platform.python_version()
    assert found["version/torch"] == metadata.version("torch")
    assert found["version/lightning"] == metadata.version("lightning")
    assert found["version/genoseq"]
    assert found["host/cpus"] >= 1 and found["host/device"]
    assert json.loads(json.dumps(found)) == found


def test_a_missing_distribution_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert provenance()["version/hydra"] is None


def test_commit_and_changes(package: Path) -> None:
    found = provenance()
    assert found["git/commit"] == _git(package, "rev-parse", "HEAD")
    assert found["git/dirty"] is False  # an untracked note outside the code changes nothing
    (package / "__init__.py").write_text("x = 1\n")
    assert provenance()["git/dirty"] is True


def test_a_new_module_or_configuration_is_a_change(package: Path) -> None:
    conf = package.parent / "conf"
    conf.mkdir()
    (conf / "new.yaml").write_text("")
    assert provenance()["git/dirty"] is True


def test_a_package_that_the_tree_does_not_track_has_no_commit(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = package.parent / "venv" / "genoseq"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    monkeypatch.setattr(room, "_PACKAGE", installed)
    found = provenance()
    assert found["git/commit"] is None and found["git/dirty"] is None


def test_a_git_hook_does_not_mislead(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = _git(package, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert provenance()["git/commit"] == commit


def test_git_may_be_missing_or_hang(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance()["git/commit"] is None

    def hang(*args: object, **kwargs: object) -> None:
        raise subprocess.TimeoutExpired("git", 1)

    monkeypatch.setattr(subprocess, "run", hang)
    assert provenance()["git/commit"] is None
