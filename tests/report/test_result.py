"""A result names the versions and the commit that made it, and no commit that is not its own."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from genoseq.report import result
from genoseq.report.result import provenance


def _git(folder: Path, *arguments: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", folder, *name, *arguments], check=True, capture_output=True, text=True
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
    monkeypatch.setattr(result, "_PACKAGE", package)
    return package


def test_versions_are_those_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    found = provenance()
    assert found["version/python"] == platform.python_version()
    assert found["version/torch"] == metadata.version("torch")
    assert found["version/lightning"] == metadata.version("lightning")
    assert found["version/genoseq"] and found["host/cpus"] >= 1 and found["host/device"]
    assert json.loads(json.dumps(found)) == found

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert provenance()["version/hydra"] is None


def test_commit_and_changes(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = _git(package, "rev-parse", "HEAD")
    found = provenance()
    # an untracked note outside the code changes nothing
    assert (found["git/commit"], found["git/dirty"]) == (commit, False)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))  # as inside a git hook
    assert provenance()["git/commit"] == commit
    (package / "__init__.py").write_text("x = 1\n")
    assert provenance()["git/dirty"] is True


def test_a_new_configuration_is_a_change(package: Path) -> None:
    (package.parent / "conf").mkdir()
    (package.parent / "conf" / "new.yaml").write_text("")
    assert provenance()["git/dirty"] is True


def test_without_a_commit_of_its_own(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = package.parent / "venv" / "genoseq"  # inside a work tree that does not track it
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    monkeypatch.setattr(result, "_PACKAGE", installed)
    found = provenance()
    assert found["git/commit"] is None and found["git/dirty"] is None
    monkeypatch.setattr(result, "_PACKAGE", package)

    def hang(*args: object, **kwargs: object) -> None:
        raise subprocess.TimeoutExpired("git", 1)

    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")  # no git
        assert provenance()["git/commit"] is None
    monkeypatch.setattr(subprocess, "run", hang)
    assert provenance()["git/commit"] is None
