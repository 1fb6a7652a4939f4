"""`Task.retry` and `autoretry_for`: what is raised, when, and what the worker publishes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.app.conftest import Sent

from celeriac import Celeriac, _state
from celeriac.brokers.base import Delivery, Outgoing
from celeriac.exceptions import Ignore, MaxRetriesExceededError, Retry
from celeriac.execution.call import Context, context_of
from celeriac.wire import protocol
from celeriac.wire.message import Message
from celeriac.wire.protocol import Call

JSON = frozenset({"application/json"})


@pytest.fixture
def task(app: Celeriac) -> Any:
    @app.task(name="x", bind=True, max_retries=3, default_retry_delay=7)
    def task(self: Any, *args: Any, **kwargs: Any) -> None: ...

    app.finalize()
    return task


def running(task: Any, **request: Any) -> Context:
    """Make `task` the running call of this context."""
    context = Context(id="a-1", args=(1,), kwargs={"k": 2}, called_directly=False, **request)
    _state.running.set((task, context))
    return context


@pytest.fixture(autouse=True)
def _nothing_runs() -> Any:
    token = _state.running.set(None)
    yield
    _state.running.reset(token)


def test_retry_raises_and_says_when(task: Any) -> None:
    running(task)
    cause = ValueError("why")
    with pytest.raises(Retry) as caught:
        task.retry(exc=cause, countdown=3, queue="elsewhere")
    retry = caught.value
    assert (retry.when, retry.exc) == (3, cause)
    assert retry.options == {"countdown": 3, "args": None, "kwargs": None, "queue": "elsewhere"}
    assert str(retry) == "Retry in 3s: ValueError('why')"


def test_retry_waits_for_the_tasks_own_delay_unless_told(task: Any) -> None:
    running(task)
    with pytest.raises(Retry) as caught:
        task.retry()
    assert caught.value.when == 7
    eta = datetime(2030, 1, 1, tzinfo=UTC)
    with pytest.raises(Retry) as caught:
        task.retry(eta=eta)
    assert caught.value.when == eta


def test_tries_are_counted(task: Any) -> None:
    running(task, retries=3)
    with pytest.raises(
        MaxRetriesExceededError, match=r"Can't retry x\[a-1\] args:\(1,\) kwargs:{'k': 2}"
    ) as caught:
        task.retry()
    assert caught.value.task_args == (1,)
    with pytest.raises(KeyError, match="why"):
        task.retry(exc=KeyError("why"))
    with pytest.raises(Retry):
        task.retry(max_retries=4)
    task.max_retries = None
    with pytest.raises(Retry):
        task.retry()


def test_nothing_is_retried_in_process(task: Any) -> None:
    with pytest.raises(Retry, match="can be retried"):
        task.retry()
    with pytest.raises(KeyError):
        task.retry(exc=KeyError("why"))


def test_without_throwing_the_next_try_is_published_at_once(app: Celeriac, task: Any, sent: Sent) -> None:
    running(
        task,
        delivery_info={"exchange": "", "routing_key": "there"},
        root_id="root",
        headers={"x": 1, "id": "a-1"},
    )
    retry = task.retry(throw=False, countdown=0, args=(9,))
    assert isinstance(retry, Retry)
    call = sent.one("there")
    assert (call.id, call.args, call.kwargs, call.retries) == ("a-1", [9], {"k": 2}, 1)
    assert (call.root_id, call.parent_id, call.headers["x"]) == ("root", "a-1", 1)


# -- what the worker publishes ----------------------------------------------------------------------------


def delivered(app: Celeriac, task: Any, **options: Any) -> tuple[Call, Delivery]:
    """A call of `task` as a worker gets it."""
    prepared = app.producer.prepare("x", (1,), {"k": 2}, {"task_id": "a-1", "queue": "q", **options}, task)
    message = prepared.outgoing.message
    return protocol.read(message, JSON), Delivery("q", 1, message)


def next_try(app: Celeriac, task: Any, *, delivery: Any = None, **retry: Any) -> tuple[Outgoing, Call]:
    call, delivery = delivery or delivered(app, task)
    _state.running.set((task, context_of(call, "w1@host")))
    with pytest.raises(Retry) as caught:
        task.retry(**retry)
    outgoing = app.producer.retry(call, delivery, caught.value)
    assert isinstance(outgoing.message, Message)
    return outgoing, protocol.read(outgoing.message, JSON)


def test_the_next_try_is_the_same_call_in_the_same_queue(app: Celeriac, task: Any) -> None:
    before = delivered(
        app, task, link=task.s(1), chain=[task.s(2)], headers={"x": 1}, group_id="g", priority=6, expires=600
    )
    outgoing, call = next_try(app, task, delivery=before, countdown=30)
    assert (outgoing.queue, outgoing.countdown, outgoing.due, outgoing.priority) == ("q", 30, None, 6)
    was = before[0]
    kept = ("id", "name", "args", "kwargs", "callbacks", "chain", "group", "root_id", "expires")
    assert [getattr(call, name) for name in kept] == [getattr(was, name) for name in kept]
    assert (call.retries, call.parent_id, call.headers["x"]) == (1, "a-1", 1)
    assert call.eta is not None
    assert abs(call.eta - time.time() - 30) < 5
    assert call.properties["delivery_info"] == {"exchange": "", "routing_key": "q"}


def test_the_next_try_may_be_at_once_or_at_a_moment(app: Celeriac, task: Any) -> None:
    outgoing, call = next_try(app, task, countdown=0)
    assert (outgoing.countdown, outgoing.due, call.eta) == (None, None, None)
    eta = datetime.now(UTC) + timedelta(minutes=1)
    outgoing, call = next_try(app, task, eta=eta)
    assert outgoing.due == call.eta == pytest.approx(eta.timestamp())


def test_the_next_try_may_have_other_arguments_limits_and_queue(app: Celeriac, task: Any) -> None:
    outgoing, call = next_try(
        app, task, args=(5,), kwargs={}, queue="slow", time_limit=9, priority=3, headers={"y": 2}, expires=60
    )
    assert (outgoing.queue, outgoing.priority) == ("slow", 3)
    assert (call.args, call.kwargs, call.hard, call.headers["y"]) == ([5], {}, 9, 2)
    assert call.expires is not None
    assert call.properties["delivery_info"]["routing_key"] == "slow"


def test_the_next_try_may_be_written_anew(app: Celeriac, task: Any) -> None:
    before = delivered(app, task, headers={"x": 1}, link=task.s(1), root_id="root")
    outgoing, call = next_try(app, task, delivery=before, link=[task.s(8)], shadow="other", countdown=5)
    assert (outgoing.queue, outgoing.countdown) == ("q", 5)
    assert [link["args"] for link in call.callbacks or ()] == [[8]]
    assert (call.id, call.retries, call.parent_id, call.root_id) == ("a-1", 1, "a-1", "root")
    assert (call.headers["shadow"], call.headers["x"], call.args) == ("other", 1, [1])


@pytest.mark.parametrize(("when", "countdown"), [(4, 4), (None, 7)])
def test_a_retry_raised_by_hand_is_a_retry(app: Celeriac, task: Any, when: Any, countdown: float) -> None:
    call, delivery = delivered(app, task)
    outgoing = app.producer.retry(call, delivery, Retry(when=when))
    assert outgoing.countdown == countdown
    assert protocol.read(outgoing.message, JSON).retries == 1


# -- autoretry --------------------------------------------------------------------------------------------


def raising(app: Celeriac, exc: BaseException, **options: Any) -> Any:
    @app.task(name="auto", bind=True, **options)
    def auto(self: Any) -> None:
        raise exc

    app.finalize()
    return auto


def outcome(task: Any, **request: Any) -> BaseException:
    running(task, **request)
    try:
        task.run()
    except BaseException as exc:  # whatever it is, the test looks at it
        return exc
    raise AssertionError("the body has not raised")


def test_autoretry_turns_listed_exceptions_into_retries(app: Celeriac) -> None:
    task = raising(
        app, ValueError("x"), autoretry_for=(ValueError,), retry_kwargs={"countdown": 4, "max_retries": 1}
    )
    retry = outcome(task)
    assert isinstance(retry, Retry)
    assert (retry.when, repr(retry.exc)) == (4, "ValueError('x')")
    assert isinstance(outcome(task, retries=1), ValueError)


@pytest.mark.parametrize("exc", [KeyError("no"), Ignore(), Retry(when=1)])
def test_autoretry_leaves_the_others_alone(app: Celeriac, exc: BaseException) -> None:
    task = raising(app, exc, autoretry_for=(Exception,), dont_autoretry_for=(LookupError,))
    assert outcome(task) is exc


def test_autoretry_backs_off(app: Celeriac) -> None:
    task = raising(
        app,
        OSError(),
        autoretry_for=OSError,
        retry_backoff=2,
        retry_backoff_max=9,
        retry_jitter=False,
        max_retries=9,
    )
    waits = [outcome(task, retries=n) for n in range(4)]
    assert [wait.when for wait in waits if isinstance(wait, Retry)] == [2, 4, 8, 9]


def test_what_was_given_up_is_not_retried_again(app: Celeriac) -> None:
    @app.task(name="auto", bind=True, autoretry_for=(ValueError,), max_retries=9)
    def auto(self: Any) -> None:
        raise self.retry(exc=ValueError("x"), max_retries=2)

    app.finalize()
    assert isinstance(outcome(auto, retries=1), Retry)
    assert isinstance(outcome(auto, retries=2), ValueError)


def test_autoretry_of_coroutines(app: Celeriac) -> None:
    @app.task(name="auto", autoretry_for=(ValueError,), max_retries=1, retry_backoff=True)
    async def auto() -> None:
        raise ValueError("x")

    result = auto.apply()
    assert result.state == "FAILURE"
    assert isinstance(result.result, ValueError)


def test_in_process_the_exception_itself_comes_out(app: Celeriac) -> None:
    task = raising(app, ValueError("x"), autoretry_for=(ValueError,))
    with pytest.raises(ValueError, match="x"):
        task()
