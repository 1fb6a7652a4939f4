"""Time zones, aware datetimes, and a few words for durations. A leaf: standard library only.

1. `as_timezone`, `local_timezone`: from a name (or nothing) to a tzinfo that knows daylight saving.
2. `maybe_make_aware`, `utc`: naive datetimes get the zone they are in; everything is compared in UTC, because
   Python subtracts two datetimes of one zone by the hands of the clock and forgets daylight saving.
3. `maybe_timedelta`, `humanize_seconds`, `ffwd`: for code that was written against Celery.
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = [
    "as_timezone",
    "ffwd",
    "humanize_seconds",
    "local_timezone",
    "maybe_make_aware",
    "maybe_timedelta",
    "utc",
]

_T = TypeVar("_T")

_UNITS: Final = (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0))


class LocalTimezone(tzinfo):
    """The zone of this machine, as the C library knows it."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        if dt is None:
            return None
        return dt.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        if dt is None:
            return None
        return dt.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, dt: datetime) -> datetime:
        local = dt.replace(tzinfo=UTC).astimezone()
        wall = local.replace(tzinfo=self)
        return wall if wall.utcoffset() == local.utcoffset() else wall.replace(fold=1)

    def __repr__(self) -> str:
        return "<LocalTimezone>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalTimezone)

    def __hash__(self) -> int:
        return hash(LocalTimezone)

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalTimezone, ()


def local_timezone() -> tzinfo:
    """The zone of this machine; past and future offsets follow its rules."""
    return LocalTimezone()


def as_timezone(zone: str | tzinfo) -> tzinfo:
    """Return a zone that can be used with plain `datetime` arithmetic.

    Args:
        zone: an IANA name (``Europe/Vienna``), ``UTC``, ``local``, or a tzinfo. A zone of pytz is replaced by
            the standard library's, because pytz's cannot be given to a datetime.

    Raises:
        ValueError: there is no zone of that name on this machine.

    Example:
        >>> as_timezone("Europe/Vienna")
        zoneinfo.ZoneInfo(key='Europe/Vienna')
    """
    if isinstance(zone, tzinfo):
        name = getattr(zone, "zone", None)
        return as_timezone(name) if isinstance(name, str) and hasattr(zone, "localize") else zone
    if zone.lower() == "local":
        return local_timezone()
    if zone.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, OSError, ValueError) as exc:
        raise ValueError(
            f"There is no time zone {zone!r} on this machine. Write an IANA name such as 'Europe/Vienna'; "
            "if the name is right, the zone database is missing: pip install tzdata."
        ) from exc


def maybe_make_aware(dt: datetime, tz: tzinfo | None = None, naive_as_utc: bool = True) -> datetime:
    """Return `dt` as an aware datetime.

    Args:
        dt: any datetime.
        tz: the zone wanted. A naive `dt` ends up in it; an aware one is left as it is.
        naive_as_utc: a naive `dt` is in UTC; otherwise it is in `tz`.

    Example:
        >>> maybe_make_aware(datetime(2030, 1, 1), ZoneInfo("Europe/Vienna")).isoformat()
        '2030-01-01T01:00:00+01:00'
    """
    if dt.tzinfo is not None and dt.utcoffset() is not None:
        return dt
    if not naive_as_utc and tz is not None:
        return dt.replace(tzinfo=tz)
    aware = dt.replace(tzinfo=UTC)
    return aware if tz is None else aware.astimezone(tz)


def utc(dt: datetime) -> datetime:
    """Return the instant of `dt` in UTC; a naive `dt` is in UTC already."""
    return maybe_make_aware(dt).astimezone(UTC)


def maybe_timedelta(delta: _T) -> _T | timedelta:
    """Return a timedelta for a number of seconds, anything else unchanged.

    Example:
        >>> maybe_timedelta(90)
        datetime.timedelta(seconds=90)
    """
    if isinstance(delta, (int, float)):
        return timedelta(seconds=delta)
    return delta


def humanize_seconds(
    secs: float, prefix: str = "", sep: str = "", now: str = "now", microseconds: bool = False
) -> str:
    """Return seconds in the largest unit that fits, with two decimals.

    Args:
        secs: seconds.
        prefix: put before the number, when there is one.
        sep: put between the prefix and the number.
        now: returned for less than a second.
        microseconds: say fractions of a second too.

    Example:
        >>> humanize_seconds(90, prefix="in "), humanize_seconds(0)
        ('in 1.50 minutes', 'now')
    """
    rounded = round(secs, 2)
    for unit, divisor in _UNITS:
        if rounded >= divisor:
            number = f"{rounded / divisor:.2f}"
            return f"{prefix}{sep}{number} {unit}{'' if number == '1.00' else 's'}"
    if microseconds and rounded > 0:
        return f"{prefix}{sep}{rounded:.2f} seconds"
    return now


class ffwd:
    """A step from one datetime to another: some fields are set, then weeks or days are added.

    The day is cut to the length of the month. Add it to a datetime from the right.

    Example:
        >>> datetime(2024, 1, 31, 9) + ffwd(month=2, day=31, hour=0)
        datetime.datetime(2024, 2, 29, 0, 0)
    """

    def __init__(
        self,
        year: int | None = None,
        month: int | None = None,
        weeks: int = 0,
        weekday: int | None = None,
        day: int | None = None,
        hour: int | None = None,
        minute: int | None = None,
        second: int | None = None,
        microsecond: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.year = year
        self.month = month
        self.weeks = weeks
        self.weekday = weekday
        self.day = day
        self.hour = hour
        self.minute = minute
        self.second = second
        self.microsecond = microsecond
        self.days = weeks * 7

    def _set(self) -> dict[str, int]:
        fields = ("year", "month", "day", "hour", "minute", "second", "microsecond")
        return {name: value for name in fields if (value := getattr(self, name)) is not None}

    def __repr__(self) -> str:
        weeks = {"weeks": self.weeks} if self.weeks else {}
        return f"ffwd({', '.join(f'{name}={value}' for name, value in {**self._set(), **weeks}.items())})"

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, date):
            return NotImplemented
        wanted = self._set()
        year, month = wanted.get("year", other.year), wanted.get("month", other.month)
        wanted["day"] = min(calendar.monthrange(year, month)[1], wanted.get("day", other.day))
        if not isinstance(other, datetime):
            wanted = {name: wanted[name] for name in ("year", "month", "day") if name in wanted}
        moved = other.replace(**wanted) + timedelta(days=self.days)
        if self.weekday is not None:
            moved += timedelta(days=(self.weekday - moved.weekday()) % 7)
        return moved
