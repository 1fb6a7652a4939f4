"""Service and run: the loop in real time, and how it is stopped."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac, beat, signals
from celeriac.beat import PersistentScheduler, Scheduler, Service
from celeriac.beat.stop import StopPipe
from celeriac.exceptions import ImproperlyConfigured

from .conftest import Sent


@pytest.fixture
def app(app: Celeriac, tmp_path: Path) -> Celeriac:
    app.conf.beat_schedule_filename = str(tmp_path / "schedule")
    app.conf.beat_schedule = {"x": {"task": "t.x", "schedule": 0.05}}
    return app


def eventually(condition: Any, within: float = 30.0) -> None:
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.005)


@contextmanager
def running(target: Any, **kwargs: Any) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=target, kwargs=kwargs)
    thread.start()
    yield thread
    thread.join(10)
    assert not thread.is_alive()


def test_it_runs_until_stopped_and_writes_everything_down(app: Celeriac, sent: Sent) -> None:
    service = Service(app)
    with running(service.start):
        eventually(lambda: len(sent()) >= 5)
        service.stop(wait=True)
    count = len(sent())
    again = Service(app)
    assert again.scheduler.schedule["x"].total_run_count == count
    again.sync()


@pytest.mark.parametrize("kind", ["event", "descriptor", "closed descriptor"])
def test_run_stops_when_told(app: Celeriac, sent: Sent, kind: str) -> None:
    event, (read, write) = threading.Event(), os.pipe()
    app.conf.beat_schedule = {"x": {"task": "t.x", "schedule": 3600}}
    begun = threading.Event()
    receiver = signals.beat_init.connect(lambda **_: begun.set(), weak=False)
    try:
        with running(lambda: beat.run(app, stop=event if kind == "event" else read)):
            assert begun.wait(10)
            asked = time.monotonic()
            if kind == "event":
                event.set()
            elif kind == "descriptor":
                os.write(write, b"x")
            else:
                os.close(write)
        assert time.monotonic() - asked < 10
    finally:
        signals.beat_init.disconnect(receiver)
        os.close(read)
        if kind != "closed descriptor":
            os.close(write)


def test_a_stop_pipe_may_be_set_any_number_of_times() -> None:
    stop = StopPipe()
    assert not stop.is_set()
    for _ in range(70_000):
        stop.set()
    assert stop.is_set()
    assert stop.wait(60)


def test_a_scheduler_that_fails_is_asked_again(
    app: Celeriac, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Flaky(Scheduler):
        ticks = 0

        def tick(self) -> float:
            type(self).ticks += 1
            if self.ticks == 1:
                raise LookupError("the database went away")
            return 60.0

    monkeypatch.setattr("celeriac.beat.service._RECOVERY", 0.05)
    service = Service(app, scheduler_cls=Flaky)
    with caplog.at_level(logging.ERROR), running(service.start):
        eventually(lambda: Flaky.ticks == 2)
        service.stop()
    assert "the database went away" in caplog.text


def test_a_clock_that_is_set_is_noticed_within_a_second(
    app: Celeriac, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    real = time.time
    app.conf.beat_schedule = {"x": {"task": "t.x", "schedule": 3600}}
    moved = threading.Event()
    service = Service(app)
    monkeypatch.setattr(service.scheduler, "clock_moved", moved.set)
    monkeypatch.setattr("celeriac.beat.service.time.time", lambda: real() + ahead)
    with running(service.start):
        ahead = 3 * 3600.0
        assert moved.wait(20)
        service.stop()
    assert "The clock moved by +10800" in caplog.text


def test_the_signals_of_beat(app: Celeriac) -> None:
    seen: list[tuple[str, Any]] = []

    def init(sender: Any, **named: Any) -> None:
        seen.append(("init", sender))

    def embedded(sender: Any, **named: Any) -> None:
        seen.append(("embedded", sender))

    signals.beat_init.connect(init)
    signals.beat_embedded_init.connect(embedded)
    for flag in (False, True):
        service = Service(app)
        service.stop()
        service.start(embedded_process=flag)
    kinds = [kind for kind, _ in seen]
    assert kinds == ["init", "init", "embedded"]
    assert seen[-1][1] is service


@pytest.mark.parametrize(
    "spec", ["celery.beat:PersistentScheduler", "celeriac.beat.PersistentScheduler", None]
)
def test_the_scheduler_class_by_name(app: Celeriac, spec: str | None) -> None:
    service = Service(app, scheduler_cls=spec)
    assert type(service.scheduler) is PersistentScheduler
    service.sync()


def test_an_unknown_scheduler_is_refused(app: Celeriac) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"nowhere.*module:Class"):
        Service(app, scheduler_cls="nowhere:Scheduler").get_scheduler()


def test_two_services_cannot_have_one_file(app: Celeriac, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Service(app)
    assert first.scheduler.info
    monkeypatch.setattr("celeriac.beat.store.PATIENCE", 0.1)
    with pytest.raises(ImproperlyConfigured, match="in use"):
        Service(app).start()
    first.sync()


def test_max_interval(app: Celeriac) -> None:
    app.conf.beat_max_loop_interval = 7
    for service, expected in ((Service(app), 7), (Service(app, max_interval=3), 3)):
        assert service.scheduler.max_interval == expected
        service.sync()
