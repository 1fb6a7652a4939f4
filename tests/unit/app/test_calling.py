"""From a call to a message: arguments, options, parents, batches, signals."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

import pytest
from tests.unit.app.conftest import Sent

from celeriac import Celeriac, group
from celeriac.app.ids import reply_id
from celeriac.exceptions import AlwaysEagerIgnored, EncodeError, OperationalError
from celeriac.signals import after_task_publish, before_task_publish


@pytest.fixture
def add(app: Celeriac) -> Any:
    @app.task(name="proj.add")
    def add(x: int, y: int = 1) -> int:
        return x + y

    return add


def test_delay_publishes_the_call(add: Any, sent: Sent) -> None:
    result = add.delay(1, y=2)
    call = sent.one()
    assert (call.id, call.name, call.args, call.kwargs) == (result.id, "proj.add", [1], {"y": 2})
    assert (call.root_id, call.parent_id, call.retries, call.ignore_result) == (result.id, None, 0, False)
    assert call.reply_to == reply_id() == add.app.oid
    assert call.properties["delivery_info"] == {"exchange": "", "routing_key": "celery"}


@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        ((), {}, r"proj\.add\(\) missing 1 required positional argument: 'x'"),
        ((1, 2, 3), {}, "takes from 1 to 2 positional arguments but 3 were given"),
        ((1,), {"z": 3}, "unexpected keyword argument 'z'"),
        ((1,), {"x": 3}, "multiple values for argument 'x'"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(
    add: Any, sent: Sent, args: Any, kwargs: Any, reason: str
) -> None:
    for publish in (add.apply_async, lambda *call: add.apply_many([call])):
        with pytest.raises(TypeError, match=reason):
            publish(args, kwargs)
    assert sent.messages() == []


def test_a_string_is_no_list_of_arguments(add: Any) -> None:
    with pytest.raises(TypeError, match="must be a list or tuple, not str"):
        add.apply_async("a")


def test_argument_checks_can_be_switched_off() -> None:
    app = Celeriac("proj", broker="memory://loose", strict_typing=False)

    @app.task(name="loose")
    def loose(x: int) -> None: ...

    @app.task(name="strict", typing=True)
    def strict(x: int) -> None: ...

    assert loose.delay().id  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        strict.delay()  # type: ignore[call-arg]


def test_keyword_only_parameters_are_checked(app: Celeriac) -> None:
    @app.task
    def probe(*, k: int) -> None: ...

    with pytest.raises(TypeError, match="keyword-only argument: 'k'"):
        probe.delay()  # type: ignore[call-arg]
    assert probe.delay(k=1).id


def test_what_a_decorator_adds_is_not_asked_of_the_caller(app: Celeriac, sent: Sent) -> None:
    def with_database(fun: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(fun)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return fun("database", *args, **kwargs)

        return wrapper

    @app.task(bind=True)
    def bound(self: Any, n: int) -> None: ...

    @app.task(autoretry_for=(ValueError,))
    @with_database
    def probe(database: str, n: int) -> tuple[str, int]:
        return database, n

    assert probe.delay(1).id
    assert probe(2) == ("database", 2)
    with pytest.raises(TypeError, match="missing 1 required"):
        bound.delay()


def test_every_option_finds_its_place(add: Any, sent: Sent) -> None:
    add.apply_async(
        (1,),
        task_id="my-id",
        link=add.s(10),
        link_error=[add.si(1, 1)],
        shadow="alias",
        expires=60,
        priority=3,
        headers={"x": 1},
        time_limit=30,
        soft_time_limit=20,
        ignore_result=True,
        reply_to="rq",
        root_id="root",
        parent_id="parent",
        group_id="group",
        group_index=4,
        argsrepr="(hidden)",
        delivery_mode="transient",
        replaced_task_nesting=2,
        periodic_task_name="nightly",
    )
    call = sent.one()
    headers, properties = call.headers, call.properties
    assert call.id == properties["correlation_id"] == "my-id"
    assert [link["task"] for link in call.callbacks or ()] == ["proj.add"]
    assert [link["immutable"] for link in call.errbacks or ()] == [True]
    assert (headers["shadow"], headers["x"], headers["argsrepr"]) == ("alias", 1, "(hidden)")
    assert (call.hard, call.soft, call.ignore_result, call.reply_to) == (30, 20, True, "rq")
    assert (call.root_id, call.parent_id, call.group, call.group_index) == ("root", "parent", "group", 4)
    assert headers["replaced_task_nesting"] == 2
    assert properties["priority"] == 3
    assert properties["delivery_mode"] == 1
    assert properties["expiration"] == "60000"
    assert properties["periodic_task_name"] == "nightly"


def test_serializer_and_compression(add: Any, sent: Sent) -> None:
    add.apply_async((1,), serializer="pickle", compression="gzip")
    (message,) = sent.messages()
    assert message.content_type == "application/x-python-serialize"
    assert message.headers["compression"] == "application/x-gzip"
    assert sent.one().args == (1,)


def test_compression_of_all_messages_is_a_setting(app: Celeriac, add: Any, sent: Sent) -> None:
    app.conf.task_compression = "zlib"
    add.delay(1)
    assert "compression" in sent.messages()[0].headers


def test_attributes_of_the_task_are_options_of_its_calls(app: Celeriac) -> None:
    @app.task(queue="q", priority=6, time_limit=9, expires=5, ignore_result=True)
    def probe() -> None: ...

    assert probe.delay().ignored
    probe.apply_async(priority=0, expires=None)
    first, second = Sent(app).calls("q")[::-1]
    assert (first.properties["priority"], first.hard, first.ignore_result) == (6, 9, True)
    assert first.expires is not None
    assert second.properties["priority"] == 0
    assert second.expires is None


def test_changing_a_task_changes_its_next_call(add: Any, sent: Sent) -> None:
    add.delay(1)
    add.ignore_result = True
    add.queue = "other"
    add.delay(2)
    assert sent.one("other").ignore_result is True


def test_countdown_and_eta_wait_in_the_broker(app: Celeriac, add: Any, sent: Sent) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    add.apply_async((1,), countdown=60)
    add.apply_async((2,), eta=soon)
    add.apply_async((3,), eta=soon.replace(tzinfo=None))
    add.apply_async((4,), countdown=timedelta(seconds=60))
    add.apply_async((5,), countdown=-1)
    assert app.broker.stats(["celery"])[0].delayed == 4
    assert sent.one().args == [5]


def test_a_naive_eta_is_in_the_apps_zone(app: Celeriac, add: Any) -> None:
    app.conf.timezone = "Asia/Tokyo"
    naive = datetime.now(app.timezone).replace(tzinfo=None) + timedelta(seconds=90)
    prepared = app.producer.prepare("proj.add", (1,), {}, {"eta": naive}, add)
    due = prepared.outgoing.due
    assert due is not None
    assert 60 < due - datetime.now(UTC).timestamp() < 120
    assert prepared.outgoing.message.headers["eta"].endswith("+09:00")


def test_a_soft_limit_beyond_the_hard_one_is_refused(add: Any) -> None:
    with pytest.raises(ValueError, match=r"soft_time_limit \(9 s\) is longer than time_limit \(5 s\)"):
        add.apply_async((1,), soft_time_limit=9, time_limit=5)


@pytest.mark.parametrize(
    ("wrong", "right"), [("count_down", "countdown"), ("que ue", "queue"), ("expire", "expires")]
)
def test_a_misspelt_option_is_refused(add: Any, sent: Sent, wrong: str, right: str) -> None:
    with pytest.raises(TypeError, match=f"Did you mean '{right}'"):
        add.apply_async((1,), **{wrong: 1})
    assert sent.messages() == []


def test_what_cannot_be_serialised_is_an_error_at_the_call(add: Any) -> None:
    with pytest.raises(EncodeError):
        add.delay(object())


def test_send_task_needs_no_task(app: Celeriac, sent: Sent) -> None:
    result = app.send_task("far.away", [1], {"a": None}, countdown=None, queue="q2", task_id="x")
    call = sent.one("q2")
    assert (call.id, call.name, call.args, call.kwargs) == (result.id, "far.away", [1], {"a": None})
    assert call.ignore_result is None


def test_send_task_says_that_it_is_not_eager(app: Celeriac) -> None:
    app.conf.task_always_eager = True
    with pytest.warns(AlwaysEagerIgnored):
        app.send_task("far.away")


def test_apply_many_is_one_batch(
    app: Celeriac, add: Any, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    publish = app.broker.publish
    monkeypatch.setattr(
        app.broker, "publish", lambda batch, timeout: (batches.append(len(batch)), publish(batch))[1]
    )
    results = add.apply_many([(1, 2), ((3,), {"y": 4}), [5]])
    assert batches == [3]
    assert {result.id: None for result in results}.keys() == {call.id for call in sent.calls()}
    assert sorted((call.args, call.kwargs) for call in sent.calls()) == [
        ([1, 2], {}),
        ([3], {"y": 4}),
        ([5], {}),
    ]
    assert add.apply_many([]) == []


def test_apply_many_takes_options_for_all(add: Any, sent: Sent) -> None:
    add.apply_many([(1,), (2,)], queue="bulk", headers={"x": 1})
    assert [call.headers["x"] for call in sent.calls("bulk")] == [1, 1]
    with pytest.raises(TypeError, match="pairs or tuples"):
        add.apply_many([1])


def test_a_group_is_one_batch_and_its_arguments_are_checked(app: Celeriac, add: Any, sent: Sent) -> None:
    result = group(add.s(n) for n in range(3)).apply_async()
    calls = sent.calls()
    assert {call.group for call in calls} == {result.id}
    assert sorted(call.group_index or 0 for call in calls) == [0, 1, 2]
    with pytest.raises(TypeError, match="takes from 1 to 2"):
        group(add.s(1, 2, 3), add.s(1)).apply_async()
    assert len(sent.calls()) == 3


def test_calls_made_by_a_running_task_are_its_children(app: Celeriac, add: Any, sent: Sent) -> None:
    @app.task(bind=True)
    def parent(self: Any) -> list[str]:
        first = add.delay(1)
        add.apply_async((2,), add_to_parent=False)
        add.apply_many([(3,)])
        group(add.s(4), add.s(5)).apply_async(add_to_parent=False)
        assert [child.id for child in self.request.children] == [first.id]
        return [self.request.id]

    (parent_id,) = parent.apply(task_id="parent").get()
    calls = sent.calls()
    assert len(calls) == 5
    assert {(call.root_id, call.parent_id) for call in calls} == {("parent", parent_id)}


def test_in_process_calls_are_nobodys_parents(app: Celeriac, add: Any, sent: Sent) -> None:
    @app.task
    def inner() -> None:
        add.delay(1)

    @app.task
    def outer() -> None:
        inner()

    inner()
    outer.apply(task_id="outer")
    assert [call.parent_id for call in sent.calls()] == [None, "outer"]


def test_priority_is_inherited_when_asked_for(app: Celeriac, add: Any) -> None:
    app.conf.task_inherit_parent_priority = True

    @app.task
    def parent() -> None:
        add.delay(1)
        group(add.s(2), add.s(3)).apply_async()

    parent.apply(priority=6)
    assert [call.properties["priority"] for call in Sent(app).calls()] == [6, 6, 6]


def test_shadow_name_is_asked_for_each_call(app: Celeriac, sent: Sent) -> None:
    class Shadowed(app.Task):  # type: ignore[name-defined, misc]
        def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str:
            return f"shadow-{args[0]}"

    @app.task(base=Shadowed)
    def probe(n: int) -> None: ...

    probe.delay(1)
    probe.delay(2)
    assert [call.headers["shadow"] for call in sent.calls()] == ["shadow-1", "shadow-2"]


def test_stamps_are_carried(add: Any, sent: Sent) -> None:
    signature = add.s(1)
    signature.stamp(monitoring_id="m-1")
    signature.apply_async()
    headers = sent.one().headers
    assert (headers["stamped_headers"], headers["stamps"]) == (["monitoring_id"], {"monitoring_id": "m-1"})
    assert "monitoring_id" not in sent.messages()[0].properties


def test_publish_signals_may_add_headers(add: Any, sent: Sent) -> None:
    told: list[Mapping[str, Any]] = []

    @before_task_publish.connect(sender="proj.add")
    def before(headers: dict[str, Any], properties: dict[str, Any], **named: Any) -> None:
        headers["trace"] = "t-1"
        told.append(named)

    @after_task_publish.connect(sender="proj.add")
    def after(**named: Any) -> None:
        told.append(named)

    try:
        add.delay(1, 2)
        group(add.s(3), add.s(4)).apply_async()
    finally:
        before_task_publish.disconnect(before, sender="proj.add")
        after_task_publish.disconnect(after, sender="proj.add")
    assert [call.headers["trace"] for call in sent.calls()] == ["t-1"] * 3
    assert told[0]["body"][0] == (1, 2)
    assert (told[0]["exchange"], told[0]["routing_key"]) == ("", "celery")
    assert told[1]["headers"]["id"] == sent.calls()[0].id
    assert len(told) == 6


def test_ids_are_given_to_results(app: Celeriac, add: Any) -> None:
    result = add.delay(1)
    assert result.app is app
    assert add.AsyncResult(result.id) == result
    assert app.AsyncResult(result.id) == result


async def test_coroutines_publish_without_blocking(add: Any, sent: Sent) -> None:
    results = await asyncio.gather(add.adelay(1), add.aapply_async((2,), headers={"x": 1}))
    assert {result.id for result in results} == {call.id for call in sent.calls()}
    with pytest.raises(TypeError, match="missing"):
        await add.adelay()


def test_a_call_gives_up_within_its_time(app: Celeriac, add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[float | None] = []

    def publish(batch: Any, timeout: float | None = None) -> None:
        timeouts.append(timeout)
        raise OperationalError("down")

    monkeypatch.setattr(app.broker, "publish", publish)
    for options in (
        {},
        {"timeout": 2},
        {"retry": False},
        {"retry_policy": {"max_retries": 0}},
        {"retry": True},
        {"retry_policy": {"max_retries": 2, "interval_start": 0.5}},  # the rest is the setting's
        {"retry_policy": {"max_retries": None}},
        {"retry_policy": {"max_retries": 9}, "timeout": 2},
    ):
        with pytest.raises(OperationalError):
            add.apply_async((1,), **options)
    assert timeouts == [5.0, 2, 1.0, 1.0, 5.0, pytest.approx(2.2), 86_400.0, 2]


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({}, 5.0),
        ({"broker_publish_timeout": 2.0}, 2.0),
        ({"task_publish_retry": False}, 1.0),
        ({"task_publish_retry_policy": {"max_retries": 20, "interval_start": 1, "interval_max": 1}}, 40.0),
        (
            {"task_publish_retry_policy": {"max_retries": 20}, "broker_publish_timeout": 3.0},
            3.0,
        ),
    ],
)
def test_the_settings_say_how_long_a_plain_call_is_tried(
    app: Celeriac, add: Any, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], seconds: float
) -> None:
    """`delay()`, its hot path, and `apply_async` with an option."""
    timeouts: list[float | None] = []
    monkeypatch.setattr(app.broker, "publish", lambda batch, timeout=None: timeouts.append(timeout))
    app.conf.update(settings)
    add.delay(1)
    add.apply_async((1,), headers={"x": 1})
    assert timeouts == [seconds, seconds]


def in_a_fork(report: Callable[[], str]) -> str:
    """What `report` returns in a forked child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, report().encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        return f"{pid} {stream.read()}"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_has_names_of_its_own(app: Celeriac, add: Any) -> None:
    add.delay(1)

    def report() -> str:
        message = app.producer.prepare("x", (), {}, {}, None).outgoing.message
        return f"{reply_id()} {message.headers['origin']}"

    pid, reply, origin = in_a_fork(report).split(" ")
    assert reply != reply_id()
    assert origin.startswith(f"gen{pid}@")


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_and_waits_for_no_lock_of_its_parent(app: Celeriac, add: Any) -> None:
    told = []
    app.on_after_fork.connect(lambda sender, **named: told.append(sender.main), weak=False)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with app.lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    try:
        _, answer = in_a_fork(lambda: f"{told} {len(app.tasks)}").split(" ", 1)
    finally:
        done.set()
        thread.join()
    assert answer.startswith("['proj'] ")
    assert told == []
