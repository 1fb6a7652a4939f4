"""solar, against times of an almanac (PyEphem) for a few places."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest

from celeriac.schedules import solar

START = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event", "lat", "lon", "start", "almanac"),
    [
        ("sunrise", 48.21, 16.37, "2024-06-21T00:00Z", "2024-06-21T02:54:04Z"),
        ("sunset", 48.21, 16.37, "2024-06-21T00:00Z", "2024-06-21T18:58:46Z"),
        ("sunset", -33.87, 151.21, "2024-12-21T00:00Z", "2024-12-21T09:05:39Z"),
        ("solar_noon", 40.71, -74.01, "2025-03-20T00:00Z", "2025-03-20T17:03:20Z"),
        ("dawn_civil", 59.33, 18.07, "2024-01-10T00:00Z", "2024-01-10T06:44:45Z"),
        ("dusk_nautical", -54.8, -68.3, "2024-07-01T00:00Z", "2024-07-01T21:48:38Z"),
        ("dawn_astronomical", 0.0, 0.0, "2030-09-23T00:00Z", "2030-09-23T04:40:27Z"),
        ("dusk_astronomical", 19.43, -99.13, "2019-02-14T00:00Z", "2019-02-14T01:49:33Z"),
        ("dusk_civil", 64.15, -21.94, "2024-03-01T00:00Z", "2024-03-01T19:35:43Z"),
        ("dawn_nautical", 35.68, 139.69, "2026-11-05T00:00Z", "2026-11-05T20:10:37Z"),
    ],
)
def test_events(event: str, lat: float, lon: float, start: str, almanac: str) -> None:
    found = solar(event, lat, lon).due_after(datetime.fromisoformat(start))
    assert abs(found - datetime.fromisoformat(almanac)) < timedelta(seconds=60)


def test_each_event_comes_once_a_day() -> None:
    sunset = solar("sunset", 48.2, 16.4)
    at = sunset.due_after(START)
    for _ in range(400):
        following = sunset.due_after(at)
        assert timedelta(hours=23, minutes=50) < following - at < timedelta(hours=24, minutes=10)
        at = following


def test_is_due() -> None:
    sunset = solar("sunset", 48.2, 16.4)
    at = sunset.due_after(START)
    assert sunset.is_due(START, at - timedelta(seconds=1)) == (False, 1.0)
    due, following = sunset.is_due(START, at + timedelta(minutes=1))
    assert due
    assert 23.5 * 3600 < following < 24 * 3600


def test_the_midnight_sun_has_no_sunset_until_august() -> None:
    assert solar("sunset", 78.2, 15.6).due_after(START).month == 8


def test_what_never_comes_is_said() -> None:
    with pytest.raises(ValueError, match="does not come within 366 days"):
        solar("sunset", 90, 0).due_after(START)


@pytest.mark.parametrize(
    ("event", "lat", "lon", "complaint"),
    [("noon", 0, 0, "no event 'noon'"), ("sunset", 91, 0, "Latitude"), ("sunset", 0, 181, "Longitude")],
)
def test_refuses(event: str, lat: float, lon: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        solar(event, lat, lon)


def test_words_and_pickling() -> None:
    noon = solar("solar_noon", 1.5, -2.5)
    assert repr(noon) == "<solar: solar_noon at latitude 1.5, longitude: -2.5>"
    assert pickle.loads(pickle.dumps(noon)) == noon
