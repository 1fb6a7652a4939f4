"""Results: reading, waiting (threads and coroutines), families, sets, groups."""

from __future__ import annotations

import asyncio
import copy
import io
import itertools
import pickle
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac import _state, states
from celeriac.app.base import Celeriac
from celeriac.backends.base import StoredResult
from celeriac.exceptions import ImproperlyConfigured, IncompleteStream, TaskRevokedError, TimeoutError
from celeriac.execution.call import Context
from celeriac.result import (
    AsyncResult,
    EagerResult,
    GroupResult,
    ResultSet,
    allow_join_result,
    denied_join_result,
    result_from_tuple,
)
from celeriac.wire.results import encode_result

names = itertools.count()


@pytest.fixture
def app() -> Iterator[Celeriac]:
    name = f"results-{next(names)}"
    made = Celeriac(name, broker=f"memory://{name}", backend=f"memory://{name}", set_as_current=False)
    yield made
    made.close()


@pytest.fixture
def inside_task() -> Iterator[None]:
    request = Context(id="outer")
    request.called_directly = False
    token = _state.running.set((object(), request))
    yield
    _state.running.reset(token)


def put(app: Celeriac, task_id: str, state: str = states.SUCCESS, value: Any = None, **more: Any) -> None:
    app.backend.store([StoredResult(task_id, encode_result(task_id, state, value, **more), 60)])


def later(action: Any, *args: Any, seconds: float = 0.02, **kwargs: Any) -> threading.Timer:
    timer = threading.Timer(seconds, action, args, kwargs)
    timer.start()
    return timer


def result(app: Celeriac, task_id: str = "a", **more: Any) -> AsyncResult[Any]:
    return AsyncResult(task_id, app=app, **more)


class TestReading:
    def test_unknown_ids_are_pending(self, app: Celeriac) -> None:
        unknown = result(app)
        assert (unknown.state, unknown.status, unknown.result, unknown.info) == (
            "PENDING",
            "PENDING",
            None,
            None,
        )
        assert not any((unknown.ready(), unknown.successful(), unknown.failed(), unknown.exists()))
        assert unknown.children is unknown.traceback is unknown.date_done is None

    def test_success(self, app: Celeriac) -> None:
        put(app, "a", value={"x": 1})
        one = result(app)
        assert one.ready()
        assert one.successful()
        assert one.exists()
        assert one.result == one.info == one.get() == one.maybe_throw() == {"x": 1}
        assert one.date_done is not None
        assert abs((datetime.now(UTC) - one.date_done).total_seconds()) < 60

    def test_failure_is_an_exception(self, app: Celeriac) -> None:
        put(app, "a", states.FAILURE, ValueError("x", 3), traceback="Traceback: there")
        one = result(app)
        assert one.failed()
        assert one.ready()
        assert isinstance(one.result, ValueError)
        assert one.result.args == ("x", 3)
        assert one.traceback == "Traceback: there"
        for _ in range(2):
            with pytest.raises(ValueError, match="'x', 3") as caught:
                one.get()
            assert caught.value.__notes__ == ["The worker's traceback:\nTraceback: there"]
        assert one.get(propagate=False) is one.result
        with pytest.raises(ValueError, match="x"):
            one.maybe_reraise()

    def test_revoked(self, app: Celeriac) -> None:
        put(app, "a", states.REVOKED, TaskRevokedError("revoked"))
        assert not result(app).failed()
        with pytest.raises(TaskRevokedError, match="revoked"):
            result(app).get()

    def test_a_state_on_the_way_is_read_anew_each_time(self, app: Celeriac) -> None:
        one = result(app)
        put(app, "a", "PROGRESS", {"done": 1})
        assert (one.state, one.info) == ("PROGRESS", {"done": 1})
        put(app, "a", "PROGRESS", {"done": 2})
        assert one.info == {"done": 2}
        put(app, "a", value=3)
        assert one.result == 3

    def test_a_final_state_is_kept(self, app: Celeriac) -> None:
        put(app, "a", value=1)
        one = result(app)
        assert one.get() == 1
        app.backend.forget(["a"])
        assert one.get() == 1

    def test_extended_documents(self, app: Celeriac) -> None:
        put(app, "a", name="proj.add", args=[1], kwargs={"y": 2}, worker="w@h", retries=1, queue="q")
        one = result(app)
        assert (one.name, one.args, one.kwargs) == ("proj.add", [1], {"y": 2})
        assert (one.worker, one.retries, one.queue) == ("w@h", 1, "q")
        assert result(app, "b", task_name="own").name == "own"

    def test_forget(self, app: Celeriac) -> None:
        put(app, "a", value=1)
        put(app, "up", value=1)
        one = result(app, parent=result(app, "up"))
        assert one.ready()
        one.forget()
        assert not one.exists()
        assert not result(app, "up").exists()

    def test_an_app_without_results_refuses(self) -> None:
        app = Celeriac("none", broker="memory://none", backend="disabled://", set_as_current=False)
        for question in (lambda r: r.state, lambda r: r.get(), lambda r: r.ready()):
            with pytest.raises(NotImplementedError, match="result_backend"):
                question(result(app))

    def test_an_ignored_result_is_none_at_once(self, app: Celeriac) -> None:
        one = result(app)
        one.ignored = True
        assert one.get() is None
        assert ResultSet([one], app=app).get() == [None]

    def test_an_id_is_needed(self, app: Celeriac) -> None:
        with pytest.raises(ValueError, match="id"):
            AsyncResult(None, app=app)  # type: ignore[arg-type]


class TestWaiting:
    def test_get_is_woken_by_the_store(self, app: Celeriac) -> None:
        later(put, app, "a", value=5)
        assert result(app).get(timeout=10) == 5

    def test_get_passes_states_on_the_way(self, app: Celeriac) -> None:
        seen: list[str] = []
        put(app, "a", states.STARTED)

        def look(body: dict[str, Any]) -> None:
            seen.append(body["status"])
            if seen == ["STARTED"]:  # what comes next is stored when this one was seen
                put(app, "a", "PROGRESS", {"done": 1})
            elif seen == ["STARTED", "PROGRESS"]:
                put(app, "a", value=5)

        assert result(app).get(timeout=10, on_message=look) == 5
        assert seen == ["STARTED", "PROGRESS", "SUCCESS"]

    def test_timeout(self, app: Celeriac) -> None:
        one = result(app)
        started = time.monotonic()
        with pytest.raises(one.TimeoutError, match=r"task a was not there within 0\.05 seconds"):
            one.get(timeout=0.05)
        assert time.monotonic() - started < 2
        with pytest.raises(TimeoutError):
            one.get(timeout=0)
        put(app, "a", value=1)
        assert one.get(timeout=0) == 1

    def test_on_interval_and_callback(self, app: Celeriac) -> None:
        calls: list[Any] = []

        def on_interval() -> None:
            calls.append("interval")
            if len(calls) == 2:
                put(app, "a", value=1)

        got = result(app).get(
            10, True, 0.01, on_interval=on_interval, callback=lambda *args: calls.append(args)
        )
        assert got == 1
        assert calls == ["interval", "interval", ("a", 1)]

    def test_get_raises_what_a_parent_raised(self, app: Celeriac) -> None:
        grandparent = result(app, "g")
        child = result(app, "c", parent=result(app, "p", parent=grandparent))
        later(put, app, "g", states.FAILURE, KeyError("up"))
        with pytest.raises(KeyError, match="up"):
            child.get(timeout=10)
        with pytest.raises(TimeoutError):
            child.get(timeout=0.05, follow_parents=False)
        put(app, "g2", states.FAILURE, KeyError("up"))
        group = GroupResult("group", [result(app, "g1"), result(app, "g2")], app=app)
        with pytest.raises(KeyError, match="up"):
            result(app, "d", parent=group).get(timeout=10)

    def test_a_callback_may_wait_for_another_result(self, app: Celeriac) -> None:
        inner: list[Any] = []

        def on_message(body: Any) -> None:
            later(put, app, "b", value=2)
            inner.append(result(app, "b").get(timeout=10))

        later(put, app, "a", value=1)
        assert result(app).get(timeout=10, on_message=on_message) == 1
        assert inner == [2]
        later(put, app, "c", value=3)
        assert result(app, "c").get(timeout=10) == 3

    def test_many_threads_wait_at_once(self, app: Celeriac) -> None:
        found: dict[str, Any] = {}
        threads = [
            threading.Thread(target=lambda n=n: found.update({str(n): result(app, str(n)).get(timeout=20)}))
            for n in range(20)
        ]
        for thread in threads:
            thread.start()
        for n in range(20):
            put(app, str(n), value=n)
        for thread in threads:
            thread.join(20)
        assert found == {str(n): n for n in range(20)}

    def test_then(self, app: Celeriac) -> None:
        told: list[Any] = []
        there = threading.Event()
        result(app).then(lambda r: (told.append(r.result), there.set()))
        put(app, "a", "PROGRESS", 0)
        put(app, "a", value=1)
        assert there.wait(10)
        result(app).then(lambda r: told.append(r.result))
        put(app, "b", states.FAILURE, ValueError("x"))
        result(app, "b").then(told.append, on_error=lambda r: told.append(r.state))
        assert told == [1, 1, "FAILURE"]


class TestCoroutines:
    async def test_await(self, app: Celeriac) -> None:
        later(put, app, "a", value=5)
        assert await result(app) == 5
        assert await result(app) == 5

    async def test_failure_and_timeout(self, app: Celeriac) -> None:
        later(put, app, "a", states.FAILURE, ValueError("x"))
        with pytest.raises(ValueError, match="x"):
            await result(app).aget(timeout=10)
        assert isinstance(await result(app).aget(propagate=False), ValueError)
        with pytest.raises(TimeoutError, match="task b"):
            await result(app, "b").aget(timeout=0.05)

    async def test_the_loop_goes_on_and_a_wait_can_be_cancelled(self, app: Celeriac) -> None:
        waiting = asyncio.create_task(result(app).aget())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    async def test_a_thousand_at_once_need_one_thread(self, app: Celeriac) -> None:
        before = threading.active_count()
        waits = [asyncio.create_task(result(app, str(n)).aget(timeout=30)) for n in range(1000)]
        await asyncio.sleep(0)
        assert threading.active_count() <= before + 1
        for n in range(1000):
            put(app, str(n), value=n)
        assert await asyncio.gather(*waits) == list(range(1000))

    async def test_sets(self, app: Celeriac) -> None:
        group = GroupResult("g", [result(app, str(n)) for n in range(3)], app=app)
        for n in (2, 0, 1):
            later(put, app, str(n), value=n)
        assert await group == [0, 1, 2]
        put(app, "bad", states.FAILURE, ValueError("x"))
        with pytest.raises(ValueError, match="x"):
            await ResultSet([result(app, "never"), result(app, "bad")], app=app).aget(timeout=10)

    async def test_eager(self) -> None:
        assert await EagerResult("a", 1, states.SUCCESS) == 1

    def test_a_second_loop_can_wait_too(self, app: Celeriac) -> None:
        for name in ("a", "b"):
            later(put, app, name, value=name)

            async def wait(name: str = name) -> Any:
                return await result(app, name)

            assert asyncio.run(wait()) == name


@pytest.mark.usefixtures("inside_task")
class TestInsideTasks:
    def test_waiting_is_refused(self, app: Celeriac) -> None:
        put(app, "a", value=1)
        for wait in (
            lambda: result(app).get(),
            lambda: ResultSet([result(app)], app=app).get(),
            lambda: ResultSet([result(app)], app=app).join(),
            lambda: EagerResult("a", 1, "SUCCESS").get(),
            lambda: asyncio.run(result(app).aget()),
        ):
            with pytest.raises(RuntimeError, match=r"Never call result\.get\(\) within a task!"):
                wait()

    def test_unless_it_is_allowed(self, app: Celeriac) -> None:
        put(app, "a", value=1)
        assert result(app).get(disable_sync_subtasks=False) == 1
        with allow_join_result():
            assert result(app).get() == 1
            with denied_join_result(), pytest.raises(RuntimeError):
                result(app).get()

    def test_state_may_be_asked(self, app: Celeriac) -> None:
        assert result(app).state == "PENDING"


class TestFamilies:
    def test_children(self, app: Celeriac) -> None:
        kids = [result(app, "c1").as_tuple(), GroupResult("g", [result(app, "c2")], app=app).as_tuple()]
        put(app, "a", value=1, children=kids)
        one = result(app)
        assert one.children == [result(app, "c1"), GroupResult("g", [result(app, "c2")], app=app)]
        with pytest.raises(IncompleteStream, match="c1"):
            list(one.iterdeps())
        assert [str(node) for _, node in one.iterdeps(intermediate=True)] == ["a", "c1", "g"]
        for name in ("c1", "c2"):
            put(app, name, value=name)
        assert list(one.collect()) == [
            (one, 1), (result(app, "c1"), "c1"), (one.children[1], ["c2"]), (result(app, "c2"), "c2"),
        ]  # fmt: skip
        assert one.get_leaf() == "c2"
        assert [str(node) for node in one.graph.topsort()] == ["c1", "c2", "g", "a"]
        text = io.StringIO()
        one.graph.to_dot(text)
        assert '    "a" -> "g"\n' in text.getvalue()

    def test_tuples_and_back(self, app: Celeriac) -> None:
        one = result(app, "c", parent=result(app, "b", parent=result(app, "a")))
        assert one.as_tuple() == (("c", (("b", (("a", None), None)), None)), None)
        assert one.as_list() == ["c", "b", "a"]
        back = result_from_tuple(one.as_tuple(), app)
        assert back == one
        assert back.as_list() == one.as_list()
        assert result_from_tuple(["a", None], app) == "a"
        assert result_from_tuple(one) is one
        group = GroupResult("g", [one], parent=one, app=app)
        assert result_from_tuple(group.as_tuple(), app) == group

    @pytest.mark.parametrize("bad", [None, 3, "a", [], [1, None], ["a", "b"], [["a"], None], {"a": 1}])
    def test_what_is_no_result(self, app: Celeriac, bad: Any) -> None:
        with pytest.raises(ValueError, match="not the stored form"):
            result_from_tuple(bad, app)

    def test_values_of_a_kind(self, app: Celeriac) -> None:
        one = result(app, task_name="t")
        assert one == result(app)
        assert one == "a"
        assert one != result(app, "b")
        assert {one: 1}["a"] == 1
        assert (str(one), repr(one), one.task_id) == ("a", "<AsyncResult: a>", "a")
        assert copy.copy(one) == one
        assert pickle.loads(pickle.dumps(one)).name == "t"


class TestEager:
    def test_success(self) -> None:
        one = EagerResult("a", 1, states.SUCCESS, name="t")
        assert (one.get(), one.result, one.state, one.ready(), one.successful(), one.name) == (
            1, 1, "SUCCESS", True, True, "t",
        )  # fmt: skip
        one.forget()
        one.revoke()
        assert one.state == "REVOKED"
        assert repr(one) == "<EagerResult: a>"
        assert pickle.loads(pickle.dumps(one)).get(propagate=False) == 1

    def test_failure(self) -> None:
        exc = ValueError("x")
        one = EagerResult("a", exc, states.FAILURE, "tb")
        with pytest.raises(ValueError, match="x") as caught:
            one.get()
        assert caught.value is exc
        assert one.get(propagate=False) is exc
        assert one.traceback == "tb"


class TestSets:
    @pytest.fixture
    def three(self, app: Celeriac) -> ResultSet:
        return ResultSet([result(app, str(n)) for n in range(3)], app=app)

    def test_members(self, app: Celeriac, three: ResultSet) -> None:
        three.add(result(app, "0"))
        three.update([result(app, "3")])
        assert [str(one) for one in three] == ["0", "1", "2", "3"]
        three.remove("3")
        three.discard("7")
        with pytest.raises(KeyError):
            three.remove("7")
        assert (len(three), three[1], repr(three)) == (3, "1", "<ResultSet: [0, 1, 2]>")
        three.clear()
        assert len(three) == 0
        assert three.get() == []

    def test_state(self, app: Celeriac, three: ResultSet) -> None:
        assert three.waiting()
        put(app, "0", value=0)
        assert (three.completed_count(), three.ready(), three.failed()) == (1, False, False)
        put(app, "1", states.FAILURE, ValueError("x"))
        put(app, "2", value=2)
        assert (three.completed_count(), three.ready(), three.failed(), three.successful()) == (
            2,
            True,
            True,
            False,
        )
        with pytest.raises(ValueError, match="x"):
            three.maybe_throw()

    def test_get_returns_values_in_order(self, app: Celeriac, three: ResultSet) -> None:
        order: list[str] = []
        to_come = ["2", "0", "1"]

        def store_next() -> None:
            if to_come:
                name = to_come.pop(0)
                put(app, name, value=int(name))

        def came(task_id: str, value: Any) -> None:
            order.append(task_id)
            store_next()

        later(store_next)
        assert three.get(timeout=10, callback=came) == [0, 1, 2]
        assert order == ["2", "0", "1"]
        order.clear()
        again = ResultSet([result(app, str(n)) for n in (1, 0, 1)], app=app)
        assert again.join(timeout=10, callback=lambda task_id, value: order.append(task_id)) == [1, 0, 1]
        assert order == ["1", "0", "1"]
        assert dict(three.iter_native())["2"]["result"] == 2

    def test_get_raises_at_the_first_failure_and_join_in_order(self, app: Celeriac, three: ResultSet) -> None:
        put(app, "1", states.FAILURE, ValueError("x"))
        with pytest.raises(ValueError, match="x"):
            three.get(timeout=10)
        with pytest.raises(TimeoutError, match="3 tasks"):
            ResultSet([result(app, str(n)) for n in range(3)], app=app).join(timeout=0.05)
        put(app, "0", value=0)
        put(app, "2", value=2)
        values = three.join_native(timeout=10, propagate=False)
        assert values[0::2] == [0, 2]
        assert isinstance(values[1], ValueError)

    def test_nested_sets_and_eager_results(self, app: Celeriac) -> None:
        put(app, "a", value=1)
        put(app, "b", value=2)
        inner = GroupResult("g", [result(app, "b"), EagerResult("e", 3, states.SUCCESS)], app=app)
        outer = ResultSet([result(app, "a"), inner], app=app)
        assert outer.get(timeout=10) == [1, [2, 3]]
        assert outer.completed_count() == 2

    def test_a_large_set_takes_linear_time(self, app: Celeriac) -> None:
        many = ResultSet([result(app, str(n)) for n in range(3000)], app=app)
        writer = threading.Thread(target=lambda: [put(app, str(n), value=n) for n in range(3000)])
        writer.start()
        assert many.get(timeout=30) == list(range(3000))
        writer.join()

    def test_then(self, app: Celeriac, three: ResultSet) -> None:
        there = threading.Event()
        three.then(lambda results: there.set())
        for n in range(3):
            assert not there.is_set()
            put(app, str(n), value=n)
        assert there.wait(10)

    def test_forget(self, app: Celeriac, three: ResultSet) -> None:
        put(app, "1", value=1)
        three.forget()
        assert not result(app, "1").exists()


class TestGroups:
    def test_save_restore_delete(self, app: Celeriac) -> None:
        group = GroupResult("g", [result(app, "a"), result(app, "b")], parent=result(app, "up"), app=app)
        group.save()
        assert GroupResult.restore("g", app=app) == group
        assert GroupResult.restore("g", app=app).parent == "up"
        group.delete()
        assert GroupResult.restore("g", app=app) is None

    def test_the_saved_document_is_celerys(self, app: Celeriac) -> None:
        GroupResult("g", [result(app, "a"), result(app, "b")], app=app).save()
        document = app.backend.load_group("g")
        assert document == b'{"result": [["g", null], [[["a", null], null], [["b", null], null]]]}'

    def test_values_of_a_kind(self, app: Celeriac) -> None:
        group = GroupResult("g", [result(app, "a")], app=app)
        assert group == GroupResult("g", [result(app, "a")], app=app)
        assert group == "g"
        assert group != GroupResult("g", [], app=app)
        assert (str(group), repr(group), group.children) == ("g", "<GroupResult: g [a]>", ["a"])
        assert group.as_list() == ["a"]
        assert pickle.loads(pickle.dumps(group)) == group


# -- as in Celery ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "join", "join_native"])
def test_a_group_in_a_group_is_one_member_for_callbacks(app: Celeriac, method: str) -> None:
    for number in range(1, 4):
        put(app, f"n{number}", value=number)
    inner = GroupResult("inner", [app.AsyncResult("n2"), app.AsyncResult("n3")], app=app)
    told: list[Any] = []
    outer = GroupResult("outer", [app.AsyncResult("n1"), inner], app=app)
    getattr(outer, method)(timeout=5, callback=lambda *args: told.append(args))
    assert sorted(told) == [("inner", [2, 3]), ("n1", 1)]


def test_the_classes_of_an_app(app: Celeriac) -> None:
    put(app, "n1", value=1)
    app.GroupResult("saved", [app.AsyncResult("n1")]).save()
    restored = app.GroupResult.restore("saved")
    assert isinstance(restored, GroupResult)
    assert restored.get(timeout=5) == [1]
    assert app.GroupResult is app.GroupResult
    assert app.ResultSet([]).app is app
    assert pickle.loads(pickle.dumps(app.GroupResult("g", []))) == GroupResult("g", [])


def test_sets_are_true_when_there_is_something_in_them_groups_always(app: Celeriac) -> None:
    assert not ResultSet([])
    assert ResultSet([app.AsyncResult("a")])
    assert GroupResult("g", [])


def test_what_did_not_come_to_an_end_has_no_value() -> None:
    retried = EagerResult("a", KeyError("later"), "RETRY")
    assert retried.get() is None
    assert ResultSet([retried, EagerResult("b", 1, "SUCCESS")]).get() == [None, 1]
    assert not retried.supports_native_join
    assert not ResultSet([retried]).supports_native_join


def test_revoking_by_stamps_is_refused_with_a_reason(app: Celeriac) -> None:
    with pytest.raises(ImproperlyConfigured, match="by id"):
        app.AsyncResult("a").revoke_by_stamped_headers({"batch": "7"})
