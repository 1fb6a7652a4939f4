"""Calls sent together are the messages that they would be one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest

from celeriac import Celeriac, chord, group, signals
from celeriac.app.alike import MANY
from celeriac.brokers.alike import Alike
from celeriac.brokers.base import Capabilities, Outgoing
from celeriac.exceptions import EncodeError
from celeriac.wire import json, virtual
from celeriac.wire.message import Message

COUNT = MANY + 4


class Envelopes:
    """A broker that stores envelopes, those of an `Alike` as it writes them.

    Attributes:
        raws: by the id of the call.
        alike: how many batches were written from patterns.
    """

    capabilities = Capabilities(envelopes=True)

    def __init__(self, url: str, options: Any) -> None:
        self.raws: dict[str, bytes] = {}
        self.alike = 0

    def publish(self, batch: Sequence[Outgoing], *, timeout: float | None = None) -> None:
        one_by_one = [virtual.encode(out.message) for out in batch]
        raws = one_by_one
        if isinstance(batch, Alike):
            self.alike += 1
            raws = batch.envelopes(slice(0, 7)) + batch.envelopes(slice(7, None))
            assert [out[1:] for out in batch] == [batch.destination] * len(batch)
            assert list(map(plain, raws)) == list(map(plain, one_by_one))
        self.raws.update((plain(raw)["headers"]["id"], raw) for raw in raws)

    def close(self) -> None: ...


def plain(raw: bytes) -> dict[str, Any]:
    """The message in an envelope, but for its own name."""
    message = virtual.decode(raw)
    assert isinstance(message, Message)
    assert message.properties.pop("delivery_tag")
    return message._asdict()


@pytest.fixture
def app() -> Celeriac:
    app = Celeriac("proj", broker=f"{__name__}:Envelopes://", backend="memory://alike", set_as_current=False)
    app.task(lambda x, y=1, **more: None, name="proj.add", shared=False)
    app.task(lambda *args: None, name="proj.note", shared=False, priority=3, ignore_result=True)
    app.task(lambda numbers: None, name="proj.total", shared=False)
    app.task(lambda x: None, name="proj.elsewhere", shared=False, queue="elsewhere")
    return app


def calls(app: Celeriac, *names: str, count: int = COUNT, **options: Any) -> list[Any]:
    """Signatures of different arguments with ids of their own, task by task."""
    makers: dict[str, Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]]] = {
        "proj.add": lambda n: ((n,), {"z": n} if n % 4 == 3 else {}),
        "proj.note": lambda n: [((), {}), (([1, {"k": "ä"}],), {}), (("50 % %s", None), {})][n % 3],
    }
    made = []
    for n in range(count):
        name = names[n % len(names)]
        args, kwargs = makers.get(name, lambda n: ((n,), {}))(n)
        made.append(app.signature(name, args, kwargs).set(task_id=f"id-{n}", **options))
    return made


def together(app: Celeriac, *names: str, **options: Any) -> Any:
    return group(calls(app, *names, **options), app=app).set(task_id="the-group")


def stamped(canvas: Any) -> Any:
    canvas.stamp(mark="m")
    return canvas


def generated(app: Celeriac) -> Any:
    return group((call for call in calls(app, "proj.add")), app=app).set(task_id="the-group")


#: By name: whether it is written from patterns, and the canvas.
CANVASES: dict[str, tuple[bool, Callable[[Celeriac], Any]]] = {
    "one task": (True, lambda app: together(app, "proj.add")),
    "a generator": (True, generated),
    "a priority": (True, lambda app: together(app, "proj.note")),
    "a queue": (True, lambda app: together(app, "proj.elsewhere")),
    "two tasks": (True, lambda app: together(app, "proj.add", "proj.total")),
    "two priorities": (False, lambda app: together(app, "proj.add", "proj.note")),
    "no results": (True, lambda app: together(app, "proj.add", ignore_result=True)),
    "own options": (False, lambda app: together(app, "proj.add", queue="own", headers={"x": 1})),
    "unknown": (False, lambda app: together(app, "proj.far")),
    "few": (False, lambda app: together(app, "proj.add", count=MANY - 1)),
    "stamps": (False, lambda app: stamped(together(app, "proj.add"))),
    "chord": (True, lambda app: chord(together(app, "proj.note"), body(app), app=app)),
}


def body(app: Celeriac) -> Any:
    return app.signature("proj.total").set(task_id="the-body")


def sent(app: Celeriac, canvas: Any) -> dict[str, dict[str, Any]]:
    broker: Any = app.broker
    broker.raws.clear()
    canvas.apply_async()
    return {id: plain(raw) for id, raw in broker.raws.items()}


@pytest.fixture
def announced() -> Iterator[list[str]]:
    """Ids of the calls that a receiver of `before_task_publish` sees."""
    seen: list[str] = []

    def receiver(headers: dict[str, Any], **named: Any) -> None:
        seen.append(headers["id"])

    signals.before_task_publish.connect(receiver)
    yield seen
    signals.before_task_publish.disconnect(receiver)


@pytest.mark.parametrize("name", CANVASES)
def test_a_member_is_the_message_that_it_would_be_alone(
    app: Celeriac, name: str, request: pytest.FixtureRequest
) -> None:
    """Where somebody listens to the signal each call is looked at for itself, and announced."""
    alike, make = CANVASES[name]
    broker: Any = app.broker
    found = sent(app, make(app))
    assert broker.alike == alike
    announced = request.getfixturevalue("announced")
    assert sent(app, make(app)) == found
    assert broker.alike == alike
    assert announced == list(found)
    assert {each["headers"]["group"] for each in found.values()} == {"the-group"}


def test_apply_many_writes_what_apply_async_writes(app: Celeriac) -> None:
    task, broker = app.tasks["proj.add"], cast("Any", app.broker)
    pairs = [((n,), {"y": [n, "ä"]} if n % 2 else {}) for n in range(COUNT)]
    alone = [task.apply_async(args, kwargs) for args, kwargs in pairs]
    many = task.apply_many(pairs)
    assert broker.alike == 1
    for one, other in zip(alone, many, strict=True):
        theirs, ours = (json.dumps_text(plain(broker.raws[each.id])) for each in (one, other))
        assert ours.replace(other.id, "ID") == theirs.replace(one.id, "ID")


def test_calls_of_a_running_task_name_their_parent(app: Celeriac) -> None:
    @app.task(name="proj.parent", shared=False)
    def parent() -> None:
        together(app, "proj.add").apply_async()

    parent.apply(task_id="parent")
    broker: Any = app.broker
    assert broker.alike == 1
    for raw in broker.raws.values():
        headers = plain(raw)["headers"]
        assert (headers["root_id"], headers["parent_id"]) == ("parent", "parent")


def test_a_chord_does_not_begin_when_a_member_cannot_be_written(
    app: Celeriac, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    monkeypatch.setattr(type(app.chord_store), "open_chords", lambda self, found: begun.append(found))
    members = calls(app, "proj.add")
    members[-1].args = (object(),)
    broker: Any = app.broker
    with pytest.raises(EncodeError):
        chord(members, body(app), app=app).apply_async()
    assert not begun
    assert not broker.raws


def test_arguments_are_checked_before_anything_is_sent(app: Celeriac) -> None:
    members = calls(app, "proj.elsewhere")
    members[-1].args = (1, 2)
    broker: Any = app.broker
    with pytest.raises(TypeError, match="takes 1 positional"):
        group(members, app=app).apply_async()
    assert not broker.raws
