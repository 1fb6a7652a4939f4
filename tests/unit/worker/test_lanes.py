"""Every lane: requests, early acknowledgement, ends, handlers and signals, limits, the end of its life."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celeriac, _state, signals
from celeriac.app.task import Task
from celeriac.exceptions import Ignore, Reject, SoftTimeLimitExceeded, TimeLimitExceeded

from .conftest import LaneWorker, until


def ended(app: Celeriac) -> bool:
    stats = app.broker.stats(["q"])[0]
    return stats.depth == stats.in_flight == stats.delayed == 0


# -- the request ------------------------------------------------------------------------------------------


def test_the_current_task_and_request(app: Celeriac, pool: str) -> None:
    @app.task(name="plain", bind=True)
    def plain(self: Any, n: int) -> Any:
        time.sleep(0.01)
        return n, self.request.id, _state.get_current_task().name, app.current_task.request.args[0]

    @app.task(name="coroutine", bind=True)
    async def coroutine(self: Any, n: int) -> Any:
        await asyncio.sleep(0.01)
        inner = await asyncio.create_task(asyncio.sleep(0, self.request.id))
        return n, inner, _state.get_current_task().name, app.current_task.request.args[0]

    with LaneWorker(app, pool, 8):
        results = [(n, task, task.delay(n)) for n in range(20) for task in (plain, coroutine)]
        for n, task, result in results:
            assert result.get(timeout=30) == [n, result.id, task.name, n]
    assert _state.get_current_task() is None


def test_what_a_request_says(app: Celeriac, pool: str) -> None:
    seen: list[Any] = []

    @app.task(name="look", bind=True)
    def look(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.append(self.request)

    with LaneWorker(app, pool):
        call = look.s(1, k=2).set(
            headers={"mine": "h"}, time_limit=60, soft_time_limit=30, priority=4, shadow="other", expires=600
        )
        result = call.apply_async()
        until(lambda: seen)
    (request,) = seen
    assert (request.id, request.root_id, request.parent_id) == (result.id, result.id, None)
    assert (request.task, list(request.args), request.kwargs) == ("look", [1], {"k": 2})
    assert (request.retries, request.is_eager, request.called_directly) == (0, False, False)
    assert (list(request.timelimit), request.time_limit, request.soft_time_limit) == ([60, 30], 60, 30)
    assert (request.delivery_info["routing_key"], request.delivery_info["priority"]) == ("q", 4)
    assert (request.hostname, request.mine, request.headers["mine"]) == ("n@test", "h", "h")
    assert (request.shadow, request.correlation_id) == ("other", result.id)
    assert request.expires is not None
    assert request.group is None
    assert request.crashes == 0
    with pytest.raises(AttributeError, match="the message carried"):
        _ = request.nothing_like_it


def test_calls_made_inside_a_task_are_its_children(app: Celeriac, pool: str) -> None:
    @app.task(name="leaf", bind=True)
    def leaf(self: Any) -> Any:
        return self.request.parent_id, self.request.root_id

    @app.task(name="root")
    def root() -> str:
        return str(leaf.delay().id)

    with LaneWorker(app, pool):
        result = root.delay()
        inner = app.AsyncResult(result.get(timeout=30))
        assert inner.get(timeout=30) == [result.id, result.id]
        assert [child.id for child in result.children] == [inner.id]


# -- acknowledging ----------------------------------------------------------------------------------------


def test_late_and_early_acknowledgement(app: Celeriac, pool: str) -> None:
    held: dict[str, int] = {}

    def look(self: Any) -> str:
        held[self.name] = app.broker.stats(["q"])[0].in_flight
        return str(self.name)

    early = app.task(name="early", bind=True, acks_late=False)(look)
    late = app.task(name="late", bind=True)(look)
    with LaneWorker(app, pool):
        for task in (early, late):
            assert task.delay().get(timeout=30) == task.name
        until(lambda: ended(app))
    assert held == {"early": 0, "late": 1}


def test_what_early_acknowledgement_still_owes(app: Celeriac, pool: str) -> None:
    ran: list[Any] = []
    app.task(name="note")(lambda value: ran.append(value))

    @app.task(name="flaky", bind=True, acks_late=False, max_retries=1)
    def flaky(self: Any, fail: bool) -> str:
        if not self.request.retries:
            raise self.retry(countdown=0)
        if fail:
            raise ValueError("x")
        return "done"

    with LaneWorker(app, pool):
        note = app.signature("note")
        assert flaky.apply_async((False,), link=note).get(timeout=30) == "done"
        failed = flaky.apply_async((True,), link_error=note)
        with pytest.raises(ValueError, match="x"):
            failed.get(timeout=30)
        until(lambda: len(ran) == 2)
    assert ran == ["done", failed.id]


def test_an_early_one_runs_only_when_the_broker_has_confirmed(app: Celeriac, pool: str) -> None:
    ran: list[int] = []
    task = app.task(name="early", acks_late=False)(lambda n: ran.append(n))
    with LaneWorker(app, pool) as worker:
        worker.lane.processor.acknowledge = lambda job: False  # type: ignore[method-assign]
        for n in range(3):
            task.delay(n)
        until(lambda: worker.lane.backlog() == 0 and app.broker.depth("q") == 0)
    assert ran == []


# -- ends -------------------------------------------------------------------------------------------------


class Told(Task):  # type: ignore[type-arg]
    """Writes down which of its handlers was called."""

    abstract = True
    log: list[tuple[str, str]] = []

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.log.append((task_id, "before_start"))

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self.log.append((task_id, "on_success"))

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        assert einfo.exception is exc
        self.log.append((task_id, "on_failure"))

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.log.append((task_id, "on_retry"))

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        self.log.append((task_id, f"after_return {status}"))


SIGNALS = ["task_received", "task_prerun", "task_postrun", "task_success", "task_failure", "task_retry",
           "task_rejected", "task_revoked"]  # fmt: skip


@contextlib.contextmanager
def listening(log: list[tuple[str, str]]) -> Iterator[None]:
    def receiver(name: str) -> Any:
        def receive(sender: Any, **named: Any) -> None:
            request = named.get("request")
            task_id = named.get("task_id") or (request.id if request is not None else "?")
            state = f" {named['state']}" if "state" in named else ""
            log.append((task_id, name + state))

        return receive

    receivers = {name: receiver(name) for name in SIGNALS}
    for name, receive in receivers.items():
        getattr(signals, name).connect(receive)
    try:
        yield
    finally:
        for name, receive in receivers.items():
            getattr(signals, name).disconnect(receive)


START = ["task_received", "task_prerun", "before_start"]


GOOD = ["on_success", "after_return SUCCESS", "task_postrun SUCCESS"]
BAD = ["on_failure", "task_failure", "after_return FAILURE", "task_postrun FAILURE"]


@pytest.mark.parametrize(
    ("what", "state", "told"),
    [
        ("return", "SUCCESS", [*START, *GOOD]),
        ("fail", "FAILURE", [*START, *BAD]),
        ("exit", "FAILURE", [*START, *BAD]),
        ("ignore", "PENDING", [*START, "task_postrun IGNORED"]),
        ("reject", "FAILURE", [*START, "after_return FAILURE", "task_postrun FAILURE"]),
        ("retry", "SUCCESS", [*START, "on_retry", "task_retry", "task_postrun RETRY", *START, *GOOD]),
    ],
)
def test_handlers_and_signals_are_called_once_each(
    app: Celeriac, pool: str, what: str, state: str, told: list[str]
) -> None:
    log: list[tuple[str, str]] = []

    @app.task(name="end", base=Told, bind=True)
    def end(self: Any, what: str) -> str:
        if what == "fail":
            raise ValueError("x")
        if what == "exit":
            raise SystemExit(2)
        if what == "ignore":
            raise Ignore
        if what == "reject":
            raise Reject("no")
        if what == "retry" and not self.request.retries:
            raise self.retry(countdown=0)
        return "done"

    Told.log = log
    with listening(log), LaneWorker(app, pool):
        result = end.delay(what)
        until(
            lambda: (
                len([1 for _, name in log if name.startswith("task_postrun")])
                == (2 if what == "retry" else 1)
            )
        )
        until(lambda: ended(app))
        assert result.state == state
    counted = Counter(name for id_, name in log if id_ == result.id)
    assert counted == Counter(told)
    nameless = {"SUCCESS": ["task_success"], "reject": ["task_rejected"]}  # they carry no id
    assert [name for id_, name in log if id_ == "?"] == nameless.get(what, nameless.get(state, []))


def test_handlers_that_raise_change_nothing(app: Celeriac, pool: str) -> None:
    class Rude(Task):  # type: ignore[type-arg]
        abstract = True

        def on_success(self, *args: Any) -> None:
            raise SystemExit(1)

        on_failure = on_retry = after_return = on_success  # type: ignore[assignment]

    @app.task(name="polite", base=Rude, bind=True)
    def polite(self: Any, fail: bool) -> str:
        if not self.request.retries:
            raise self.retry(countdown=0)
        if fail:
            raise ValueError("x")
        return "done"

    def receive(**_: Any) -> None:
        raise KeyboardInterrupt

    signals.task_postrun.connect(receive)
    try:
        with LaneWorker(app, pool):
            assert polite.delay(False).get(timeout=30) == "done"
            with pytest.raises(ValueError, match="x"):
                polite.delay(True).get(timeout=30)
    finally:
        signals.task_postrun.disconnect(receive)


def test_a_rejected_call_comes_again_when_it_asks_for_that(app: Celeriac, pool: str) -> None:
    tries: list[int] = []

    @app.task(name="picky")
    def picky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise Reject("later", requeue=True)
        return "done"

    with LaneWorker(app, pool):
        assert picky.delay().get(timeout=30) == "done"
    assert len(tries) == 3


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_results_of_every_shape(app: Celeriac, pool: str, kind: str) -> None:
    values = [None, 0, "", [1, [2]], {"a": {"b": None}}, True, 1.5, "ü€"]

    def plain(n: int) -> Any:
        return values[n]

    async def coroutine(n: int) -> Any:
        await asyncio.sleep(0)
        return values[n]

    task = app.task(name=kind)(plain if kind == "plain" else coroutine)
    with LaneWorker(app, pool):
        assert [task.delay(n).get(timeout=30) for n in range(len(values))] == values


# -- limits -----------------------------------------------------------------------------------------------


def test_a_coroutine_may_catch_its_soft_limit_and_go_on(app: Celeriac, pool: str) -> None:
    @app.task(name="careful", soft_time_limit=0.1)
    async def careful() -> Any:
        try:
            await asyncio.gather(asyncio.sleep(60), asyncio.sleep(60))
        except SoftTimeLimitExceeded:
            current = asyncio.current_task()
            assert current is not None
            await asyncio.sleep(0.01)
            return current.cancelling()
        return "not limited"

    with LaneWorker(app, pool):
        assert careful.delay().get(timeout=30) == 0


@pytest.mark.parametrize("pool", ["threads", "asyncio"], indirect=True)
def test_soft_limits_hit_their_own_body_only(app: Celeriac, pool: str) -> None:
    """Bodies that end just when their limit rings, beside bodies that have none."""

    @app.task(name="edge", soft_time_limit=0.02)
    def edge(seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return "in time"

    @app.task(name="free")
    def free() -> str:
        sum(range(1000))
        return "free"

    with LaneWorker(app, pool, 3):
        edges = [edge.delay(0.0195 + n * 0.00005) for n in range(30)]
        others = [free.delay() for _ in range(200)]
        assert {result.get(timeout=20) for result in others} == {"free"}
        for result in edges:
            with contextlib.suppress(SoftTimeLimitExceeded):
                assert result.get(timeout=20) == "in time"
        assert free.delay().get(timeout=30) == "free"
        until(lambda: ended(app))


@pytest.mark.parametrize("pool", ["threads", "asyncio"], indirect=True)
def test_a_body_past_its_hard_limit_is_given_up(app: Celeriac, pool: str) -> None:
    release = threading.Event()
    told: list[Any] = []

    class Handled(Task):  # type: ignore[type-arg]
        abstract = True

        def on_failure(self, exc: Any, *args: Any) -> None:
            told.append((type(exc), threading.current_thread().name, _state.get_current_task().name))

    @app.task(name="stuck", base=Handled, time_limit=0.1)
    def stuck() -> None:
        release.wait(30)

    add = app.task(name="add")(lambda x, y: x + y)
    with LaneWorker(app, pool, 2) as worker:
        for result in [stuck.delay() for _ in range(6)]:
            with pytest.raises(TimeLimitExceeded):
                result.get(timeout=30)
        assert [add.delay(n, 1).get(timeout=30) for n in range(4)] == [1, 2, 3, 4]
        release.set()  # what was given up ends now, and nobody listens
        assert add.delay(1, 1).get(timeout=30) == 2
        assert worker.lane.backlog() == 0
    assert len(told) == 6
    assert {kind for kind, _, _ in told} == {TimeLimitExceeded}
    assert {thread for _, thread, _ in told}.isdisjoint({"courier"})
    assert {name for _, _, name in told} == {"stuck"}


# -- the end of a life ------------------------------------------------------------------------------------


def test_a_lane_that_has_run_enough_gives_the_rest_back(app: Celeriac, pool: str) -> None:
    ran: list[int] = []
    task = app.task(name="count", ignore_result=True)(lambda n: ran.append(n))
    for n in range(100):
        task.delay(n)
    worker = LaneWorker(app, pool, 1)
    worker.lane.max_tasks = 10
    worker.lane.pace = 0.0001  # so that much is fetched ahead
    with contextlib.ExitStack() as stack:
        stack.enter_context(worker)
        worker.join()
    assert 10 <= len(ran) <= 11
    assert len(set(ran)) == len(ran)
    assert app.broker.depth("q") == 100 - len(ran)
    assert app.broker.stats(["q"])[0].in_flight == 0


def test_running_bodies_end_before_the_lane_does(app: Celeriac, pool: str) -> None:
    started, release = threading.Event(), threading.Event()

    @app.task(name="slow")
    def slow() -> str:
        started.set()
        release.wait(10)
        return "done"

    with LaneWorker(app, pool, 1) as worker:
        result = slow.delay()
        assert started.wait(10)
        waiting = slow.delay()
        worker.lane.stop()
        release.set()
        worker.join()
    assert result.state == "SUCCESS"
    assert waiting.state == "PENDING"
    assert app.broker.depth("q") == 1


def test_coroutines_that_refuse_to_be_cancelled_do_not_keep_a_lane_alive(app: Celeriac, pool: str) -> None:
    @app.task(name="stubborn", time_limit=0.1)
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    begun = time.monotonic()
    with LaneWorker(app, pool), pytest.raises(TimeLimitExceeded):
        stubborn.delay().get(timeout=30)
    assert time.monotonic() - begun < 20


def test_deliveries_that_come_when_the_lane_has_ended_go_back(app: Celeriac, pool: str) -> None:
    task = app.task(name="nothing")(lambda: None)
    worker = LaneWorker(app, pool)
    worker.lane.stop()
    with worker:
        worker._main.join(10)
        task.delay()
        (delivery,) = worker.courier.consumer.exchange((), 1).deliveries
        worker.lane.put([delivery])
    assert app.broker.depth("q") == 1
