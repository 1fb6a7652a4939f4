"""The next due time of a crontab, daylight saving included. Pure.

Two kinds of crontab, told apart by the hour field:

- **It names hours.** Each matching time on the wall is due once: at its first occurrence when the clock is
  set back and shows it twice; as if the clock had not yet been set forward when it is skipped (02:30 becomes
  03:30). A daily job runs every day, and once.
- **Every hour** (``*``, or all 24). It follows the hours that pass, not the ones that are shown: due in
  every minute that shows a match. A repeated hour runs twice; nothing is made up for a skipped one.

| Vienna | clock | ``30 2 * * *`` | ``0 2,3 * * *`` | ``*/30 * * * *`` |
|---|---|---|---|---|
| 31 March 2024 | 02:00 → 03:00 | 03:30 (+02) | 03:00, once | 01:30, 03:00, 03:30 |
| 27 October 2024 | 03:00 → 02:00 | 02:30 (+02), once | 02:00 (+02), 03:00 | 02:00, 02:30, 02:00, 02:30 |
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["Fields", "next_after"]

_DAY: Final = timedelta(days=1)
#: Years after which a day that exists has come: 29 February on one day of the week can take 40.
_HORIZON: Final = 41


class Fields(NamedTuple):
    """What matches: sorted values; `weekdays` counts from Sunday = 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    weekdays: frozenset[int]
    days: tuple[int, ...]
    months: tuple[int, ...]

    @property
    def every_hour(self) -> bool:
        return len(self.hours) == 24


def next_after(fields: Fields, after: datetime, zone: tzinfo) -> datetime:
    """Return the first due time later than `after`, in UTC.

    Args:
        fields: what matches.
        after: an aware datetime.
        zone: whose clock on the wall counts.

    Raises:
        ValueError: there is none (30 February).

    Example:
        >>> fields = Fields((0,), (9,), frozenset(range(7)), tuple(range(1, 32)), tuple(range(1, 13)))
        >>> next_after(fields, datetime(2030, 1, 1, 9, tzinfo=UTC), UTC).isoformat()
        '2030-01-02T09:00:00+00:00'
    """
    after = after.astimezone(UTC)
    # A skipped time may fall on the next day on the wall, so yesterday's times can still be due, and the day
    # after a hit can hold an earlier one.
    found: datetime | None = None
    found_on = date.max
    for day in _days(fields, after.astimezone(zone).date() - _DAY):
        if found is not None and day - found_on > _DAY:
            break
        candidate = _first_on(fields, day, zone, after)
        if candidate is not None:
            found_on = day if found is None else found_on
            found = candidate if found is None else min(found, candidate)
    if found is None:
        raise ValueError(f"No day matches days {list(fields.days)} of months {list(fields.months)}.")
    return found


def _days(fields: Fields, start: date) -> Iterator[date]:
    """Matching days from `start` on."""
    for year in range(start.year, min(start.year + _HORIZON, date.max.year)):
        for month in fields.months:
            if (year, month) < (start.year, start.month):
                continue
            for number in fields.days:
                try:
                    day = date(year, month, number)
                except ValueError:  # this month is shorter
                    break
                if day >= start and day.isoweekday() % 7 in fields.weekdays:
                    yield day


def _first_on(fields: Fields, day: date, zone: tzinfo, after: datetime) -> datetime | None:
    """The first due time of a day on the wall that is later than `after`."""
    midnight = datetime.combine(day, time())
    offset = _offset(midnight, zone)
    # fold: a clock that is set back just after midnight shows the end of this day once more.
    if offset == _offset((midnight + _DAY).replace(fold=1), zone):
        wall = _first_shown(fields, day, after.replace(tzinfo=None) + offset)
        return None if wall is None else (wall - offset).replace(tzinfo=UTC)
    instants = _all_on(fields, day, zone)
    position = bisect_right(instants, after)
    return instants[position] if position < len(instants) else None


def _first_shown(fields: Fields, day: date, after: datetime) -> datetime | None:
    """The first matching time later than `after`, both on the wall, on a day of 24 hours."""
    if after.date() > day:
        return None
    at = (after.hour, after.minute) if after.date() == day else (-1, -1)
    for hour in fields.hours:
        if hour >= at[0]:
            for minute in fields.minutes:
                if (hour, minute) > at:
                    return datetime.combine(day, time(hour, minute))
    return None


@lru_cache(maxsize=64)
def _all_on(fields: Fields, day: date, zone: tzinfo) -> list[datetime]:
    """All due times of a day on which the clock is changed, in order."""
    return sorted(_instants(fields, day, zone))


def _instants(fields: Fields, day: date, zone: tzinfo) -> Iterator[datetime]:
    for hour in fields.hours:
        for minute in fields.minutes:
            wall = datetime.combine(day, time(hour, minute))
            if not fields.every_hour:
                yield _instant(wall, zone)
                continue
            for fold in (0, 1):
                instant = _instant(wall.replace(fold=fold), zone)
                if instant.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
                    yield instant


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    return (wall.replace(fold=0) - _offset(wall, zone)).replace(tzinfo=UTC)


def _offset(wall: datetime, zone: tzinfo) -> timedelta:
    return wall.replace(tzinfo=zone).utcoffset() or timedelta(0)
