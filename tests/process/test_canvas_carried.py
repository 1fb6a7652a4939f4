"""What goes on with a call in a worker: stamps, replacements, members that are added; and that runs in place
(`apply`) come to what workers come to."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import RedisServer
from tests.unit.canvas.test_limits import DEPTH, LAYERS

from celeriac import Celeriac
from celeriac.canvas import Signature, StampingVisitor, chain, chord, group, signature
from celeriac.worker.inprocess import InProcessWorker

names = itertools.count()
WAIT = 30.0


class Seen:
    """What bodies noted, in order; can be waited for."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._more = threading.Condition()

    def note(self, entry: Any) -> None:
        with self._more:
            self.entries.append(entry)
            self._more.notify_all()

    def wait_for(self, count: int) -> list[Any]:
        with self._more:
            assert self._more.wait_for(lambda: len(self.entries) >= count, WAIT), self.entries
            return list(self.entries)


@pytest.fixture(params=["memory", "redis", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.flush()
        return server.url
    return (
        f"memory://carried-{next(names)}" if request.param == "memory" else f"sqlite:///{tmp_path}/store.db"
    )


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def app(url: str, seen: Seen) -> Iterator[Celeriac]:
    made = Celeriac(f"carried-{next(names)}", broker=url, backend=url, set_as_current=False)

    def stamps(self: Any) -> dict[str, Any]:
        return dict(self.request.stamps or {})

    @made.task(name="add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    @made.task(name="items")
    def items(*args: Any) -> list[Any]:
        return list(args)

    @made.task(name="fail")
    def fail(*args: Any) -> None:
        raise ValueError("boom")

    @made.task(name="mine", bind=True)
    def mine(self: Any, *args: Any) -> dict[str, Any]:
        seen.note(("mine", stamps(self), self.request.replaced_task_nesting))
        return stamps(self)

    @made.task(name="again", bind=True)
    def again(self: Any, **options: Any) -> dict[str, Any]:
        if not self.request.retries:
            raise self.retry(countdown=0, **options)
        return stamps(self)

    @made.task(name="by_id", bind=True)
    def by_id(self: Any, failed: str) -> None:
        seen.note(("by id", failed, stamps(self)))

    @made.task(name="with_failure")
    def with_failure(request: Any, exc: Exception, traceback: Any) -> None:
        seen.note(("failure", request.id, str(exc), dict(request.stamps or {})))

    @made.task(name="instead", bind=True)
    def instead(self: Any, *args: Any) -> Any:
        return self.replace(signature(args[-1], app=made))

    @made.task(name="also", bind=True)
    def also(self: Any, x: int, more: Any) -> int:
        self.add_to_chord(signature(more, app=made))
        return x

    with InProcessWorker(made):
        yield made
    made.close()


def linked(sig: Any, *links: Any, errbacks: tuple[Any, ...] = ()) -> Any:
    for link in links:
        sig.link(link)
    for errback in errbacks:
        sig.link_error(errback)
    return sig


@pytest.fixture
def t(app: Celeriac) -> Callable[..., Signature[Any]]:
    return lambda name, *args, **kwargs: app.tasks[name].s(*args, **kwargs)


S = Callable[..., Signature[Any]]


def value_of(result: Any) -> Any:
    try:
        return result.get(timeout=WAIT, disable_sync_subtasks=False)
    except Exception as exc:
        return type(exc).__name__


def test_runs_in_place_come_to_the_same(t: S) -> None:
    one, two = t("add", 1), t("add", 2)
    for canvas in (
        chain(one, group(one, two), group(t("items"), t("items")), t("items")),
        chord([one | group(one, two), group(two, one), one], t("items", 9) | t("items")),
        chord([chord([one, two], t("items")), two], chord([t("items"), t("items")], t("items"))),
        chain(one, group(), t("add").type.chunks([(1, 2), (3, 4), (5, 6)], 2), t("items")),
        group(chord([one], t("items")), one | two, t("instead", group(one, two))),
        chain(t("instead", chord([one, two], group(t("items"), t("items")))), t("items")),
        chord([t("also", 1, two | two), one], t("items")),
        chord([t("instead", one | t("fail")), one], t("items")) | t("items"),
        group() | t("items"),
        chain(one, t("fail"), one, t("items")),
        chord([t("add", 5)], t("add").type.si(1, 1)) | t("add", 1),
    ):
        here = canvas.apply()
        there = canvas.apply_async()
        assert value_of(there) == value_of(here), canvas


@pytest.mark.parametrize("url", ["memory"], indirect=True)
@pytest.mark.parametrize("layer", ["header", "body", "all of it"])
def test_fifty_layers(t: S, layer: str) -> None:
    one = t("add", 1).set(immutable=True)
    made: Signature[Any] = one
    for _ in range(DEPTH):
        made = LAYERS[layer](made, one)
    assert made.apply_async().get(timeout=2 * WAIT) == 1


def test_stamps_of_calls_that_follow(t: S, seen: Seen) -> None:
    class Visitor(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"call": sig.name}

        def on_errback(self, errback: Any, **headers: Any) -> dict[str, Any]:
            return {"told": True}

    steps = chain(t("mine"), group(t("mine"), t("mine")), t("mine"))
    steps.stamp(Visitor())
    assert steps.delay().get(timeout=WAIT) == {"call": "mine"}
    assert seen.wait_for(4) == [("mine", {"call": "mine"}, 0)] * 4
    seen.entries.clear()
    failing = linked(t("fail"), errbacks=(t("by_id"), t("with_failure")))
    result = failing.stamp(Visitor()).delay()
    assert sorted(seen.wait_for(2)) == [
        ("by id", result.id, {"told": True, "call": "by_id"}),
        ("failure", result.id, "boom", {"call": "fail"}),
    ]


def test_stamps_stay_through_retries(t: S) -> None:
    assert t("again").stamp(tenant=7).delay().get(timeout=WAIT) == {"tenant": 7}
    # A retry with links is a message written anew.
    assert t("again", link=[dict(t("items"))]).stamp(tenant=7).delay().get(timeout=WAIT) == {"tenant": 7}


def test_a_replacement_is_the_call(t: S, seen: Seen) -> None:
    own = t("mine").stamp(tenant=9)
    call = t("instead", t("instead", group(t("mine"), own))).stamp(tenant=7)
    linked(call, t("mine"))
    result = call.apply_async(task_id=f"call-{next(names)}")
    assert result.get(timeout=WAIT) == [{"tenant": 7}, {"tenant": 9}]
    entries = seen.wait_for(3)
    assert sorted(entries[:2], key=str) == [("mine", {"tenant": 7}, 2), ("mine", {"tenant": 9}, 2)]
    assert entries[2] == ("mine", {}, 0)


def test_errbacks_of_a_replaced_call_are_called_once(t: S, seen: Seen) -> None:
    for by in (
        t("fail"),
        group(t("fail"), t("add", 1)),
        t("add", 1) | t("fail"),
        group(t("fail")) | t("items"),
    ):
        seen.entries.clear()
        call = linked(t("instead", by), errbacks=(t("by_id"),))
        result = chain(call, t("items")).delay()
        assert value_of(result) in ("ValueError", "ChordError")
        assert seen.wait_for(1)[0][:1] == ("by id",)
        t("mine").delay().get(timeout=WAIT)  # whatever else was set off has been taken by now
        assert [entry[0] for entry in seen.wait_for(2)].count("by id") == 1


def test_each_member_of_a_group_is_an_errback(t: S, seen: Seen) -> None:
    result = linked(
        t("fail"), errbacks=(group(t("by_id"), t("with_failure")), t("by_id") | t("mine"))
    ).delay()
    told = sorted(seen.wait_for(4), key=str)
    assert [entry[0] for entry in told] == ["by id", "by id", "failure", "mine"]
    assert {entry[1] for entry in told[:3]} == {result.id}


def test_adding_outside_of_a_chord(t: S) -> None:
    with pytest.raises(ValueError, match="not a member"):
        t("also", 1, t("add", 1)).delay().get(timeout=WAIT)
