"""crontab against the clocks of the world.

The rule is stated in `celeriac.schedules.cron_search`; here it is written a second time, as plainly as
can be, and the two must agree wherever clocks are changed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac.schedules import crontab

MINUTE = timedelta(minutes=1)
YEARS = (2011, 2024)
ZONES = (
    "UTC",
    "Europe/Vienna",
    "Europe/London",
    "Europe/Dublin",  # negative daylight saving
    "America/New_York",
    "America/Sao_Paulo",  # changed at midnight
    "America/Havana",  # changed at midnight
    "America/St_Johns",  # half hours, changed at 00:01 in 2011
    "Africa/Casablanca",  # changed twice a year around Ramadan
    "Africa/Cairo",
    "Asia/Kathmandu",  # 45 minutes
    "Australia/Lord_Howe",  # daylight saving of 30 minutes
    "Pacific/Apia",  # has no 30 December 2011
)


def plain(zone: str, **fields: Any) -> crontab:
    app: Any = SimpleNamespace(conf=SimpleNamespace(beat_cron_starting_deadline=None))
    return crontab(**fields, tz=zone, app=app)


@cache
def changes(zone: str) -> tuple[datetime, ...]:
    """The instants at which the zone's clock is changed."""
    found = []
    for year in YEARS:
        at, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
        while at < end:
            following = at + timedelta(hours=1)
            if at.astimezone(ZoneInfo(zone)).utcoffset() != following.astimezone(ZoneInfo(zone)).utcoffset():
                found.append(following)
            at = following
    return tuple(found)


def matches(cron: crontab, wall: datetime) -> bool:
    return (
        wall.minute in cron.minute
        and wall.hour in cron.hour
        and wall.isoweekday() % 7 in cron.day_of_week
        and wall.day in cron.day_of_month
        and wall.month in cron.month_of_year
    )


def minutes(start: datetime, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += MINUTE


def by_brute_force(cron: crontab, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """All due times after `start` and before `end`, minute by minute."""
    tz = ZoneInfo(zone)
    if cron.hour == set(range(24)):
        due = {at for at in minutes(start, end) if matches(cron, at.astimezone(tz).replace(tzinfo=None))}
    else:
        margin = timedelta(hours=40)
        walls = minutes((start - margin).replace(tzinfo=None), (end + margin).replace(tzinfo=None))
        due = {wall.replace(tzinfo=tz).astimezone(UTC) for wall in walls if matches(cron, wall)}
    return sorted(at for at in due if start < at < end)


def by_search(cron: crontab, start: datetime, end: datetime) -> list[datetime]:
    found, at = [], cron.due_after(start)
    while at < end:
        found.append(at)
        at = cron.due_after(at)
    return found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "line",
    [
        "*/7 * * * *",
        "0 * * * *",
        "30 0 * * *",
        "0 0 * * *",
        "15 1 * * *",
        "30 2 * * *",
        "0 2,3 * * *",
        "*/20 1-3 * * *",
        "59 23 * * *",
        "*/30 0,23 * * *",
        "10 */2 * * sun",
    ],
)
def test_every_change_of_the_clock(zone: str, line: str) -> None:
    cron = plain(zone, **vars_of(line))
    for change in changes(zone):
        start, end = change - timedelta(hours=25), change + timedelta(hours=7)
        assert by_search(cron, start, end) == by_brute_force(cron, zone, start, end)


def vars_of(line: str) -> dict[str, str]:
    minute, hour, day_of_month, month_of_year, day_of_week = line.split()
    return {
        "minute": minute,
        "hour": hour,
        "day_of_month": day_of_month,
        "month_of_year": month_of_year,
        "day_of_week": day_of_week,
    }


def a_change(zone: str, number: int) -> datetime:
    """One of the changes; any moment for a zone that has none."""
    instants = changes(zone) or (datetime(2024, 3, 1, tzinfo=UTC),)
    return instants[number % len(instants)]


some = st.sets(st.integers(0, 59), min_size=1, max_size=4)
fields = st.fixed_dictionaries(
    {
        "minute": st.just("*") | some,
        "hour": st.just("*") | st.sets(st.integers(0, 23), min_size=1, max_size=6),
    },
    optional={
        "day_of_week": st.sets(st.integers(0, 6), min_size=1),
        "day_of_month": st.sets(st.integers(1, 31), min_size=10),
    },
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ZONES), st.integers(0, 99), st.integers(0, 60 * 30), fields)
def test_any_crontab_around_any_change(
    zone: str, number: int, before: int, given_fields: dict[str, Any]
) -> None:
    cron = plain(zone, **given_fields)
    change = a_change(zone, number)
    start, end = change - timedelta(minutes=before), change + timedelta(hours=30)
    assert by_search(cron, start, end) == by_brute_force(cron, zone, start, end)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ZONES), st.integers(0, 99), st.integers(), fields)
def test_however_often_one_looks_each_due_time_runs_once(
    zone: str, number: int, seed: int, given_fields: dict[str, Any]
) -> None:
    """Looks come at any moments less than a minute apart; what runs is every due time, none twice."""
    cron, chance = plain(zone, **given_fields), random.Random(seed)
    now = last = start = a_change(zone, number) - timedelta(hours=4)
    ran: list[datetime] = []
    while now < start + timedelta(hours=8):
        due, following = cron.is_due(last, now)
        assert following > 0
        if due:
            ran.append(cron.due_after(last))
            last = now
        now += timedelta(seconds=min(following, chance.uniform(0.001, 59)))
    passed = by_brute_force(cron, zone, start, now)
    assert ran in (passed, passed[:-1])  # the last may have come after the last look


def test_the_table_of_the_documentation() -> None:
    vienna = ZoneInfo("Europe/Vienna")

    def shown(line: str, year: int, month: int, day: int) -> list[str]:
        start = datetime(year, month, day, tzinfo=vienna).astimezone(UTC)
        found = by_search(plain("Europe/Vienna", **vars_of(line)), start, start + timedelta(hours=5))
        return [f"{at.astimezone(vienna):%H:%M%z}"[:8] for at in found]

    assert shown("30 2 * * *", 2024, 3, 31) == ["03:30+02"]
    assert shown("0 2,3 * * *", 2024, 3, 31) == ["03:00+02"]
    assert shown("*/30 * * * *", 2024, 3, 31)[1:5] == ["01:00+01", "01:30+01", "03:00+02", "03:30+02"]
    assert shown("30 2 * * *", 2024, 10, 27) == ["02:30+02"]
    assert shown("0 2,3 * * *", 2024, 10, 27) == ["02:00+02", "03:00+01"]
    assert shown("*/30 * * * *", 2024, 10, 27)[3:7] == ["02:00+02", "02:30+02", "02:00+01", "02:30+01"]


def test_a_day_that_does_not_exist_runs_on_the_next() -> None:
    cron = plain("Pacific/Apia", minute=0, hour=9, day_of_month=30)
    due = cron.due_after(datetime(2011, 12, 1, tzinfo=UTC))
    assert due.astimezone(ZoneInfo("Pacific/Apia")).isoformat() == "2011-12-31T09:00:00+14:00"
