"""How long to wait: bounds, growth, cap, jitter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from celeriac.execution.retry import retry_countdown


def test_it_doubles_until_the_cap() -> None:
    waits = [retry_countdown(n, backoff=3, maximum=20, jitter=False) for n in range(5)]
    assert waits == [3, 6, 12, 20, 20]


def test_true_and_small_backoffs_are_one_second() -> None:
    assert retry_countdown(0, backoff=True, jitter=False) == 1
    assert retry_countdown(1, backoff=0.1, jitter=False) == 2


def test_jitter_draws_between_nothing_and_the_wait() -> None:
    drawn: list[tuple[float, float]] = []

    def random(low: float, high: float) -> float:
        drawn.append((low, high))
        return high / 2

    assert retry_countdown(2, backoff=1, random=random) == 2
    assert drawn == [(0.0, 4.0)]


@given(st.integers(-10, 10**7), st.floats(0, 1e6), st.floats(0, 1e9))
def test_it_stays_within_its_bounds_and_never_overflows(retries: int, backoff: float, maximum: float) -> None:
    assert 0 <= retry_countdown(retries, backoff=backoff, maximum=maximum) <= maximum


@given(st.integers(0, 100))
def test_it_never_falls_as_retries_grow(retries: int) -> None:
    now = retry_countdown(retries, jitter=False, maximum=1e9)
    assert now <= retry_countdown(retries + 1, jitter=False, maximum=1e9)
