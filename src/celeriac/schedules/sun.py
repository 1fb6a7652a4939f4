"""`solar`: due at an event of the sun at a place. The positions are computed here, by NOAA's solar equations;
they are right to about a minute between the polar circles, for the years 1900 to 2100."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import acos, asin, cos, degrees, radians, sin, tan
from typing import Any, Final, NamedTuple

from celeriac.schedules.base import BaseSchedule, schedstate
from celeriac.utils.time import utc

__all__ = ["solar"]


class _Event(NamedTuple):
    """`side`: -1 before noon, 1 after, 0 at noon. `altitude`: of the sun's centre, degrees."""

    side: int
    altitude: float


#: Half the sun's disc and the bending of light near the horizon.
_HORIZON: Final = -0.8333
_EVENTS: Final = {
    "dawn_astronomical": _Event(-1, -18),
    "dawn_nautical": _Event(-1, -12),
    "dawn_civil": _Event(-1, -6),
    "sunrise": _Event(-1, _HORIZON),
    "solar_noon": _Event(0, 0),
    "sunset": _Event(1, _HORIZON),
    "dusk_civil": _Event(1, -6),
    "dusk_nautical": _Event(1, -12),
    "dusk_astronomical": _Event(1, -18),
}
_J2000: Final = datetime(2000, 1, 1, 12, tzinfo=UTC)
_CENTURY: Final = timedelta(days=36525)


class solar(BaseSchedule):
    """Due at an event of the sun.

    Args:
        event: ``dawn_astronomical``, ``dawn_nautical``, ``dawn_civil``, ``sunrise``, ``solar_noon``,
            ``sunset``, ``dusk_civil``, ``dusk_nautical`` or ``dusk_astronomical``.
        lat: degrees north.
        lon: degrees east.
        nowfun: returns the current time; the app's clock by default.
        app: whose clock counts; the current app by default.

    Raises:
        ValueError: no such event or place.

    Example:
        >>> paris = solar("sunset", lat=48.86, lon=2.35)
        >>> paris.due_after(datetime(2030, 6, 21, tzinfo=UTC)).strftime("%H:%M")
        '19:57'
    """

    max_search_days: int = 366

    def __init__(self, event: str, lat: float, lon: float, **kwargs: Any) -> None:
        if event not in _EVENTS:
            raise ValueError(f"The sun has no event {event!r}; choose one of {', '.join(sorted(_EVENTS))}.")
        if not -90 <= lat <= 90:
            raise ValueError(f"Latitude {lat!r} is out of the range -90 (south) to 90 (north).")
        if not -180 <= lon <= 180:
            raise ValueError(f"Longitude {lon!r} is out of the range -180 (west) to 180 (east).")
        self.event = event
        self.lat = lat
        self.lon = lon
        super().__init__(**kwargs)

    def due_after(self, last_run_at: datetime) -> datetime:
        """The next event (UTC).

        Raises:
            ValueError: near a pole, when the event does not come within `max_search_days`.
        """
        after = utc(last_run_at)
        day = after.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        for number in range(self.max_search_days + 3):
            at = _at(_EVENTS[self.event], day + timedelta(days=number), self.lat, self.lon)
            if at is not None and at > after:
                return at
        raise ValueError(
            f"{self!r}: the event does not come within {self.max_search_days} days after {after:%Y-%m-%d}."
        )

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return self.due_after(last_run_at) - self.clock(None)

    def is_due(self, last_run_at: datetime, now: datetime | None = None) -> schedstate:
        now = self.clock(now)
        upcoming = self.due_after(last_run_at)
        if upcoming <= now:
            return schedstate(True, (self.due_after(now) - now).total_seconds())
        return schedstate(False, (upcoming - now).total_seconds())

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, solar):
            return (self.event, self.lat, self.lon) == (other.event, other.lat, other.lon)
        return NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.event, self.lat, self.lon)


def _at(event: _Event, day: datetime, lat: float, lon: float) -> datetime | None:
    """When `event` comes on the solar day of `day` (midnight UTC) at this place; None: it does not."""
    at = day + timedelta(minutes=720 - 4 * lon)
    for _ in range(4):  # each round takes the sun's place at the time the last one found
        declination, equation = _sun(at)
        noon = day + timedelta(minutes=720 - 4 * lon - equation)
        if event.side == 0:
            at = noon
            continue
        phi = radians(lat)
        cosine = (sin(radians(event.altitude)) - sin(phi) * sin(declination)) / (cos(phi) * cos(declination))
        if not -1 <= cosine <= 1:
            return None
        at = noon + timedelta(minutes=event.side * 4 * degrees(acos(cosine)))
    return at


def _sun(at: datetime) -> tuple[float, float]:
    """The sun's declination (radians), and the equation of time (minutes the sundial is ahead)."""
    t = (at - _J2000) / _CENTURY
    longitude = radians((280.46646 + t * (36000.76983 + t * 0.0003032)) % 360)
    anomaly = radians(357.52911 + t * (35999.05029 - 0.0001537 * t))
    eccentricity = 0.016708634 - t * (0.000042037 + 0.0000001267 * t)
    centre = (
        sin(anomaly) * (1.914602 - t * (0.004817 + 0.000014 * t))
        + sin(2 * anomaly) * (0.019993 - 0.000101 * t)
        + sin(3 * anomaly) * 0.000289
    )
    node = radians(125.04 - 1934.136 * t)
    apparent = longitude + radians(centre - 0.00569 - 0.00478 * sin(node))
    obliquity = radians(23.439291 - t * (0.013004 + t * (0.00000016 - 0.0000005 * t)) + 0.00256 * cos(node))
    declination = asin(sin(obliquity) * sin(apparent))
    y = tan(obliquity / 2) ** 2
    equation = (
        y * sin(2 * longitude)
        - 2 * eccentricity * sin(anomaly)
        + 4 * eccentricity * y * sin(anomaly) * cos(2 * longitude)
        - 0.5 * y * y * sin(4 * longitude)
        - 1.25 * eccentricity * eccentricity * sin(2 * anomaly)
    )
    return declination, 4 * degrees(equation)
