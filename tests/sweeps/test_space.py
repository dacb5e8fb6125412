"""Search spaces: Hydra's sweep grammar becomes Optuna's distributions, and a sampled value an override inside them."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genoseq.errors import UserError
from genoseq.overrides import parse, quote

optuna = pytest.importorskip("optuna", reason="searches with Optuna are an extra")

from optuna.distributions import CategoricalDistribution as Categorical  # noqa: E402
from optuna.distributions import FloatDistribution as Float  # noqa: E402
from optuna.distributions import IntDistribution as Int  # noqa: E402

from genoseq.sweeps.space import Space, read_space  # noqa: E402


def sample(space: Space, seed: int) -> dict[str, Any]:
    """Return a trial's values."""
    return dict(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask(space.distributions).params)


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
        assert space == Space({"x.y": distribution}, [], {"x.y": str(distribution)})
    assert list(read_space({}, [f"+x.y={sweep}"]).distributions) == ["+x.y"]


@pytest.mark.parametrize(
    ("sweep", "reason"),
    [
        ("interval(2, 1)", "`low <= high` must hold"),
        ("tag(log, interval(0, 1))", "`low > 0` must hold"),
        ("range(0, 3, 0)", "must not be zero"),
        ("range(0.0, 3.0, 0.0)", "Invalid range"),
        *((sweep, "cannot be sampled") for sweep in ("glob(*)", "interval(0, inf)", "interval(nan, 1)", "range(3, 3)")),
        *((f"tag({tag})", "cannot be sampled") for tag in ("log, choice(1, 2)", "a, interval(1, 2)", "log, range(3)")),
        ("rnn2", "varies nothing"),
    ],
)
def test_what_cannot_be_sampled_is_one_sentence(sweep: str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"{reason}.*write what varies as .*tag\(log,interval\(low,high\)\)") as error:
        read_space({"seed": "3"}, [f"optimizer={sweep}"])
    assert "\n" not in str(error.value) and str(error.value).startswith(("the sweep", f"optimizer={sweep}"))


def test_the_command_takes_precedence_over_the_preset() -> None:
    preset = {"a.lr": "tag(log, interval(1e-4, 1e-2))", "a.size": "8,16", "a.rate": "0.5", "a.off": None}
    space = read_space(preset, ["a.size=64", "model=rnn1,rnn2", "a.b='x=1, y'", "a.lr=interval(0,1)", "sweep.dir=x"])
    assert list(space.distributions.items()) == [("a.lr", Float(0.0, 1.0)), ("model", Categorical(("rnn1", "rnn2")))]
    assert space.constants == ["a.rate=0.5", "a.size=64", "a.b='x=1, y'", "sweep.dir=x"]
    assert space.overrides({"a.lr": 0.123456, "model": "rnn2"}) == [*space.constants, "a.lr=0.1235", "model=rnn2"]
    assert sorted(space.settings) == ["a.b", "a.lr", "a.rate", "a.size", "model"]  # not where it runs
    for argument in ("~a.lr", "+a.lr=1"):
        narrowed = read_space(preset, [argument])
        assert list(narrowed.distributions) == ["a.size"] and argument in narrowed.constants
    last = read_space({}, ["a.lr=interval(0,1)", "a.size=1,2", "a.lr=3"])
    assert list(last.distributions) == ["a.size"] and last.constants == ["a.lr=3"]


def test_examples_hold_every_choice() -> None:
    space = read_space({}, ["model=rnn1,rnn2,rnn3", "data/split=blocks,bed", "a.lr=interval(0,1)", "seed=1"])
    assert space.examples() == [
        ["seed=1", "a.lr=0.0", "data/split=blocks", "model=rnn1"],
        ["seed=1", "a.lr=0.0", "data/split=bed", "model=rnn2"],
        ["seed=1", "a.lr=0.0", "data/split=blocks", "model=rnn3"],
    ]


@pytest.mark.parametrize(
    ("distribution", "value", "text"),
    [
        (Float(0.0, 1.0), 0.123456789, "0.1235"),
        (Float(1e-5, 1.0), 0.0000123456, "1.235e-05"),
        (Float(0.12344, 0.2), 0.123441, "0.12344"),  # not below the interval
        (Float(0.1, 0.12346), 0.123459, "0.12346"),  # nor above
        (Float(1000.0, 2000.0, step=0.5), 1000.5, "1000.5"),
        (Float(-2.0, -1.0), -1.23456, "-1.235"),
    ],
)
def test_a_sampled_number_is_short_and_inside(distribution: Float, value: float, text: str) -> None:
    assert Space({"x": distribution}, [], {}).varied({"x": value}) == [f"x={text}"]


numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30)
positive = st.floats(min_value=1e-30, max_value=1e30)
integers = st.integers(-(10**6), 10**6)
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
quoted = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), max_size=6).map(quote)
choices = st.one_of(integers.map(str), numbers.map(repr), names, quoted)


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
    text = f"tag(log,interval({low!r},{high!r}))" if "log" in kind else f"interval({low!r},{high!r})"
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
