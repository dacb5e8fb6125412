"""Override texts: parsed as Hydra does, quoted so that Hydra reads them back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genoseq.errors import UserError
from genoseq.overrides import key_of, parse, quote, quote_paths, settings, short_names, value_text


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("a.b=1e-3", "a.b", "1e-3"),
        ("+a.b=x", "a.b", "x"),
        ("++a@b='c=1, d'", "a@b", "'c=1, d'"),
        ("~logger", "logger", ""),
        ("data/split= blocks", "data/split", "blocks"),
        ("a=choice(1,2)", "a", "choice(1,2)"),
    ],
)
def test_key_and_value_of_an_override(text: str, key: str, value: str) -> None:
    (override,) = parse([text])
    assert (key_of(override), value_text(override)) == (key, value) and override.input_line == text


@pytest.mark.parametrize("text", ["", "a", "a=b=c", "a=(", "a=interval(1", "a=b\nc", "--multirun"])
def test_a_text_that_is_no_override_is_named(text: str) -> None:
    with pytest.raises(UserError, match="is not an override") as error:
        parse(["a=1", text])
    assert repr(text) in str(error.value) and "\n" not in str(error.value)


def test_settings_leave_out_where_and_how_a_run_runs() -> None:
    own = ["ckpt='x,=y'", "sweep.dir=z", "hparams_search=grid", "hydra.verbose=true", "hydra/launcher=ray"]
    assert settings(["a=1", *own, "+b=2", "b=3", "~logger"]) == {"a": "1", "b": "3", "logger": ""}


@given(st.text())
def test_hydra_reads_a_quoted_text_back(text: str) -> None:
    (override,) = parse([f"key={quote(text)}"])
    assert override.value() == text and value_text(override) == quote(text)


def test_paths_that_hydra_would_not_read_are_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("seq_len=50,lr=0.1", "plain.fa", "8", "it's (new)", "1,2"):
        Path(name).touch()
    there = quote_paths(["ckpt=seq_len=50,lr=0.1", "data.genome=it's (new)", "+x=1,2"])
    assert [parse([text])[0].value() for text in there] == ["seq_len=50,lr=0.1", "it's (new)", "1,2"]
    other = [
        "data.genome=plain.fa",
        "seed=8",
        "seed=1,3",
        "ckpt='1,2'",
        "-m",
        "--config-dir=1,2",
        "x=" + "1," * 300,
        "key=/no/such=1,2",
    ]
    assert quote_paths(other) == other


@given(st.lists(st.from_regex(r"[ab]([./][ab]){0,2}", fullmatch=True), unique_by=lambda key: key.replace("/", ".")))
def test_short_names_differ(keys: list[str]) -> None:
    names = short_names(keys)
    assert list(names) == keys and len(set(names.values())) == len(keys)
    assert short_names(["data.seq_len", "model.k", "data.k", "data/split", "data.seq_len"]) == {
        "data.seq_len": "seq_len", "model.k": "model.k", "data.k": "data.k", "data/split": "split",
    }  # fmt: skip
