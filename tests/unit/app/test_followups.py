"""What a worker publishes with an acknowledgement: links, chains, errbacks."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.app.conftest import Sent

from celeriac import Celeriac, group
from celeriac.app.followups import derived_id
from celeriac.brokers.base import Outgoing
from celeriac.exceptions import RemoteError
from celeriac.execution.call import context_of
from celeriac.execution.conclude import Conclusion, Policy, conclude
from celeriac.execution.outcome import FAILED, SUCCEEDED, Outcome
from celeriac.wire import protocol
from celeriac.wire.protocol import Call

JSON = frozenset({"application/json"})
OK = Outcome(SUCCEEDED, 42)
BAD = Outcome(FAILED, None, KeyError("x"), "Traceback: …")


@pytest.fixture
def task(app: Celeriac) -> Any:
    @app.task(name="x")
    def task(*args: Any) -> None: ...

    app.finalize()
    return task


def follow(app: Celeriac, outcome: Outcome, **options: Any) -> tuple[list[Call], Any, list[Outgoing]]:
    """End a call of `x` with `outcome`; what follows, and the context it left."""
    prepared = app.producer.prepare("x", (), {}, {"task_id": "a-1", "root_id": "root", **options}, None)
    call = protocol.read(prepared.outgoing.message, JSON)
    context = context_of(call, "w1@host")
    outgoing, _ = app.producer.followups(call, context, conclude(call, Policy(), outcome))
    return [protocol.read(one.message, JSON) for one in outgoing], context, outgoing


def test_links_get_the_result(app: Celeriac, task: Any) -> None:
    calls, context, _ = follow(app, OK, link=[task.s(1), task.si(2).set(queue="q")])
    assert [call.args for call in calls] == [[42, 1], [2]]
    assert {(call.parent_id, call.root_id) for call in calls} == {("a-1", "root")}
    assert calls[1].properties["delivery_info"]["routing_key"] == "q"
    assert [child.id for child in context.children] == [call.id for call in calls]


def test_the_next_step_of_a_chain_carries_the_rest(app: Celeriac, task: Any) -> None:
    last, following = task.s("last").set(task_id="third"), task.s("second").set(task_id="second")
    calls, _, _ = follow(app, OK, chain=[last, following])
    assert [(call.id, call.args) for call in calls] == [("second", [42, "second"])]
    assert [step["options"]["task_id"] for step in calls[0].chain or ()] == ["third"]
    calls, _, _ = follow(app, OK, chain=[last])
    assert [(call.id, call.chain) for call in calls] == [("third", None)]


def test_a_link_may_be_a_group(app: Celeriac, task: Any) -> None:
    calls, _, _ = follow(app, OK, link=group(task.s(1), task.s(2)))
    assert [call.args for call in calls] == [[42, 1], [42, 2]]
    assert calls[0].group == calls[1].group is not None


def test_failures_call_errbacks_and_nothing_else(app: Celeriac, task: Any) -> None:
    calls, context, _ = follow(
        app, BAD, link=[task.s()], chain=[task.s()], link_error=[app.signature("far.away", (7,))]
    )
    assert [(call.name, call.args) for call in calls] == [("far.away", ["a-1", 7])]
    assert context.children == []


def test_errbacks_with_several_parameters_get_the_failure(app: Celeriac) -> None:
    seen: list[Any] = []

    @app.task(name="errback", queue="not this one")
    def errback(request: Any, exc: Any, traceback: Any, extra: int) -> None:
        seen.append((request.id, request.task, exc, traceback, extra))

    app.finalize()
    calls, _, _ = follow(app, BAD, link_error=[errback.s(5).set(queue="errors")])
    (call,) = calls
    assert call.name == "celeriac.errback"
    assert call.properties["delivery_info"]["routing_key"] == "errors"
    assert call.ignore_result
    app.tasks[call.name].apply(call.args, call.kwargs, throw=True)
    (request_id, name, exc, traceback, extra) = seen[0]
    assert (request_id, name, traceback, extra) == ("a-1", "x", "Traceback: …", 5)
    assert isinstance(exc, KeyError | RemoteError)


def test_an_errback_may_need_keywords_besides(app: Celeriac) -> None:
    @app.task(name="errback")
    def errback(request: Any, exc: Any, traceback: Any, *, extra: int) -> None: ...

    app.finalize()
    (call,), _, _ = follow(app, BAD, link_error=[errback.s(extra=5)])
    assert call.name == "celeriac.errback"


def test_immutable_errbacks_get_nothing(app: Celeriac, task: Any) -> None:
    calls, _, _ = follow(app, BAD, link_error=[task.si(7)])
    assert [call.args for call in calls] == [[7]]


def test_made_twice_they_are_the_same(app: Celeriac, task: Any) -> None:
    options = {"link": [task.s(1), task.s(2)], "chain": [task.s(3)]}
    first, _, _ = follow(app, OK, **options)
    second, _, _ = follow(app, OK, **options)
    assert [call.id for call in first] == [call.id for call in second]
    assert len({call.id for call in first}) == 3
    assert derived_id("a", "x") == derived_id("a", "x") != derived_id("b", "x")


def test_priority_is_inherited_when_asked_for(app: Celeriac, task: Any) -> None:
    app.conf.task_inherit_parent_priority = True
    _, _, outgoing = follow(app, OK, link=[task.s()], priority=6)
    assert outgoing[0].priority == 6


def test_a_link_that_is_no_signature_is_an_error(app: Celeriac, task: Any) -> None:
    call = protocol.read(app.producer.prepare("x", (), {}, {}, None).outgoing.message, JSON)
    conclusion = Conclusion("SUCCESS", 1, callbacks=[{"task": "x", "args": 3}])
    with pytest.raises(ValueError, match="not a signature"):
        app.producer.followups(call, context_of(call, "h"), conclusion)


def test_builtin_tasks(app: Celeriac, sent: Sent) -> None:
    @app.task(name="double")
    def double(n: int) -> int:
        return 2 * n

    @app.task(name="add")
    async def add(x: int, y: int) -> int:
        return x + y

    tasks = app.tasks
    assert tasks["celery.map"].apply((dict(double.s()), [1, 2])).get() == [2, 4]
    assert tasks["celery.starmap"].apply((dict(add.s()), [(1, 2), (3, 4)])).get() == [3, 7]
    assert tasks["celery.chunks"].apply((dict(add.s()), [(1, 2), (3, 4), (5, 6)], 2)).get() == [[3, 7], [11]]
    assert tasks["celery.accumulate"].apply((1, 2), {"index": 1}).get() == 2
    assert tasks["celery.accumulate"].apply((1, 2)).get() == (1, 2)
    assert tasks["celery.backend_cleanup"].apply().get() == 0
    assert tasks["celery.chord"].apply().state == "FAILURE"
    tasks["celery.group"].apply(([dict(double.s()), dict(double.s())], "r", "g-1", [5]), task_id="a").get()
    assert [(call.args, call.group, call.parent_id) for call in sent.calls()] == [([5], "g-1", "a")] * 2
