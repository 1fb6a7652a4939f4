"""`apply` and `task_always_eager`: what a worker would do, here and now."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.app.conftest import Sent

from celeriac import Celeriac, Task, signals, states
from celeriac.exceptions import EncodeError, Ignore, Reject, Retry


class Recording(Task[..., Any]):
    """Writes down every hook that is called."""

    abstract = True
    calls: list[tuple[Any, ...]]

    def __init__(self) -> None:
        self.calls = []

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.calls.append(("before_start", task_id, args, kwargs))

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self.calls.append(("on_success", retval))

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.calls.append(("on_retry", repr(exc), einfo.type))

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.calls.append(("on_failure", repr(exc), "Traceback" in str(einfo)))

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        self.calls.append(("after_return", status))


def test_the_result_is_ready(app: Celeriac) -> None:
    @app.task(name="x")
    def add(x: int, y: int) -> int:
        return x + y

    result = add.apply((1, 2), task_id="a-1")
    assert (result.id, result.state, result.get(), result.name) == ("a-1", "SUCCESS", 3, "x")


def test_the_request_says_that_it_is_eager(app: Celeriac) -> None:
    @app.task(bind=True)
    def probe(self: Any, *args: Any) -> Any:
        return self.request

    request = probe.apply((1,), task_id="a-1", headers={"h": 1}, retries=2, priority=4).get()
    assert (request.id, request.args, request.retries, request.headers) == ("a-1", (1,), 2, {"h": 1})
    assert request.is_eager
    assert not request.called_directly
    assert request.root_id == "a-1"
    assert request.delivery_info["priority"] == 4


@pytest.mark.parametrize(
    ("exc", "state"),
    [
        (KeyError("x"), states.FAILURE),
        (Ignore(), states.IGNORED),
        (Reject("no"), states.REJECTED),
        (Retry(when=1), states.RETRY),
    ],
)
def test_every_end_has_its_state(app: Celeriac, exc: Exception, state: str) -> None:
    @app.task
    def probe() -> None:
        raise exc

    result = probe.apply()
    assert (result.state, result.result) == (state, exc)


def test_failures_propagate_when_asked(app: Celeriac) -> None:
    @app.task
    def probe() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        probe.apply(throw=True)
    app.conf.task_eager_propagates = True
    with pytest.raises(KeyError):
        probe.apply()
    assert "KeyError" in str(probe.apply(throw=False).traceback)


def test_exits_mean_this_process(app: Celeriac) -> None:
    @app.task
    def probe() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        probe.apply()


def test_retries_run_at_once_and_keep_the_id(app: Celeriac) -> None:
    seen = []

    @app.task(bind=True, max_retries=2)
    def probe(self: Any, n: int) -> int:
        seen.append((self.request.id, self.request.retries, n))
        if self.request.retries < 2:
            raise self.retry(countdown=100, args=(n + 1,))
        return n

    assert probe.apply((0,), task_id="a").get() == 2
    assert seen == [("a", 0, 0), ("a", 1, 1), ("a", 2, 2)]


def test_hooks_are_called_in_order(app: Celeriac) -> None:
    @app.task(base=Recording, bind=True, max_retries=1)
    def probe(self: Any, fail: bool = False) -> str:
        if fail:
            raise self.retry(exc=ValueError("x"))
        return "fine"

    probe.apply(task_id="a")
    assert probe.calls == [("before_start", "a", (), {}), ("on_success", "fine"), ("after_return", "SUCCESS")]  # type: ignore[attr-defined]
    probe.calls.clear()  # type: ignore[attr-defined]
    probe.apply((True,), task_id="b")
    names = [call[0] for call in probe.calls]  # type: ignore[attr-defined]
    assert names == ["before_start", "on_retry", "after_return", "before_start", "on_failure", "after_return"]
    assert probe.calls[-2] == ("on_failure", "ValueError('x')", True)  # type: ignore[attr-defined]


def test_a_broken_hook_ends_nothing(app: Celeriac, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(app.Task):  # type: ignore[name-defined, misc]
        def on_success(self, *args: Any) -> None:
            raise ValueError("broken hook")

    @app.task(base=Broken)
    def probe() -> int:
        return 1

    assert probe.apply().get() == 1
    assert "broken hook" in caplog.text


def test_signals_are_sent(app: Celeriac) -> None:
    seen: list[tuple[str | None, Any]] = []

    def receive(signal: Any, sender: Any, **named: Any) -> None:
        seen.append((signal.name, named.get("state")))

    watched = (signals.task_prerun, signals.task_success, signals.task_failure, signals.task_postrun)
    for signal in watched:
        signal.connect(receive)

    @app.task
    def probe(fail: bool) -> None:
        if fail:
            raise KeyError

    try:
        probe.apply((False,))
        probe.apply((True,))
    finally:
        for signal in watched:
            signal.disconnect(receive)
    assert [name for name, _ in seen] == [
        "task_prerun", "task_success", "task_postrun", "task_prerun", "task_failure", "task_postrun",
    ]  # fmt: skip
    assert seen[-1][1] == "FAILURE"


def test_links_and_errbacks_follow(app: Celeriac) -> None:
    app.conf.task_always_eager = True
    seen: list[Any] = []

    @app.task
    def note(*args: Any) -> None:
        seen.append(args)

    @app.task
    def old_errback(task_id: str) -> None:
        seen.append(task_id)

    @app.task
    def new_errback(request: Any, exc: Any, traceback: str) -> None:
        seen.append((request.id, repr(exc), "KeyError" in traceback))

    @app.task
    def probe(fail: bool = False) -> int:
        if fail:
            raise KeyError("x")
        return 1

    probe.apply_async(link=[note.s(9), note.si("still")])
    assert seen == [(1, 9), ("still",)]
    seen.clear()
    probe.apply_async((True,), link=note.s(), link_error=[old_errback.s(), new_errback.s()], task_id="a")
    assert seen == ["a", ("a", "KeyError('x')", True)]


def test_always_eager_shows_what_a_worker_would_get(app: Celeriac, sent: Sent) -> None:
    app.conf.task_always_eager = True

    @app.task
    def probe(value: Any) -> Any:
        return value

    assert probe.delay((1, {2: "x"})).get() == [1, {"2": "x"}]
    assert [result.get() for result in probe.apply_many([(1,), (2,)])] == [1, 2]
    with pytest.raises(EncodeError):
        probe.delay(object())
    assert sent.messages() == []


def test_eager_results_can_be_stored(app: Celeriac) -> None:
    app.conf.task_store_eager_result = True

    @app.task
    def probe() -> int:
        return 5

    probe.apply(task_id="kept")
    assert app.AsyncResult("kept").get(timeout=1) == 5


def test_coroutines_run_to_their_end(app: Celeriac) -> None:
    @app.task(bind=True)
    async def probe(self: Any, n: int) -> tuple[int, str]:
        await asyncio.sleep(0)
        return n, self.request.id

    assert probe.apply((1,), task_id="a").get() == (1, "a")

    async def inside_a_loop() -> Any:
        return probe.apply((2,), task_id="b").get()

    assert asyncio.run(inside_a_loop()) == (2, "b")
    assert asyncio.run(probe(3)) == (3, None)


def test_requests_of_nested_calls_do_not_mix(app: Celeriac) -> None:
    @app.task(name="inner", bind=True)
    def inner(self: Any) -> Any:
        return self.request.called_directly, outer.request.id

    @app.task(name="outer", bind=True)
    def outer(self: Any) -> Any:
        return inner(), self.request.id

    assert outer.apply(task_id="o").get() == ((True, "o"), "o")
    assert outer.request.called_directly
    outer.push_request(id="pushed")
    assert outer.request.id == "pushed"
    outer.pop_request()
    assert outer.request.id is None


def test_update_state_stores_a_state(app: Celeriac) -> None:
    @app.task(bind=True)
    def probe(self: Any) -> str:
        self.update_state(state="PROGRESS", meta={"done": 3})
        return str(app.AsyncResult(self.request.id).state)

    assert probe.apply(task_id="a").get() == "PROGRESS"
    assert app.AsyncResult("a").info == {"done": 3}
    probe.update_state("b", "HALF")
    assert app.AsyncResult("b").state == "HALF"
    with pytest.raises(ValueError, match="needs a task_id"):
        probe()


def test_a_running_task_is_replaced_by_another(app: Celeriac) -> None:
    @app.task
    def other(n: int) -> int:
        return n * 10

    @app.task(bind=True)
    def probe(self: Any, n: int) -> Any:
        return self.replace(other.s(n))

    assert probe.apply((4,)).get() == 40


def test_a_replacement_takes_over_the_call(app: Celeriac, sent: Sent) -> None:
    @app.task(name="other")
    def other(n: int) -> None: ...

    @app.task(name="probe", bind=True)
    def probe(self: Any) -> None:
        self.request.is_eager = False  # as in a worker
        self.replace(other.s(1) | other.s())

    result = probe.apply(
        task_id="a", link=other.s(), chain=[other.s(7).freeze and dict(other.s())], group_id="g"
    )
    assert result.state == "IGNORED"
    call = sent.one()
    assert call.chain is not None
    assert [step["task"] for step in call.chain] == ["other", "other"]
    last = call.chain[-1]
    assert (last["options"]["task_id"], last["options"]["group_id"]) == ("a", "g")
    assert last["options"]["link"][0]["task"] == "other"
