"""Search spaces: Hydra's sweep grammar becomes Optuna's distributions, and a sampled value an override inside them."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genoseq.errors import UserError
from genoseq.overrides import parse

optuna = pytest.importorskip("optuna", reason="searches with Optuna are an extra")

from optuna.distributions import CategoricalDistribution as Categorical  # noqa: E402
from optuna.distributions import FloatDistribution as Float  # noqa: E402
from optuna.distributions import IntDistribution as Int  # noqa: E402

from genoseq.sweeps.space import Space, read_space  # noqa: E402


def sample(space: Space, seed: int = 0) -> dict[str, Any]:
    """Return a trial's values."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return dict(study.ask(space.distributions).params)


@pytest.mark.parametrize(
    ("sweep", "distribution"),
    [
        ("interval(0, 0.5)", Float(0.0, 0.5)),
        ("interval(1, 10)", Float(1.0, 10.0)),
        ("tag(log, interval(1e-4, 3e-2))", Float(1e-4, 3e-2, log=True)),
        ("int(interval(1, 8))", Int(1, 8)),
        ("int(tag(log, interval(1, 1024)))", Int(1, 1024, log=True)),
        ("tag(log, int(interval(1, 1024)))", Int(1, 1024, log=True)),
        ("range(8, 72, 16)", Int(8, 56, step=16)),
        ("range(3)", Int(0, 2)),
        ("range(10, 0, -5)", Int(5, 10, step=5)),
        ("range(0.0, 0.5, 0.1)", Float(0.0, 0.4, step=0.1)),
        ("range(0.0, 0.9, 0.1)", Float(0.0, 0.8, step=0.1)),
        ("choice(8, 16, 32)", Categorical(("8", "16", "32"))),
        ("adam,sgd,null,'a,b',true,1e-5", Categorical(("adam", "sgd", "null", "'a,b'", "True", "1e-05"))),
        ("8,16,8", Categorical(("8", "16"))),
        ("[1,2],[3]", Categorical(("[1,2]", "[3]"))),
        ("choice('1', 1, ';', 'a b', a/b)", Categorical(("'1'", "1", "';'", "'a b'", "a/b"))),
    ],
)
def test_each_kind_of_sweep_is_a_distribution(sweep: str, distribution: object) -> None:
    for space in (read_space({}, [f"x.y={sweep}"]), read_space({"x.y": sweep}, [])):
        assert space == Space({"x.y": distribution}, [], {"x.y": sweep})
    added = read_space({}, [f"+x.y={sweep}"])
    assert added.overrides(sample(added))[0].startswith("+x.y=")


@pytest.mark.parametrize(
    ("sweep", "reason"),
    [
        ("glob(*)", "name the options"),
        ("interval(2, 1)", "`low <= high` must hold"),
        ("tag(log, interval(0, 1))", "`low > 0` must hold"),
        ("interval(0, inf)", "two finite ends"),
        ("interval(nan, 1)", "two finite ends"),
        ("tag(log, choice(1, 2))", "only for an interval"),
        ("tag(fast, interval(1, 2))", "the only tag is log"),
        ("range(3, 3)", "empty"),
        ("range(0, 3, 0)", "must not be zero"),
        ("range(0.0, 3.0, 0.0)", "Invalid range"),
    ],
)
def test_a_sweep_that_cannot_be_sampled_is_one_sentence(sweep: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"^optimizer=.*{reason}") as error:
        read_space({}, [f"optimizer={sweep}"])
    assert "\n" not in str(error.value)


def test_a_space_without_a_sweep_says_how_to_write_one() -> None:
    with pytest.raises(UserError, match=r"varies nothing: write one as .*tag\(log,interval\(low,high\)\)"):
        read_space({"seed": "3"}, ["model=rnn2"])


def test_the_command_takes_precedence_over_the_preset() -> None:
    preset = {"a.lr": "tag(log, interval(1e-4, 1e-2))", "a.size": "8,16", "a.rate": "0.5", "a.off": None}
    space = read_space(preset, ["a.size=64", "model=rnn1,rnn2", "a.b='x=1, y'", "a.lr=interval(0,1)", "sweep.dir=x"])
    assert space.distributions == {"a.lr": Float(0.0, 1.0), "model": Categorical(("rnn1", "rnn2"))}
    assert list(space.distributions) == ["a.lr", "model"]  # by name
    assert space.constants == ["a.rate=0.5", "a.size=64", "a.b='x=1, y'", "sweep.dir=x"]
    assert space.overrides({"a.lr": 0.123456, "model": "rnn2"}) == [*space.constants, "a.lr=0.1235", "model=rnn2"]
    assert "sweep.dir" not in space.settings and space.settings["model"] == "rnn1,rnn2"
    for argument in ("~a.lr", "+a.lr=1"):
        narrowed = read_space(preset, [argument])
        assert list(narrowed.distributions) == ["a.size"] and argument in narrowed.constants
    last = read_space({}, ["a.lr=interval(0,1)", "a.size=1,2", "a.lr=3"])
    assert list(last.distributions) == ["a.size"] and last.constants == ["a.lr=3"]


def test_examples_hold_each_option_of_each_group() -> None:
    space = read_space({}, ["model=rnn1,rnn2,rnn3", "data/split=blocks,bed", "a.b=1,2", "a.lr=interval(0,1)", "seed=1"])
    rows = space.examples()
    assert len(rows) == 3 and all(row[0] == "seed=1" and {"a.lr=0.0", "a.b=1"} < set(row) for row in rows)
    groups = {text for row in rows for text in row if "." not in text} - {"seed=1"}
    assert groups == {"model=rnn1", "model=rnn2", "model=rnn3", "data/split=blocks", "data/split=bed"}


@pytest.mark.parametrize(
    ("low", "high", "value", "text"),
    [
        (0.0, 1.0, 0.123456789, "0.1235"),
        (1e-5, 1.0, 0.0000123456, "1.235e-05"),
        (0.12344, 0.2, 0.123441, "0.12344"),  # not below the interval
        (0.1, 0.12346, 0.123459, "0.12346"),  # nor above
        (0.5, 0.50001, 0.5000049876, "0.5000049876"),  # four digits would leave one value
        (3.0, 3.0, 3.0, "3.0"),
        (-2.0, -1.0, -1.23456, "-1.235"),
    ],
)
def test_a_sampled_number_is_short_and_inside(low: float, high: float, value: float, text: str) -> None:
    assert Space({"x": Float(low, high)}, [], {}).varied({"x": value}) == [f"x={text}"]


numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30)
positive = st.floats(min_value=1e-30, max_value=1e30)
integers = st.integers(-(10**6), 10**6)
choices = st.one_of(
    integers.map(str), numbers.map(repr), st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), max_size=6).map(
        lambda text: "'" + text.replace("\\", "").replace("'", "\\'") + "'"
    ),
)  # fmt: skip


@st.composite
def sweeps(draw: Any) -> str:
    """Return a value that is a sweep, as a user writes it."""
    kind = draw(st.sampled_from(("float", "log", "int", "int-log", "range", "float-range", "choice")))
    if kind == "choice":
        return "choice(" + ",".join(draw(st.lists(choices, min_size=1, max_size=5))) + ")"
    if kind == "range":
        low, step, n = draw(integers), draw(st.integers(1, 100)), draw(st.integers(1, 20))
        return f"range({low},{low + n * step},{step})"
    if kind == "float-range":
        low, n = draw(st.integers(-50, 50)), draw(st.integers(1, 9))
        step = draw(st.sampled_from((0.1, 0.25, 0.05, 1.5)))
        return f"range({low}.0,{low + n * step!r},{step})"
    ends = {"float": numbers, "log": positive, "int": integers, "int-log": st.integers(1, 10**6)}[kind]
    low, high = sorted((draw(ends), draw(ends)))
    text = f"interval({low!r},{high!r})"
    text = f"tag(log,{text})" if "log" in kind else text
    return f"int({text})" if "int" in kind else text


@given(sweeps(), st.integers(0, 5))
def test_a_sampled_override_lies_in_the_sweep(text: str, seed: int) -> None:
    (override,) = parse([f"x.y={text}"])
    sweep: Any = override.value()
    space = read_space({}, [f"x.y={text}"])
    value: Any = parse(space.overrides(sample(space, seed)))[0].value()
    if override.is_choice_sweep():
        options = [getattr(each, "text", each) for each in sweep.list]
        assert (type(value), value) in [(type(each), each) for each in options]
    elif override.is_range_sweep():
        assert any(math.isclose(value, each, rel_tol=1e-9, abs_tol=1e-9) for each in sweep.range())
        assert type(value) is type(next(iter(sweep.range())))
    else:
        assert sweep.start <= value <= sweep.end and type(value) is type(sweep.start)


@given(st.floats(1e-6, 1.0), st.floats(1.0, 1e6), st.integers(0, 100))
def test_rounding_moves_a_number_little(low: float, factor: float, seed: int) -> None:
    space = Space({"x": Float(low, low * factor, log=True)}, [], {})
    value = sample(space, seed)["x"]
    text = space.varied({"x": value})[0].removeprefix("x=")
    assert math.isclose(float(text), value, rel_tol=5.1e-4)
    if factor >= 1.2 and float(text) not in (low, low * factor):
        assert float(f"{float(text):.4g}") == float(text)
