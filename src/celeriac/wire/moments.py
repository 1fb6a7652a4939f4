"""Points in time as messages state them.

1. `epoch`: what a header holds (ISO 8601 text or a number) as epoch seconds.
2. `moment`: what a caller passes (a datetime, ISO text, seconds from now) as an aware datetime.
3. `headers`: what a caller passes as what messages state.

Text and datetimes without a zone are UTC. The years 1970 to 9998 are understood: beyond them, a change of
zone leaves what Python can count.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

__all__ = ["epoch", "headers", "moment", "now"]

#: The first instant of the year 9999.
_END: Final = 253370764800.0


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def epoch(value: Any, *, local: bool = False) -> float:
    """Return epoch seconds.

    Args:
        value: ISO 8601 text, with or without a zone; or epoch seconds.
        local: text without a zone is this machine's local time (protocol 1 with ``utc`` false).

    Raises:
        ValueError: it is neither, or lies outside the years 1970 to 9998.

    Example:
        >>> epoch("1970-01-01T01:00:00+00:00"), epoch("1970-01-01T01:00:00"), epoch(3600)
        (3600.0, 3600.0, 3600.0)
    """
    if isinstance(value, str):
        stamp = datetime.fromisoformat(value)
        seconds = _seconds(stamp if local or stamp.tzinfo else stamp.replace(tzinfo=UTC))
    elif isinstance(value, datetime):  # pickle and YAML bring them as they are
        seconds = _seconds(value if value.tzinfo else value.replace(tzinfo=UTC))
    elif type(value) is int or type(value) is float:
        seconds = _number(value)
    else:
        raise ValueError("it must be ISO 8601 text or epoch seconds")
    if not 0.0 <= seconds < _END:
        raise ValueError("it lies outside the years 1970 to 9998")
    return seconds


def _seconds(stamp: datetime) -> float:
    try:
        return stamp.timestamp()
    except (OverflowError, OSError) as exc:
        raise ValueError("it lies outside the years 1970 to 9998") from exc


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError as exc:
        raise ValueError("it lies outside the years 1970 to 9998") from exc


def moment(value: datetime | str | float, start: datetime) -> datetime:
    """Return an aware datetime.

    Args:
        value: a datetime, ISO 8601 text, or seconds after `start`.
        start: the present.

    Raises:
        ValueError: it is none of these, or lies outside the years 1970 to 9998.
    """
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        stamp = value if value.tzinfo else value.replace(tzinfo=UTC)
    else:
        try:
            stamp = start + timedelta(seconds=value)
        except (OverflowError, TypeError) as exc:
            raise ValueError(f"{value!r:.80} is not a number of seconds that can be added to now") from exc
    if not 0.0 <= _seconds(stamp) < _END:
        raise ValueError(f"{stamp} lies outside the years 1970 to 9998")
    return stamp


def headers(
    countdown: float | None,
    eta: datetime | str | None,
    expires: datetime | str | float | None,
    present: datetime,
) -> tuple[str | None, str | None, str | None]:
    """Return the headers eta and expires, and the property expiration (milliseconds from now, as text).

    Raises:
        ValueError: as `moment` does.
    """
    if countdown is not None:
        start: str | None = moment(countdown, present).isoformat()
    else:
        start = None if eta is None else moment(eta, present).isoformat()
    if expires is None:
        return start, None, None
    end = moment(expires, present)
    left = int((end - present).total_seconds() * 1000)
    return start, end.isoformat(), str(max(0, left))
