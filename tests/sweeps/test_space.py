"""What Hydra's words mean to a sampler, and that what is drawn comes back as an override inside the space."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from genoseq.errors import UserError
from genoseq.sweeps.axes import Choice, Numbers
from genoseq.sweeps.space import Space, read_space

optuna = pytest.importorskip("optuna", reason="sweep=optuna is an extra")


def value_of(override: str) -> Any:
    """Return what Hydra makes of an override."""
    return OverridesParser.create().parse_overrides([override])[0].value()


def drawn(space: Space, seed: int = 0) -> Mapping[str, Any]:
    """Return a trial's values."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    space.suggest(trial)
    return dict(trial.params)


@pytest.mark.parametrize(
    ("said", "axis"),
    [
        ("interval(0, 0.5)", Numbers("x.y", 0.0, 0.5)),
        ("interval(1, 10)", Numbers("x.y", 1.0, 10.0)),
        ("tag(log, interval(1e-4, 3e-2))", Numbers("x.y", 1e-4, 3e-2, log=True)),
        ("int(interval(1, 8))", Numbers("x.y", 1, 8)),
        ("int(tag(log, interval(1, 1024)))", Numbers("x.y", 1, 1024, log=True)),
        ("tag(log, int(interval(1, 1024)))", Numbers("x.y", 1, 1024, log=True)),
        ("range(8, 72, 16)", Numbers("x.y", 8, 56, step=16)),
        ("range(3)", Numbers("x.y", 0, 2, step=1)),
        ("range(10, 0, -5)", Numbers("x.y", 5, 10, step=5)),
        ("range(0.0, 0.5, 0.1)", Numbers("x.y", 0.0, 0.4, step=0.1)),
        ("choice(8, 16, 32)", Choice("x.y", ("8", "16", "32"))),
        ("adam,sgd,null,'a,b',true,1e-5", Choice("x.y", ("adam", "sgd", "null", "'a,b'", "True", "1e-05"))),
        ("8,16,8", Choice("x.y", ("8", "16"))),
        ("[1,2],[3]", Choice("x.y", ("[1,2]", "[3]"))),
        ("choice('1', 1, ';', 'a b', a/b)", Choice("x.y", ("'1'", "1", "';'", "a\\ b", "a/b"))),
    ],
)
def test_each_word(said: str, axis: object) -> None:
    for space in (read_space({}, [f"x.y={said}"]), read_space({"x.y": said}, [])):
        assert space == Space((axis,), {})
        assert type(getattr(space.axes[0], "low", 0)) is type(getattr(axis, "low", 0))
    prefixed = read_space({}, [f"+x.y={said}"])
    assert prefixed.axes[0].key == "+x.y" and prefixed.overrides(drawn(prefixed))[0].startswith("+x.y=")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("glob(*)", "name the options"),
        ("interval(2, 1)", "ends before it begins"),
        ("tag(log, interval(0, 1))", "above 0"),
        ("interval(0, inf)", "two finite ends"),
        ("interval(nan, 1)", "two finite ends"),
        ("tag(log, choice(1, 2))", "only for an interval"),
        ("tag(fast, interval(1, 2))", "the only tag is log"),
        ("range(3, 3)", "empty"),
        ("range(0, 3, 0)", "cannot be 0"),
        ("range(0.0, 3.0, 0.0)", "cannot be 0"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(said: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as told:
        read_space({}, [f"optimizer={said}"])
    assert "optimizer" in str(told.value) and "\n" not in str(told.value)


def test_nothing_that_varies_says_how_to_write_it() -> None:
    with pytest.raises(UserError, match=r"varies nothing: write one as .*tag\(log,interval\(low,high\)\)"):
        read_space({"seed": "3"}, ["model=rnn2"])


def test_the_command_takes_the_place_of_the_preset() -> None:
    preset = {"a.lr": "tag(log, interval(1e-4, 1e-2))", "a.size": "8,16", "a.rate": "0.5", "a.off": None}
    space = read_space(preset, ["a.size=64", "model=rnn1,rnn2", "a.b='x=1, y'", "a.lr=interval(0,1)"])
    assert [axis.key for axis in space.axes] == ["a.lr", "model"]  # by name
    assert space.axes[0] == Numbers("a.lr", 0.0, 1.0)
    assert list(space.constants.values()) == ["a.rate=0.5", "a.size=64", "a.b='x=1, y'"]
    assert space.overrides({"a.lr": 0.123456, "model": "rnn2"}) == [
        *space.constants.values(),
        "a.lr=0.1235",
        "model=rnn2",
    ]
    assert [axis.key for axis in read_space(preset, ["~a.lr"]).axes] == ["a.size"]
    assert read_space(preset, ["~a.lr"]).constants["~a.lr"] == "~a.lr"
    assert read_space(preset, ["+a.lr=1"]).axes[0].key == "a.size"
    last = read_space({}, ["a.lr=interval(0,1)", "a.size=1,2", "a.lr=3"])
    assert [axis.key for axis in last.axes] == ["a.size"] and last.constants == {"a.lr": "a.lr=3"}


def test_examples_cover_each_option_of_a_group() -> None:
    space = read_space({}, ["model=rnn1,rnn2,rnn3", "data/split=blocks,bed", "a.lr=interval(0,1)", "seed=1"])
    rows = space.examples()
    assert len(rows) == 1 + 2 + 1 and all(row[0] == "seed=1" and "a.lr=0.0" in row for row in rows)
    assert {word for row in rows for word in row if "/" in word or "model" in word} == {
        "model=rnn1", "model=rnn2", "model=rnn3", "data/split=blocks", "data/split=bed",
    }  # fmt: skip


def test_what_is_compared_leaves_the_place_out() -> None:
    one = read_space({}, ["sweep=optuna", "sweep.dir=a", "a.lr=interval(0,1)", "model=rnn1"])
    two = read_space({"a.lr": "interval(0,1)"}, ["model=rnn1", "sweep.dir=b"])
    assert one.described() == two.described() == {"model": "rnn1", "a.lr": "0.0 to 1.0"}


@pytest.mark.parametrize(
    ("low", "high", "value", "text"),
    [
        (0.0, 1.0, 0.123456789, "0.1235"),
        (1e-5, 1.0, 0.0000123456, "1.235e-05"),
        (0.12344, 0.2, 0.123441, "0.12344"),  # not below the interval
        (0.1, 0.12346, 0.123459, "0.12346"),  # nor above
        (0.5, 0.50001, 0.5000049876, "0.50000499"),  # four digits would leave one value
        (3.0, 3.0, 3.0, "3.0"),
        (-2.0, -1.0, -1.23456, "-1.235"),
    ],
)
def test_rounding(low: float, high: float, value: float, text: str) -> None:
    assert Numbers("x", low, high).text(value) == text


numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30)
above_0 = st.floats(min_value=1e-30, max_value=1e30)
whole = st.integers(-(10**6), 10**6)
words = st.one_of(
    whole.map(str), numbers.map(repr), st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), max_size=6).map(
        lambda text: "'" + text.replace("\\", "").replace("'", "\\'") + "'"
    ),
)  # fmt: skip


@st.composite
def sweeps(draw: Any) -> str:
    """Return a value that is a sweep, as a user writes it."""
    kind = draw(st.sampled_from(("float", "log", "int", "int-log", "range", "float-range", "choice")))
    if kind == "choice":
        return "choice(" + ",".join(draw(st.lists(words, min_size=1, max_size=5))) + ")"
    if kind == "range":
        low, step, n = draw(whole), draw(st.integers(1, 100)), draw(st.integers(1, 20))
        return f"range({low},{low + n * step},{step})"
    if kind == "float-range":
        low, step, n = (
            draw(st.integers(-50, 50)),
            draw(st.sampled_from((0.1, 0.25, 0.05, 1.5))),
            draw(st.integers(1, 9)),
        )
        return f"range({low}.0,{low + n * step!r},{step})"
    ends = {"float": numbers, "log": above_0, "int": whole, "int-log": st.integers(1, 10**6)}[kind]
    low, high = sorted((draw(ends), draw(ends)))
    text = f"interval({low!r},{high!r})"
    text = f"tag(log,{text})" if "log" in kind else text
    return f"int({text})" if "int" in kind else text


@given(sweeps(), st.integers(0, 5))
def test_what_is_drawn_parses_back_inside_the_space(said: str, seed: int) -> None:
    sweep = OverridesParser.create().parse_overrides([f"x.y={said}"])[0]
    space = read_space({}, [f"x.y={said}"])
    (text,) = space.overrides(drawn(space, seed))
    value = value_of(text)
    if sweep.is_choice_sweep():
        said_values = [getattr(each, "text", each) for each in sweep.value().list]
        assert (type(value), value) in [(type(each), each) for each in said_values]
    elif sweep.is_range_sweep():
        assert any(math.isclose(value, each, rel_tol=1e-9, abs_tol=1e-9) for each in sweep.value().range())
        assert type(value) is type(next(iter(sweep.value().range())))
    else:
        assert sweep.value().start <= value <= sweep.value().end and type(value) is type(sweep.value().start)


@given(st.floats(1e-6, 1.0), st.floats(1.0, 1e6), st.integers(0, 100))
def test_a_drawn_number_is_short_and_near(low: float, factor: float, seed: int) -> None:
    axis = Numbers("x", low, low * factor, log=True)
    value = drawn(Space((axis,), {}), seed)["x"]
    text = axis.text(value)
    assert math.isclose(float(text), value, rel_tol=5.1e-4)
    if factor >= 1.2 and text not in (repr(axis.low), repr(axis.high)):
        assert float(f"{float(text):.4g}") == float(text)
