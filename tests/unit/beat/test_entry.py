"""ScheduleEntry: what the next one is, and how a run is named."""

from __future__ import annotations

import logging
import pickle
from datetime import timedelta
from uuid import UUID

import pytest
import time_machine

from celeriac import Celeriac
from celeriac.beat import ScheduleEntry
from celeriac.schedules import BaseSchedule, crontab

from .conftest import START


def entry(app: Celeriac, **changes: object) -> ScheduleEntry:
    fields = {"name": "e", "task": "t.x", "schedule": 10.0, "args": (1,), "kwargs": {"b": 2}, "app": app}
    return ScheduleEntry(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_new_entry_counts_from_now(app: Celeriac, clock: time_machine.Coordinates) -> None:
    assert entry(app).last_run_at == START
    assert entry(app).is_due() == (False, 10.0)


def test_the_next_entry_has_run_once_more(app: Celeriac, clock: time_machine.Coordinates) -> None:
    first = entry(app, options={"queue": "q"})
    clock.shift(10.2)
    second = next(first)  # type: ignore[call-overload]
    assert (second.last_run_at, second.total_run_count) == (START + timedelta(seconds=10), 1)
    assert (second.name, second.task, second.args, second.kwargs) == ("e", "t.x", (1,), {"b": 2})
    assert second == first
    assert (first.last_run_at, first.total_run_count) == (START, 0)


def test_update_takes_the_definition_and_keeps_the_past(
    app: Celeriac, clock: time_machine.Coordinates
) -> None:
    old = entry(app, total_run_count=7)
    clock.shift(3600)
    old.update(entry(app, task="t.y", schedule=crontab(minute=0), args=(), kwargs={}, options={"queue": "q"}))
    assert (old.task, old.schedule, old.options) == ("t.y", crontab(minute=0), {"queue": "q"})
    assert (old.last_run_at, old.total_run_count) == (START, 7)


@pytest.mark.parametrize(
    "change", [{"task": "t.y"}, {"args": ()}, {"kwargs": {}}, {"options": {"queue": "q"}}, {"schedule": 11.0}]
)
def test_equality_is_of_the_definition(
    app: Celeriac, clock: time_machine.Coordinates, change: dict[str, object]
) -> None:
    assert entry(app, total_run_count=3) == entry(app)
    assert entry(app, **change) != entry(app)


def test_a_run_is_named_by_its_due_time(app: Celeriac, clock: time_machine.Coordinates) -> None:
    first = entry(app)
    name = first.run_id()
    assert name is not None
    assert UUID(name).version == 5
    clock.shift(3)
    assert entry(app, last_run_at=START).run_id() == name
    clock.shift(7)
    assert next(first).run_id() != name  # type: ignore[call-overload]
    assert entry(app, last_run_at=START, name="other").run_id() != name
    assert entry(app, last_run_at=START, task="t.y").run_id() != name
    with Celeriac("elsewhere", broker="memory://", set_as_current=False) as other:
        assert entry(other, last_run_at=START).run_id() != name


def test_missed_runs_are_named_by_the_first_of_them(app: Celeriac) -> None:
    hourly = crontab(minute=0)
    missed = entry(app, schedule=hourly, last_run_at=START - timedelta(hours=5, minutes=30))
    again = entry(app, schedule=hourly, last_run_at=START - timedelta(hours=5, minutes=10))
    assert missed.run_id() == again.run_id()


def test_a_schedule_that_cannot_name_its_due_time_leaves_the_id_to_chance(app: Celeriac) -> None:
    assert entry(app, schedule=BaseSchedule()).run_id() is None


@pytest.mark.parametrize("schedule", [10.0, crontab(minute="*/5")])
def test_a_clock_that_was_set_back_far_is_counted_from_anew(
    app: Celeriac, clock: time_machine.Coordinates, schedule: object, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = entry(app, schedule=schedule, last_run_at=START + timedelta(days=365))
    with caplog.at_level(logging.WARNING):
        due, seconds = ahead.is_due()
    assert not due
    assert seconds <= 300
    assert "the clock was set back" in caplog.text
    clock.shift(seconds)
    assert ahead.is_due()[0]


def test_words_and_pickling(app: Celeriac) -> None:
    made = entry(app)
    assert repr(made) == "<ScheduleEntry: e t.x(1, b=2) <freq: 10.00 seconds>>"
    assert pickle.loads(pickle.dumps(made)) == made
