"""crontab: which days match, what is missed, and a clock that is set back."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from celeriac.schedules import BaseSchedule, crontab

NOW = datetime(2024, 5, 15, 10, 20, 30, tzinfo=UTC)  # a Wednesday


def stub(deadline: float | None = None, now: datetime = NOW) -> Any:
    """As much of an app as a schedule asks for."""
    return SimpleNamespace(
        timezone=UTC, now=lambda: now, conf=SimpleNamespace(beat_cron_starting_deadline=deadline)
    )


def cron(**fields: Any) -> crontab:
    return crontab(**{"app": stub(), **fields})


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({}, "2024-05-15 10:21"),
        ({"minute": 20}, "2024-05-15 11:20"),
        ({"minute": 0, "hour": 9}, "2024-05-16 09:00"),
        ({"minute": 0, "hour": 0, "day_of_week": "sun"}, "2024-05-19 00:00"),
        ({"minute": 0, "hour": 0, "day_of_month": 31}, "2024-05-31 00:00"),
        ({"minute": 0, "hour": 0, "day_of_month": 31, "month_of_year": "6-8"}, "2024-07-31 00:00"),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2}, "2028-02-29 00:00"),
        ({"minute": 0, "hour": 0, "day_of_month": 13, "day_of_week": "fri"}, "2024-09-13 00:00"),
        (
            {"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2, "day_of_week": "mon"},
            "2044-02-29 00:00",
        ),
        ({"minute": 0, "hour": 0, "month_of_year": "jan"}, "2025-01-01 00:00"),
    ],
)
def test_the_next_due_time(fields: dict[str, Any], due: str) -> None:
    assert f"{cron(**fields).due_after(NOW):%Y-%m-%d %H:%M}" == due


def test_a_last_run_at_a_due_time_is_not_due_again() -> None:
    nine = datetime(2024, 5, 15, 9, tzinfo=UTC)
    daily = cron(minute=0, hour=9)
    assert daily.is_due(nine - timedelta(microseconds=1), nine) == (True, 86400.0)
    assert daily.is_due(nine, nine) == (False, 86400.0)
    assert daily.is_due(nine, nine + timedelta(seconds=1)) == (False, 86399.0)


def test_what_was_missed_is_due_once() -> None:
    hourly = cron(minute=0)
    assert hourly.is_due(NOW - timedelta(days=3), NOW).is_due
    assert not hourly.is_due(NOW, NOW).is_due


@pytest.mark.parametrize(
    ("deadline", "due"), [(None, True), (60, False), (1230, False), (1231, True), (7200, True)]
)
def test_the_deadline_counts_from_the_last_missed_due_time(deadline: float | None, due: bool) -> None:
    hourly = cron(minute=0, app=stub(deadline))  # 10:00 was 1230 s ago
    assert hourly.is_due(NOW - timedelta(hours=3), NOW) == (due, 2370.0)


def test_after_a_passed_deadline_the_next_due_time_runs() -> None:
    hourly = cron(minute=0, app=stub(60))
    assert hourly.is_due(NOW - timedelta(hours=3), datetime(2024, 5, 15, 11, tzinfo=UTC)).is_due


def test_naive_last_runs_are_in_utc() -> None:
    assert cron(minute=0).due_after(datetime(2024, 5, 15, 9, 30)) == datetime(2024, 5, 15, 10, tzinfo=UTC)


def test_the_zone_is_the_schedules_own_or_the_apps() -> None:
    nine = {"minute": 0, "hour": 9}
    assert cron(**nine).due_after(NOW).hour == 9
    assert cron(**nine, tz="Asia/Tokyo").due_after(NOW).hour == 0
    abroad = stub()
    abroad.timezone = ZoneInfo("America/New_York")
    assert cron(**nine, app=abroad).due_after(NOW).hour == 13


def test_remaining_estimate_and_delta_by_the_schedules_clock() -> None:
    hourly = cron(minute=0)
    assert hourly.remaining_estimate(NOW) == timedelta(minutes=39, seconds=30)
    last, delta, now = hourly.remaining_delta(NOW - timedelta(hours=1), tz="Europe/Vienna")
    assert (last.hour, delta, now.hour) == (11, timedelta(minutes=39, seconds=30), 12)


def test_a_clock_set_back_by_little_repeats_nothing() -> None:
    daily = cron(minute=0, hour=10)
    ran = datetime(2024, 5, 15, 10, tzinfo=UTC)
    assert daily.credible(ran, ran - timedelta(minutes=30))
    assert not daily.is_due(ran, ran).is_due


def test_a_last_run_far_ahead_is_not_believed() -> None:
    often = cron(minute="*/5")
    ran = datetime(2024, 5, 15, 10, 0, 1, tzinfo=UTC)
    assert often.credible(ran, ran - timedelta(minutes=3))
    assert not often.credible(ran, ran - timedelta(minutes=16))
    assert not cron(minute=0, hour=10).credible(ran + timedelta(days=365), ran)


def test_equality_is_of_what_matches() -> None:
    assert cron(minute="0,30") == cron(minute={30, 0})
    assert cron(minute=0) != cron(minute=1)
    assert cron(minute=0) != cron(minute=0, tz="Asia/Tokyo")
    assert cron() != 5


def test_survives_pickling() -> None:
    daily = crontab(minute=0, hour="9", tz="Asia/Tokyo")
    copy = pickle.loads(pickle.dumps(daily))
    assert copy == daily
    assert repr(copy) == "<crontab: 0 9 * * * (m/h/dM/MY/d)>"


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError):
        crontab(minutes=5)


def test_a_schedule_of_ones_own_needs_two_methods() -> None:
    class Never(BaseSchedule):
        def is_due(self, last_run_at: datetime, now: datetime | None = None) -> tuple[bool, float]:
            return False, 60.0

    assert Never(app=stub()).is_due(NOW) == (False, 60.0)
    assert Never(app=stub()).due_after(NOW) is None
    with pytest.raises(NotImplementedError, match="Never must define remaining_estimate"):
        Never(app=stub()).remaining_estimate(NOW)
