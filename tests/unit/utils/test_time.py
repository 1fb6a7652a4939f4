"""Time zones and durations."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.utils.time import (
    as_timezone,
    ffwd,
    humanize_seconds,
    local_timezone,
    maybe_make_aware,
    maybe_timedelta,
    utc,
)

VIENNA = ZoneInfo("Europe/Vienna")
NAIVE = datetime(2024, 1, 1, 12)


def test_zones_by_name() -> None:
    assert as_timezone("Europe/Vienna") is VIENNA
    assert as_timezone("utc") is UTC
    assert as_timezone(VIENNA) is VIENNA
    assert as_timezone("local") == local_timezone()


@pytest.mark.parametrize("name", ["Mars/Base", "", "../etc/passwd"])
def test_an_unknown_zone_is_said(name: str) -> None:
    with pytest.raises(ValueError, match=r"no time zone.*IANA"):
        as_timezone(name)


def test_a_zone_of_pytz_is_replaced() -> None:
    class Pytz(tzinfo):
        zone = "Europe/Vienna"

        def localize(self, dt: datetime) -> datetime: ...

    assert as_timezone(Pytz()) is VIENNA


def test_making_aware() -> None:
    assert maybe_make_aware(NAIVE) == NAIVE.replace(tzinfo=UTC)
    assert maybe_make_aware(NAIVE, VIENNA).hour == 13
    assert maybe_make_aware(NAIVE, VIENNA, naive_as_utc=False) == NAIVE.replace(tzinfo=VIENNA)
    aware = NAIVE.replace(tzinfo=timezone(timedelta(hours=5)))
    assert maybe_make_aware(aware, VIENNA) is aware
    assert utc(aware).isoformat() == "2024-01-01T07:00:00+00:00"


LOCAL = """
from datetime import UTC, datetime, timedelta
from celeriac.utils.time import local_timezone
from zoneinfo import ZoneInfo
local, vienna = local_timezone(), ZoneInfo("Europe/Vienna")
at = datetime(2024, 1, 1, tzinfo=UTC)
for _ in range(366 * 24):
    here, there = at.astimezone(local), at.astimezone(vienna)
    assert here.replace(tzinfo=None) == there.replace(tzinfo=None) and here.fold == there.fold, (here, there)
    assert here.utcoffset() == there.utcoffset() and here.tzname() == there.tzname()
    assert here.astimezone(UTC) == at
    at += timedelta(hours=1)
"""


def test_the_local_zone_knows_daylight_saving() -> None:
    subprocess.run([sys.executable, "-c", LOCAL], env={**os.environ, "TZ": "Europe/Vienna"}, check=True)


def test_the_local_zone_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(local_timezone())) == local_timezone()


@pytest.mark.parametrize(
    ("seconds", "words", "precise"),
    [
        (0, "now", "now"),
        (-5, "now", "now"),
        (0.0001, "now", "now"),
        (0.5, "now", "0.50 seconds"),
        (0.999, "1.00 second", "1.00 second"),
        (1.5, "1.50 seconds", "1.50 seconds"),
        (59.999, "1.00 minute", "1.00 minute"),
        (61, "1.02 minutes", "1.02 minutes"),
        (3600, "1.00 hour", "1.00 hour"),
        (86399, "24.00 hours", "24.00 hours"),
        (90000, "1.04 days", "1.04 days"),
    ],
)
def test_durations_in_words(seconds: float, words: str, precise: str) -> None:
    assert humanize_seconds(seconds) == words
    assert humanize_seconds(seconds, microseconds=True) == precise


def test_durations_in_words_with_words_around() -> None:
    assert humanize_seconds(90, prefix="in", sep=" ") == "in 1.50 minutes"
    assert humanize_seconds(0, prefix="in ", now="at once") == "at once"


def test_maybe_timedelta() -> None:
    assert maybe_timedelta(1.5) == timedelta(seconds=1.5)
    assert maybe_timedelta(timedelta(1)) == timedelta(1)
    assert maybe_timedelta("x") == "x"
    assert maybe_timedelta(None) is None


@pytest.mark.parametrize(
    ("step", "to"),
    [
        ({"month": 2, "day": 31}, "2024-02-29T10:20:30"),
        ({"year": 2023, "month": 2, "day": 29}, "2023-02-28T10:20:30"),
        ({"weeks": 2}, "2024-05-29T10:20:30"),
        ({"day": 1, "hour": 0}, "2024-05-01T00:20:30"),
        ({"weekday": 0}, "2024-05-20T10:20:30"),
        ({"weekday": 2}, "2024-05-15T10:20:30"),
        ({"weekday": 3, "hour": 1}, "2024-05-16T01:20:30"),
    ],
)
def test_steps(step: dict[str, Any], to: str) -> None:
    assert (datetime(2024, 5, 15, 10, 20, 30) + ffwd(**step)).isoformat() == to


def test_steps_of_dates() -> None:
    assert date(2024, 5, 15) + ffwd(day=31, month=2, hour=3) == date(2024, 2, 29)
    with pytest.raises(TypeError):
        5 + ffwd(day=1)  # type: ignore[operator]
    assert repr(ffwd(day=1, weeks=2)) == "ffwd(day=1, weeks=2)"


@given(st.datetimes(timezones=st.sampled_from([UTC, VIENNA])))
def test_utc_is_the_same_instant(dt: datetime) -> None:
    try:
        assert utc(dt).timestamp() == dt.timestamp()
    except OverflowError:  # the first and last day of the calendar
        assert dt.year in (1, 9999)
