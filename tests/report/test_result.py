"""A result names the versions and the commit that made it, and no commit that is not its own."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from genoseq.report import result


def _git(folder: Path, *arguments: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *name, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package in a fresh work tree, committed, that provenance takes for genoseq."""
    package = tmp_path / "genoseq"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / "notes.txt").write_text("")  # outside the code: changes nothing
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "genoseq")
    _git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.setattr(result, "_PACKAGE", package)
    return package


def _state() -> tuple[str | None, bool | None]:
    found = result.provenance("cpu")
    return found["git/commit"], found["git/dirty"]


def test_versions_are_those_in_use() -> None:
    found = result.provenance("cpu")
    assert found["version/python"] == platform.python_version()
    for name in ("torch", "lightning"):
        assert found[f"version/{name}"] == metadata.version(name)
    assert found["version/genoseq"] and found["version/hydra"] and found["host/cpus"] >= 1 and found["host/device"]
    assert 1e7 < found["host/peak_memory"] < 1e12  # bytes, not kilobytes
    assert json.loads(json.dumps(found)) == found


def test_commit_and_changes(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = _git(package, "rev-parse", "HEAD")
    assert _state() == (commit, False)
    monkeypatch.setenv("GIT_DIR", str(package / "nowhere"))  # as inside a git hook
    assert _state() == (commit, False)
    new = package.parent / "conf" / "new.yaml"
    new.parent.mkdir()
    new.write_text("")
    assert _state() == (commit, True)
    new.unlink()
    (package / "__init__.py").write_text("x = 1\n")
    assert _state() == (commit, True)


def test_without_a_commit_of_its_own(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*args: object, **kwargs: object) -> None:
        raise subprocess.TimeoutExpired("git", 1)

    with monkeypatch.context() as patch:
        installed = package.parent / "venv" / "genoseq"  # inside a work tree that does not track it
        installed.mkdir(parents=True)
        (installed / "__init__.py").write_text("")
        patch.setattr(result, "_PACKAGE", installed)
        assert _state() == (None, None)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")  # no git
        assert _state() == (None, None)
    monkeypatch.setattr(subprocess, "run", hang)
    assert _state() == (None, None)
