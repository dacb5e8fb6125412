"""What configs compute from others of their values."""

import pytest

from genoseq.app.resolvers import rows, steps


@pytest.mark.parametrize(("seq_len", "windows"), [(10, 1000), (100, 100), (3000, 3), (5000, 2), (7000, 1), (50_000, 1)])
def test_a_step_s_windows_hold_as_many_tokens(seq_len: int, windows: int) -> None:
    assert rows(10_000, seq_len) == windows


@pytest.mark.parametrize("seq_len", [10, 50, 100, 200, 500, 1000, 5000])
def test_windows_of_every_length_read_the_same_in_as_many_steps(seq_len: int) -> None:
    windows = rows(1e4, seq_len)
    taken = steps(6e6, windows, seq_len)
    assert taken == 600 and taken * windows * seq_len == 6_000_000


def test_one_step_at_least() -> None:
    assert steps(10, 64, 64) == 1
