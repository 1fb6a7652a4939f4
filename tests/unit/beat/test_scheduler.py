"""Scheduler: what is sent, when, and what happens when sending fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine

from celeriac import Celeriac
from celeriac.beat import PersistentScheduler, ScheduleEntry, Scheduler, SchedulingError
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.schedules import BaseSchedule, crontab, schedule

from .conftest import START, Sent


def scheduled(app: Celeriac, **entries: Any) -> Scheduler:
    app.conf.beat_schedule = {
        name: {"task": f"t.{name}", **(entry if isinstance(entry, dict) else {"schedule": entry})}
        for name, entry in entries.items()
    }
    return Scheduler(app)


def run_for(scheduler: Scheduler, clock: time_machine.Coordinates, seconds: float) -> None:
    """Live through `seconds`, sleeping as long as `tick` says."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    for _ in range(1_000_000):
        pause = scheduler.tick()
        left = (until - datetime.now(UTC)).total_seconds()
        if pause >= left:
            clock.shift(max(0.0, left))
            return
        clock.shift(pause)
    raise AssertionError("the scheduler never rests")


def names(sent: Sequence[tuple[str, str]]) -> list[str]:
    return [task for task, _ in sent]


def test_nothing_to_do(app: Celeriac) -> None:
    assert scheduled(app).tick() == 300


def test_each_due_time_is_sent_once(app: Celeriac, clock: time_machine.Coordinates, sent: Sent) -> None:
    scheduler = scheduled(app, ten=10.0, minute=crontab(), quarter=crontab(minute="*/15"))
    run_for(scheduler, clock, 3600.5)
    found = names(sent())
    assert {name: found.count(name) for name in found} == {"t.ten": 360, "t.minute": 60, "t.quarter": 4}
    assert len({id for _, id in sent()}) == len(found)
    assert scheduler.schedule["ten"].total_run_count == 360


def test_a_day_of_ticks_through_both_changes_of_the_clock(
    app: Celeriac, clock: time_machine.Coordinates, sent: Sent
) -> None:
    app.conf.timezone = "Europe/Vienna"
    for day, hourly in ((31, 23), (27, 25)):
        month = 3 if day == 31 else 10
        app.broker.purge("celery")
        clock.move_to(datetime(2024, month, day, tzinfo=ZoneInfo("Europe/Vienna")) - timedelta(seconds=30))
        run_for(
            scheduled(app, daily=crontab(minute=30, hour=2), hourly=crontab(minute=0)), clock, 3600 * hourly
        )
        found = names(sent())
        assert (found.count("t.daily"), found.count("t.hourly")) == (1, hourly)


def test_what_was_missed_is_sent_once(app: Celeriac, clock: time_machine.Coordinates, sent: Sent) -> None:
    scheduler = scheduled(app, ten=10.0, minute=crontab())
    clock.shift(3 * 3600)
    scheduler.tick()
    assert sorted(names(sent())) == ["t.minute", "t.ten"]


def test_a_clock_set_back_by_a_little_sends_nothing_twice(
    app: Celeriac, clock: time_machine.Coordinates, sent: Sent
) -> None:
    scheduler = scheduled(app, hourly=crontab(minute=0))
    run_for(scheduler, clock, 3601)
    assert len(sent()) == 1
    clock.shift(-90)
    scheduler.clock_moved()
    run_for(scheduler, clock, 3000)
    assert len(sent()) == 1
    run_for(scheduler, clock, 700)
    assert len(sent()) == 2


def test_a_clock_set_back_by_a_year_stops_nothing(
    app: Celeriac, clock: time_machine.Coordinates, sent: Sent
) -> None:
    scheduler = scheduled(app, ten=10.0, minute=crontab())
    run_for(scheduler, clock, 61)
    clock.shift(-timedelta(days=365))
    scheduler.clock_moved()
    before = len(sent())
    run_for(scheduler, clock, 60.5)
    assert sorted(names(sent()[before:])) == ["t.minute", *["t.ten"] * 6]


def test_options_arguments_and_names_travel(app: Celeriac, clock: time_machine.Coordinates) -> None:
    scheduler = scheduled(
        app,
        x={
            "schedule": 10,
            "args": (1, "two"),
            "kwargs": {"three": 3},
            "options": {"queue": "q", "headers": {"h": 1}},
        },
    )
    run_for(scheduler, clock, 10.5)
    (message,) = app.broker.browse("q", 10)
    assert message.headers["task"] == "t.x"  # type: ignore[union-attr]
    assert message.headers["h"] == 1  # type: ignore[union-attr]
    assert b'[[1, "two"], {"three": 3}' in message.body  # type: ignore[union-attr]


def test_a_known_task_is_sent_with_its_own_options(app: Celeriac, clock: time_machine.Coordinates) -> None:
    @app.task(name="t.known", queue="own")
    def known() -> None: ...

    run_for(scheduled(app, known=10.0), clock, 10.5)
    assert len(app.broker.browse("own", 10)) == 1


def test_an_id_of_ones_own_is_kept(app: Celeriac, clock: time_machine.Coordinates, sent: Sent) -> None:
    run_for(scheduled(app, x={"schedule": 10, "options": {"task_id": "mine"}}), clock, 10.5)
    assert sent() == [("t.x", "mine")]


def test_add_periodic_task_and_entries_added_while_running(
    app: Celeriac, clock: time_machine.Coordinates, sent: Sent
) -> None:
    @app.task(name="t.periodic")
    def periodic(n: int) -> None: ...

    app.add_periodic_task(10.0, periodic.s(1), name="p")
    scheduler = Scheduler(app)
    run_for(scheduler, clock, 10.5)
    assert names(sent()) == ["t.periodic"]
    scheduler.add(name="late", task="t.late", schedule=schedule(5))
    run_for(scheduler, clock, 6)
    assert "t.late" in names(sent())
    del scheduler.schedule["late"]
    run_for(scheduler, clock, 60)
    assert names(sent()).count("t.late") == 1


def test_relative_entries_are_due_at_full_units(
    app: Celeriac, clock: time_machine.Coordinates, sent: Sent
) -> None:
    clock.shift(17)
    scheduler = scheduled(app, x={"schedule": timedelta(minutes=1), "relative": True})
    assert scheduler.tick() == 43.0


def test_a_broker_that_is_away_delays_and_loses_nothing(
    app: Celeriac,
    clock: time_machine.Coordinates,
    sent: Sent,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody_there(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("nobody there")

    scheduler = scheduled(app, minute=crontab(), other=crontab())
    with monkeypatch.context() as away, caplog.at_level(logging.ERROR):
        away.setattr(app.broker, "publish", nobody_there)
        run_for(scheduler, clock, 150)
    assert sent() == []
    assert "Entry 'minute' stays due" in caplog.text or "Entry 'other' stays due" in caplog.text
    assert 5 <= caplog.text.count("Cannot reach the broker") <= 12  # pauses grow to half a minute
    run_for(scheduler, clock, 29)
    assert sorted(names(sent())) == ["t.minute", "t.other"]


def test_what_can_never_be_sent_is_logged_and_the_others_go_on(
    app: Celeriac, clock: time_machine.Coordinates, sent: Sent, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = scheduled(app, bad={"schedule": 10, "args": (object(),)}, good=10.0)
    with caplog.at_level(logging.ERROR):
        run_for(scheduler, clock, 21)
    assert names(sent()) == ["t.good", "t.good"]
    assert caplog.text.count("Entry 'bad' was not sent") == 2
    with pytest.raises(SchedulingError, match="'bad'"):
        scheduler.apply_async(scheduler.schedule["bad"])


class Broken(BaseSchedule):
    def is_due(self, last_run_at: datetime, now: datetime | None = None) -> tuple[bool, float]:
        raise LookupError("no idea")


def test_a_schedule_that_fails_stops_no_other(
    app: Celeriac, clock: time_machine.Coordinates, sent: Sent, caplog: pytest.LogCaptureFixture
) -> None:
    run_for(scheduled(app, broken=Broken(), good=10.0), clock, 21)
    assert names(sent()) == ["t.good", "t.good"]
    assert "Entry 'broken' cannot say when it is due" in caplog.text


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"schedule": 10}, r"beat_schedule\['x'\] lacks 'task'"),
        ({"task": "t"}, "lacks 'schedule'"),
        ({"task": "t", "schedule": 10, "queue": "q"}, "no key 'queue'.*go into 'options'"),
        ("t", "must be a dictionary"),
        ({"task": "t", "schedule": "* * * * *"}, "schedule"),
        ({"task": "t", "schedule": 0}, "schedule"),
    ],
)
def test_mistakes_in_the_schedule_are_said_at_the_start(app: Celeriac, entry: Any, complaint: str) -> None:
    app.conf.beat_schedule = {"x": entry}
    with pytest.raises(ImproperlyConfigured, match=complaint):
        Scheduler(app)


def test_a_subclass_sees_what_celerys_subclasses_rely_on(
    app: Celeriac, clock: time_machine.Coordinates, sent: Sent
) -> None:
    """As django-celery-beat does: entries from elsewhere, `reserve` marks them, the schedule is exchanged."""

    class Row(ScheduleEntry):
        pass

    class Rows(Scheduler):
        Entry = Row
        dirty: list[str]
        rows: dict[str, Any]
        changed = False

        def setup_schedule(self) -> None:
            self.dirty = []
            self.rows = {}
            self.update_from_dict({"a": {"task": "t.a", "schedule": 10.0}})

        @property
        def schedule(self) -> Any:
            if self.changed:
                self.changed = False
                self.rows = {"b": self._maybe_entry("b", {"task": "t.b", "schedule": 10.0})}
                self._heap = []
            return self.rows

        def reserve(self, entry: ScheduleEntry) -> ScheduleEntry:
            following = super().reserve(entry)
            self.dirty.append(str(following.name))
            return following

    scheduler = Rows(app=app, max_interval=5)
    assert scheduler.tick() == 5
    run_for(scheduler, clock, 10.5)
    scheduler.changed = True
    run_for(scheduler, clock, 10.5)
    assert names(sent()) == ["t.a", "t.b"]
    assert scheduler.dirty == ["a", "b"]
    assert isinstance(scheduler.schedule["b"], Row)


def persistent(app: Celeriac, path: Any) -> PersistentScheduler:
    return PersistentScheduler(app, schedule_filename=str(path))


def test_a_restart_goes_on_where_it_stopped(
    app: Celeriac, clock: time_machine.Coordinates, sent: Sent, tmp_path: Any
) -> None:
    path = tmp_path / "schedule"
    app.conf.beat_schedule = {"hourly": {"task": "t.hourly", "schedule": 3600.0}}
    first = persistent(app, path)
    run_for(first, clock, 3600.5)
    first.close()
    clock.shift(1800)
    second = persistent(app, path)
    assert second.schedule["hourly"].total_run_count == 1
    assert second.tick() == pytest.approx(300)
    assert second.schedule["hourly"].is_due()[1] == pytest.approx(1799.5)
    second.close()
    clock.shift(7200)
    third = persistent(app, path)
    third.tick()
    assert len(sent()) == 2  # two were missed, one is made up for
    third.close()


def test_an_entry_is_due_in_the_end_however_often_beat_is_killed(
    app: Celeriac, clock: time_machine.Coordinates, sent: Sent, tmp_path: Any
) -> None:
    app.conf.beat_schedule = {"hourly": {"task": "t.hourly", "schedule": 3600.0}}
    for _ in range(5):
        scheduler = persistent(app, tmp_path / "schedule")
        scheduler.tick()
        scheduler._file.close()  # type: ignore[union-attr]  # as a kill does: nothing is synced
        clock.shift(900)
    assert len(sent()) == 1


def test_a_kill_between_sending_and_writing_sends_again_under_the_same_id(
    app: Celeriac, clock: time_machine.Coordinates, sent: Sent, tmp_path: Any
) -> None:
    app.conf.beat_schedule = {
        "x": {"task": "t.x", "schedule": 10.0},
        "c": {"task": "t.c", "schedule": crontab()},
    }
    first = persistent(app, tmp_path / "schedule")
    clock.shift(61)
    for entry in first.schedule.values():
        first.apply_entry(entry)
    first._file.close()  # type: ignore[union-attr]
    clock.shift(3)
    second = persistent(app, tmp_path / "schedule")
    second.tick()
    second.close()
    ids = [id for _, id in sent()]
    assert len(ids) == 4
    assert len(set(ids)) == 2


def test_entries_that_are_gone_are_forgotten(
    app: Celeriac, clock: time_machine.Coordinates, tmp_path: Any
) -> None:
    path = tmp_path / "schedule"
    app.conf.beat_schedule = {"x": {"task": "t.x", "schedule": 10.0}}
    persistent(app, path).close()
    app.conf.beat_schedule = {"y": {"task": "t.y", "schedule": 10.0}}
    clock.shift(100)
    persistent(app, path).close()
    app.conf.beat_schedule = {"x": {"task": "t.x", "schedule": 10.0}}
    again = persistent(app, path)
    assert again.schedule["x"].last_run_at == START + timedelta(seconds=100)
    again.close()


def test_a_full_disk_stops_no_schedule(
    app: Celeriac,
    clock: time_machine.Coordinates,
    sent: Sent,
    tmp_path: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app.conf.beat_schedule = {"x": {"task": "t.x", "schedule": 10.0}}
    scheduler = persistent(app, tmp_path / "schedule")
    scheduler._file._connection.execute("PRAGMA query_only = on")  # type: ignore[union-attr]
    run_for(scheduler, clock, 21)
    assert len(sent()) == 2
    assert "cannot be written" in caplog.text
    scheduler._file.close()  # type: ignore[union-attr]
