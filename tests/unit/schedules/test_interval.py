"""schedule: every so many seconds."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.schedules import crontab, maybe_schedule, schedule

NOW = datetime(2024, 5, 15, 10, 20, 30, 500000, tzinfo=UTC)


def app(zone: str = "UTC") -> Any:
    return SimpleNamespace(timezone=ZoneInfo(zone), now=lambda: NOW)


@pytest.mark.parametrize(
    ("ago", "state"), [(5, (False, 5.0)), (10, (True, 10.0)), (100, (True, 10.0)), (-100, (False, 110.0))]
)
def test_is_due(ago: float, state: tuple[bool, float]) -> None:
    last = NOW - timedelta(seconds=ago)
    assert schedule(10).is_due(last, NOW) == state
    assert schedule(10, nowfun=lambda: NOW).is_due(last.replace(tzinfo=None)) == state
    assert schedule(10, app=app()).remaining_estimate(last) == timedelta(seconds=10 - ago)


def test_a_late_run_does_not_push_back_the_next() -> None:
    every = schedule(10)
    assert every.anchor(NOW, NOW + timedelta(seconds=10.3)) == NOW + timedelta(seconds=10)
    late = NOW + timedelta(seconds=35)
    assert every.anchor(NOW, late) == late


@given(st.floats(0.5, 7200), st.lists(st.floats(0, 0.4), min_size=5, max_size=30))
def test_it_keeps_its_beat(period: float, delays: list[float]) -> None:
    """However late each run is within its period, the n-th is due n periods after the first."""
    every, last = schedule(period), NOW
    for number, delay in enumerate(delays, 1):
        due = every.due_after(last)
        assert due == NOW + number * timedelta(seconds=period)
        last = every.anchor(last, due + timedelta(seconds=period * delay))


@pytest.mark.parametrize(
    ("seconds", "due"),
    [
        (30, "15 10:21:00"),
        (90, "15 10:22:00"),
        (3600, "15 11:00:00"),
        (5400, "15 11:00:00"),
        (7200, "15 12:00:00"),
        (86400, "16 00:00:00"),
        (172800, "17 00:00:00"),
    ],
)
def test_relative_is_due_at_full_units(seconds: float, due: str) -> None:
    assert f"{schedule(seconds, relative=True, app=app()).due_after(NOW):%d %H:%M:%S}" == due


@given(
    st.sampled_from(
        ["Europe/Vienna", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Cairo"]
    ),
    st.sampled_from([1, 45, 60, 90, 3600, 5400, 86400, 100000, 604800]),
    st.datetimes(datetime(2010, 1, 1), datetime(2025, 1, 1), timezones=st.just(UTC)),
)
def test_relative_is_never_due_at_its_own_last_run(zone: str, seconds: int, start: datetime) -> None:
    due = schedule(seconds, relative=True, app=app(zone)).due_after(start)
    assert start < due <= start + timedelta(seconds=seconds) + timedelta(days=1, hours=1)


def test_relative_days_are_days_on_the_wall() -> None:
    daily = schedule(timedelta(days=1), relative=True, app=app("Europe/Vienna"))
    due = [datetime(2024, 3, 30, 12, tzinfo=UTC)]
    for _ in range(3):
        due.append(daily.due_after(due[-1]))
    assert [f"{at:%d %H:%M}" for at in due[1:]] == ["30 23:00", "31 22:00", "01 22:00"]


def test_a_clock_set_back_is_not_waited_for() -> None:
    assert not schedule(10).credible(NOW + timedelta(hours=1), NOW)
    assert schedule(10).credible(NOW, NOW)


@pytest.mark.parametrize("every", [0, -1, timedelta(0), "10"])
def test_refuses_what_is_no_period(every: Any) -> None:
    with pytest.raises(ValueError, match="every so many seconds"):
        schedule(every)


def test_words_and_equality() -> None:
    assert repr(schedule(90)) == "<freq: 1.50 minutes>"
    assert schedule(0.5).human_seconds == "0.50 seconds"
    assert schedule(10) == schedule(timedelta(seconds=10)) == timedelta(seconds=10)
    assert schedule(10) != schedule(10, relative=True)
    assert schedule(10) != 10
    assert pickle.loads(pickle.dumps(schedule(10, relative=True))) == schedule(10, relative=True)


def test_maybe_schedule() -> None:
    assert maybe_schedule(5) == schedule(5)
    assert maybe_schedule(timedelta(days=1), relative=True) == schedule(timedelta(days=1), relative=True)
    daily, owner = crontab(minute=0, hour=9), app()
    assert maybe_schedule(daily, app=owner) is daily
    assert daily.app is owner
