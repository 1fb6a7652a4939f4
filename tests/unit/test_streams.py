"""Every state of calls as it is stored: streams, for threads and coroutines; `async for` over sets."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celeriac.app.base import Celeriac
from celeriac.backends.base import StoredResult
from celeriac.exceptions import TimeoutError
from celeriac.result import AsyncResult, EagerResult, GroupResult, Progress, ResultSet, Update
from celeriac.wire.results import encode_result

pytestmark = pytest.mark.usefixtures("own_state")  # no tasks of other tests, and none for them

names = itertools.count()
Put = Callable[..., None]


@pytest.fixture
def app() -> Iterator[Celeriac]:
    name = f"streams-{next(names)}"
    made = Celeriac(name, broker=f"memory://{name}", backend=f"memory://{name}", set_as_current=False)
    yield made
    made.close()


@pytest.fixture
def put(app: Celeriac) -> Put:
    def put(task_id: str, state: str, value: Any = None) -> None:
        app.backend.store([StoredResult(task_id, encode_result(task_id, state, value), 60)])

    return put


def states_of(updates: list[Update]) -> list[tuple[str, str]]:
    return [(update.id, update.state) for update in updates]


def test_each_state_until_the_end(app: Celeriac, put: Put) -> None:
    put("a", "STARTED", {"pid": 1})
    seen = []
    for update in app.AsyncResult("a").stream(timeout=10):
        seen.append(update)
        if len(seen) == 1:
            put("a", "PROGRESS", {"current": 1, "total": 2})
        elif len(seen) == 2:
            put("a", "SUCCESS", 7)
    assert states_of(seen) == [("a", "STARTED"), ("a", "PROGRESS"), ("a", "SUCCESS")]
    assert [update.progress for update in seen] == [None, Progress(1, 2), None]
    assert [update.ready for update in seen] == [False, False, True]
    assert seen[-1].result == 7


def test_a_stream_makes_its_result_known(app: Celeriac, put: Put) -> None:
    put("a", "FAILURE", ValueError("boom"))
    result = app.AsyncResult("a")
    (update,) = result.stream(timeout=10)
    assert isinstance(update.result, ValueError)
    app.backend.forget(["a"])
    assert result.failed()
    assert states_of(list(result.stream(timeout=10))) == [("a", "FAILURE")]


async def test_coroutines_stream_too(app: Celeriac, put: Put) -> None:
    put("a", "PROGRESS", {"current": 1})
    seen = []
    async for update in app.AsyncResult("a").stream(timeout=10):
        seen.append(update)
        if not update.ready:
            put("a", "SUCCESS", 7)
    assert states_of(seen) == [("a", "PROGRESS"), ("a", "SUCCESS")]
    assert [update.state async for update in app.AsyncResult("a").stream()] == ["SUCCESS"]


async def test_time_runs_out(app: Celeriac, put: Put) -> None:
    put("a", "PROGRESS", {"current": 1})
    result = app.AsyncResult("a")
    with pytest.raises(TimeoutError):
        list(result.stream(timeout=0.05))
    with pytest.raises(TimeoutError):
        [update async for update in result.stream(timeout=0.05)]


async def test_a_failure_before_it_in_its_chain_is_raised(app: Celeriac, put: Put) -> None:
    put("first", "FAILURE", KeyError("gone"))
    with pytest.raises(KeyError, match="gone"):
        list(AsyncResult("second", app=app, parent=app.AsyncResult("first")).stream(timeout=10))
    with pytest.raises(KeyError, match="gone"):
        async for _ in AsyncResult("second", app=app, parent=app.AsyncResult("first")).stream(timeout=10):
            pass


async def test_groups_stream_the_states_of_all(app: Celeriac, put: Put) -> None:
    inner = GroupResult("h", [app.AsyncResult("b"), app.AsyncResult("c")], app=app)
    group = GroupResult("g", [app.AsyncResult("a"), inner, EagerResult("e", 5, "SUCCESS")], app=app)
    put("a", "SUCCESS", 1)
    put("b", "PROGRESS", {"current": 1, "total": 2})
    seen = []
    for update in group.stream(timeout=10):
        seen.append(update)
        if (update.id, update.state) == ("b", "PROGRESS"):
            threading.Timer(0.05, put, ("c", "SUCCESS", 3)).start()
        elif update.id == "c":
            put("b", "SUCCESS", 2)
    assert states_of(seen)[0] == ("e", "SUCCESS")
    assert sorted(states_of(seen)) == [
        ("a", "SUCCESS"), ("b", "PROGRESS"), ("b", "SUCCESS"), ("c", "SUCCESS"), ("e", "SUCCESS")
    ]  # fmt: skip
    assert group.get(timeout=10) == [1, [2, 3], 5]
    assert len([update async for update in group.stream()]) == 4  # only ends are left


async def test_members_come_as_they_end(app: Celeriac, put: Put) -> None:
    results = ResultSet([app.AsyncResult("a"), app.AsyncResult("b"), EagerResult("e", 5, "SUCCESS")], app=app)
    put("b", "SUCCESS", 2)
    seen = []
    async for result in results:
        seen.append(result.id)
        if result.id == "b":
            put("a", "SUCCESS", 1)
    assert seen == ["e", "b", "a"]
    assert [result.id async for result in results] == ["a", "b", "e"]


def test_whoever_streams_is_called_while_nothing_comes(app: Celeriac) -> None:
    class Enough(Exception):
        pass

    def stop() -> None:
        raise Enough

    with pytest.raises(Enough):
        app.AsyncResult("never").watch(timeout=30, on_interval=stop)


def test_progress_of_a_result(app: Celeriac, put: Put) -> None:
    result = app.AsyncResult("a")
    assert result.progress is None
    put("a", "PROGRESS", {"current": 1, "total": 4, "message": "reading"})
    assert result.progress == Progress(1, 4, "reading")
    assert result.info == {"current": 1, "total": 4, "message": "reading"}
    put("a", "SUCCESS", 4)
    assert result.progress is None


def test_custom_states_do_not_hide_an_end(app: Celeriac, put: Put) -> None:
    @app.task(name="t")
    def t() -> None:
        pass

    t.update_state("a", "PROGRESS", {"current": 1})
    assert app.AsyncResult("a").progress == Progress(1)
    put("a", "SUCCESS", 4)
    t.update_state("a", "PROGRESS", {"current": 2})
    assert app.AsyncResult("a").get(timeout=1) == 4
    t.update_state("a", "FAILURE", ValueError("by hand"))
    assert app.AsyncResult("a").failed()


def test_progress_outside_of_a_worker_does_nothing(app: Celeriac) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any, current: Any) -> str:
        self.progress(current, 3)
        return "done"

    assert t(1) == "done"
    assert t.apply((1,)).get() == "done"
    with pytest.raises(TypeError, match="numbers"):
        t("one")
