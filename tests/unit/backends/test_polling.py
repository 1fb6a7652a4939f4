"""Watches that have to look: how often, at what, and what they tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

import pytest

from celeriac import Celeriac
from celeriac.backends.polling import PollingWatch, Seen
from celeriac.result.waiting import arrivals


class Shelf:
    """What is stored, and who looked for what, when."""

    def __init__(self) -> None:
        self.stored: dict[str, Seen] = {}
        self.looks: list[tuple[float, list[str]]] = []
        self.now = time.monotonic

    def look(self, ids: Sequence[str]) -> Mapping[str, Seen]:
        self.looks.append((self.now(), list(ids)))
        return {task_id: self.stored[task_id] for task_id in ids if task_id in self.stored}


class Clock(threading.Condition):
    """Time passes only while somebody waits, and exactly as long as that was to take."""

    now = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return False

    def monotonic(self) -> float:
        return self.now


def test_looks_become_rarer_up_to_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, clock = Shelf(), Clock()
    watch = PollingWatch(shelf.look, ["a"])
    watch.interval = 0.1
    monkeypatch.setattr(watch, "_changed", clock)
    monkeypatch.setattr("celeriac.backends.polling.time", clock)
    shelf.now = clock.monotonic
    assert watch.wait(1.0) == {}
    times = [at for at, _ in shelf.looks]
    assert 10 <= len(times) <= 17
    assert times[1] - times[0] < 0.05 <= 0.09 < times[-2] - times[-3]


def test_new_ids_are_looked_for_at_once() -> None:
    shelf = Shelf()
    watch = PollingWatch(shelf.look, ["a"])
    watch.interval = 30.0
    for _ in range(15):
        watch.wait(0)
    shelf.stored["b"] = Seen(b"1", True)
    found: list[Mapping[str, bytes]] = []
    thread = threading.Thread(target=lambda: found.append(watch.wait(20)))
    thread.start()
    watch.add(["b"])
    thread.join(10)
    assert found == [{"b": b"1"}]


def test_what_has_ended_is_not_looked_at_again() -> None:
    shelf = Shelf()
    shelf.stored = {"a": Seen(b"done", True), "b": Seen(b"begun")}
    watch = PollingWatch(shelf.look, ["a", "b"])
    assert watch.wait(1) == {"a": b"done", "b": b"begun"}
    assert watch.wait(0) == {}
    assert shelf.looks[-1][1] == ["b"]
    shelf.stored["b"] = Seen(b"done", True)
    assert watch.wait(1) == {"b": b"done"}
    looks = len(shelf.looks)
    assert watch.wait(0.05) == {}
    assert len(shelf.looks) == looks


def test_get_says_how_long_to_pause(monkeypatch: object) -> None:
    """`AsyncResult.get(interval=…)` reaches the watch."""
    shelf = Shelf()
    made: list[PollingWatch] = []
    app = Celeriac("polling", broker="memory://", backend="memory://polling", set_as_current=False)

    class Store(type(app.backend)):  # type: ignore[misc]
        def watch(self, ids: Sequence[str] = ()) -> PollingWatch:
            made.append(PollingWatch(shelf.look, ids))
            return made[-1]

    waiting = arrivals(Store("memory://polling", {}), ["a"], 0.05, 0.02)
    assert [dict(next(waiting)) for _ in range(2)] == [{}, {}]
    assert made[0].interval == 0.02
    app.close()
