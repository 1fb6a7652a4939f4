"""`worker.outage`: pauses grow, the log is not flooded."""

from __future__ import annotations

import logging

import pytest

from celeriac.exceptions import OperationalError
from celeriac.worker import outage as module
from celeriac.worker.outage import PAUSE, Outage


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_an_hour_without_broker_says_little(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    told: list[bool] = []
    outage = Outage("Broker lost", told.append)
    with caplog.at_level(logging.WARNING):
        outage.over()
        while clock[0] < 3700:
            outage.failed(OperationalError("nobody there"))
            clock[0] += outage.pause()
        outage.over()
        outage.over()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "Broker lost: nobody there; trying again until it is back."
    assert lines[-1].endswith("s; it is back.")
    assert 8 <= len(lines) <= 22
    assert told == [True, False]


def test_pauses_double_up_to_two_seconds_with_jitter(clock: list[float]) -> None:
    outage = Outage("Broker lost")
    for _ in range(2):  # the second outage begins as small as the first
        outage.failed(OperationalError("x"))
        pauses = [outage.pause() for _ in range(12)]
        assert PAUSE[0] / 2 <= pauses[0] <= PAUSE[0]
        assert all(PAUSE[1] / 2 <= pause <= PAUSE[1] for pause in pauses[6:])
        assert len({round(pause, 6) for pause in pauses[6:]}) == 6
        outage.over()
