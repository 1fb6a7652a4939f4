"""Results and canvas with a real worker on every store: what was asked for is what comes."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import RedisServer

from celeriac.app.base import Celeriac
from celeriac.backends.base import StoredResult
from celeriac.canvas import chain, group
from celeriac.exceptions import TimeoutError
from celeriac.result import GroupResult, ResultSet
from celeriac.wire.results import encode_result
from celeriac.worker.inprocess import InProcessWorker

names = itertools.count()


@pytest.fixture(params=["memory", "redis", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.flush()
        return server.url
    return f"memory://run-{next(names)}" if request.param == "memory" else f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def app(url: str) -> Iterator[Celeriac]:
    made = Celeriac(f"run-{next(names)}", broker=url, backend=url)
    seen: list[Any] = []
    made.seen = seen  # type: ignore[attr-defined]

    @made.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @made.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @made.task(name="fail")
    def fail(*args: Any) -> None:
        raise ValueError("boom", 7)

    @made.task(name="note")
    def note(*args: Any) -> None:
        seen.append(args)

    @made.task(name="note_id")
    def note_id(task_id: str) -> None:
        seen.append(task_id)

    @made.task(name="spawn")
    def spawn() -> str:
        return str(group(add.s(1, 1), add.s(2, 2)).delay().id)

    @made.task(name="wait_inside")
    def wait_inside() -> int:
        return int(add.delay(1, 1).get(timeout=30))

    with InProcessWorker(made):
        yield made
    made.close()


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_results_come_back(app: Celeriac) -> None:
    add = app.tasks["add"]
    assert add.delay(2, 2).get(timeout=30) == 4
    results = [add.delay(n, n) for n in range(50)]
    assert [one.get(timeout=30) for one in results] == [2 * n for n in range(50)]
    assert ResultSet(results).join(timeout=30) == ResultSet(results).get(timeout=30)
    by_id = app.AsyncResult(results[3].id)
    assert (by_id.get(timeout=30), by_id.state, by_id.date_done is None) == (6, "SUCCESS", False)


def test_failures_come_back_with_their_traceback(app: Celeriac) -> None:
    result = app.tasks["fail"].delay()
    with pytest.raises(ValueError, match="boom") as caught:
        result.get(timeout=30)
    assert caught.value.args == ("boom", 7)
    assert 'raise ValueError("boom", 7)' in str(result.traceback)
    assert 'raise ValueError("boom", 7)' in caught.value.__notes__[0]


def test_threads_and_coroutines_wait_at_the_same_time(app: Celeriac) -> None:
    add = app.tasks["add"]
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(add.delay(n, 0).get(timeout=20))) for n in range(8)
    ]
    for thread in threads:
        thread.start()

    async def main() -> list[int]:
        first = await (await add.adelay(1, 2))
        return [first, *await asyncio.gather(*(add.delay(n, n) for n in range(50)))]

    assert asyncio.run(main()) == [3, *(2 * n for n in range(50))]
    for thread in threads:
        thread.join(20)
    assert sorted(found) == list(range(8))


def test_chains(app: Celeriac) -> None:
    add = app.tasks["add"]
    result = (add.s(1, 2) | add.s(3) | add.s(4)).delay()
    assert result.get(timeout=30) == 10
    assert (result.parent.get(timeout=30), result.parent.parent.get(timeout=30)) == (6, 3)
    assert chain(add.s(1, 1), add.si(5, 5), add.s(1)).delay().get(timeout=30) == 11


def test_a_failing_step_ends_its_chain_and_reaches_who_waits(app: Celeriac) -> None:
    steps = chain(app.tasks["fail"].s(), app.tasks["note"].s())
    steps.link_error(app.tasks["note_id"].s())
    result = steps.delay()
    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=30)
    until(lambda: app.seen)  # type: ignore[attr-defined]
    assert app.seen == [result.parent.id]  # type: ignore[attr-defined]


def test_links(app: Celeriac) -> None:
    add = app.tasks["add"]
    result = add.apply_async((1, 1), link=[add.s(10), app.tasks["note"].s()])
    assert result.get(timeout=30) == 2
    assert sorted(child.get(timeout=30) or 0 for child in result.children) == [0, 12]
    assert app.seen == [(2,)]  # type: ignore[attr-defined]


def test_groups(app: Celeriac) -> None:
    add = app.tasks["add"]
    result = group(add.s(n, n) for n in range(500)).delay()
    assert result.get(timeout=30) == [2 * n for n in range(500)]
    assert (result.completed_count(), result.successful(), result.waiting()) == (500, True, False)
    result.save()
    assert GroupResult.restore(result.id, app=app).get(timeout=30) == result.get()
    result.forget()
    assert app.AsyncResult(result[0].id).state == "PENDING"


def test_a_chain_that_ends_in_a_group(app: Celeriac) -> None:
    add = app.tasks["add"]
    result = (add.s(1, 2) | group(add.s(3), add.s(4), add.s(5) | add.s(6))).delay()
    assert result.get(timeout=30) == [6, 7, 14]


def test_maps(app: Celeriac) -> None:
    add, total = app.tasks["add"], app.tasks["total"]
    assert total.map([[1, 2], [3]]).delay().get(timeout=30) == [3, 3]
    assert add.starmap([(1, 2), (3, 4)]).delay().get(timeout=30) == [3, 7]
    assert add.chunks([(n, n) for n in range(5)], 2).apply_async().get(timeout=30) == [[0, 2], [4, 6], [8]]


def test_children_are_known(app: Celeriac) -> None:
    result = app.tasks["spawn"].delay()
    group_id = result.get(timeout=30)
    assert [child.id for child in result.children] == [group_id]
    result.children[0].get(timeout=30)
    assert [value for _, value in result.collect()] == [group_id, [2, 4], 2, 4]


def test_waiting_inside_a_task_is_refused(app: Celeriac) -> None:
    with pytest.raises(RuntimeError, match="within a task"):
        app.tasks["wait_inside"].delay().get(timeout=30)


def test_results_of_other_processes_states_on_the_way(app: Celeriac) -> None:
    def store(state: str, value: Any) -> None:
        app.backend.store([StoredResult("by-hand", encode_result("by-hand", state, value), 60)])

    seen: list[str] = []
    ready = threading.Event()

    def told(body: dict[str, Any]) -> None:
        seen.append(body["status"])
        ready.set()

    def write() -> None:
        store("PROGRESS", {"done": 1})
        ready.wait(10)
        store("SUCCESS", 3)

    writer = threading.Thread(target=write)
    writer.start()
    assert app.AsyncResult("by-hand").get(timeout=10, on_message=told) == 3
    writer.join()
    assert seen == ["PROGRESS", "SUCCESS"]
    with pytest.raises(TimeoutError, match="nobody"):
        app.AsyncResult("nobody").get(timeout=0.1)


def test_waiting_survives_a_restart_of_the_store(redis_server: RedisServer) -> None:
    app = Celeriac("restart", broker=redis_server.url, backend=redis_server.url, set_as_current=False)
    found: list[Any] = []
    waiting = [
        threading.Thread(target=lambda: found.append(app.AsyncResult("late").get(timeout=30))),
        threading.Thread(target=lambda: found.append(asyncio.run(app.AsyncResult("late").aget(timeout=30)))),
    ]
    for thread in waiting:
        thread.start()
    until(lambda: b"celery-task-meta-late" in redis_server.send("PUBSUB", "CHANNELS"))
    redis_server.kill()
    redis_server.start()
    app.backend.store([StoredResult("late", encode_result("late", "SUCCESS", 5), 60)])
    for thread in waiting:
        thread.join(30)
    assert found == [5, 5]
    app.close()
