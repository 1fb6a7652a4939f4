"""Stamps: what a visitor sees and in which order, what it may return, and where stamps go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.canvas import Signature, StampingVisitor, chain, chord, group, maybe_signature
from celeriac.wire import protocol
from celeriac.wire.message import Message


@pytest.fixture
def app() -> Iterator[Celeriac]:
    made = Celeriac("stamping", broker="memory://stamping", backend="memory://stamping", set_as_current=False)
    yield made
    made.broker.purge("celery")
    made.close()


@pytest.fixture
def add(app: Celeriac) -> Any:
    return app.task(lambda x=0, y=0: x, name="t", typing=False)


class Diary(StampingVisitor):
    """Writes down what it sees, and stamps each call with the places it is in."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def _note(self, hook: str, sig: Any, headers: dict[str, Any], **stamps: Any) -> dict[str, Any]:
        assert set(headers.get("stamped_headers", ())) == headers.keys() - {"stamped_headers"}
        self.seen.append(f"{hook} {sig!r}")
        return stamps

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return self._note("call", sig, headers, own=repr(sig))

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        return self._note("group", group, headers, in_group=1)

    def on_group_end(self, group: Any, **headers: Any) -> None:
        self._note("end of group", group, headers)

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        return self._note("chain", chain, headers, in_chain=1)

    def on_chain_end(self, chain: Any, **headers: Any) -> None:
        self._note("end of chain", chain, headers)

    def on_chord_header_start(self, sig: Any, **header: Any) -> dict[str, Any]:
        inner = super().on_chord_header_start(sig, **header)
        return {**inner, **self._note("header", sig, header, in_header=1)}

    def on_chord_header_end(self, sig: Any, **header: Any) -> None:
        self._note("end of header", sig, header)

    def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any]:
        return self._note("body", sig, header, in_body=1)

    def on_callback(self, callback: Any, **header: Any) -> dict[str, Any]:
        return self._note("callback", callback, header, is_link=1)

    def on_errback(self, errback: Any, **header: Any) -> dict[str, Any]:
        return self._note("errback", errback, header, is_errback=1)


def stamps(sig: Signature[Any]) -> set[str]:
    """The names of its stamps; all of them have values."""
    names = sig.options["stamped_headers"]
    assert len(names) == len(set(names))
    assert set(names) <= sig.options.keys()
    return set(names)


def test_links_come_before_the_call(add: Any) -> None:
    sig, diary = add.s(1), Diary()
    sig.link(add.s(2))
    sig.link_error(dict(add.s(3)))
    assert sig.stamp(diary) is sig
    assert diary.seen == ["callback t(2)", "call t(2)", "errback t(3)", "call t(3)", "call t(1)"]
    assert stamps(sig) == {"own"}
    assert stamps(sig.options["link"][0]) == {"is_link", "own"}
    assert stamps(sig.options["link_error"][0]) == {"is_errback", "own"}


def test_links_alone(add: Any) -> None:
    sig, diary = add.s(1), Diary()
    sig.link(add.s(2))
    sig.stamp_links(diary)
    assert diary.seen == ["callback t(2)", "call t(2)"]
    assert "stamped_headers" not in sig.options


def test_a_chain(add: Any) -> None:
    steps, diary = add.s(1) | add.s(2), Diary()
    steps.link(add.s(9))
    steps.stamp(diary)
    assert diary.seen == [
        "chain t(1) | t(2)",
        "callback t(9)",
        "call t(9)",
        "call t(1)",
        "call t(2)",
        "end of chain t(1) | t(2)",
    ]
    assert [stamps(step) for step in steps.tasks] == [{"in_chain", "own"}] * 2
    assert stamps(steps.options["link"][0]) == {"in_chain", "is_link", "own"}


def test_a_group(add: Any) -> None:
    both, diary = group(add.s(n) for n in (1, 2)), Diary()
    both.stamp(diary)
    assert [line.partition(" t(")[0] for line in diary.seen[1:3]] == ["call", "call"]
    assert (diary.seen[0].split()[0], diary.seen[-1]) == ("group", "end of group group(<Stream: t(1), t(2)>)")
    assert [stamps(task) for task in both.tasks] == [{"in_group", "own"}] * 2


def test_a_chord(add: Any) -> None:
    made, diary = chord([add.s(1), add.s(2)], add.s(3)), Diary()
    made.stamp(diary)
    text, header = "%t([t(1), t(2)], 3)", "group([t(1), t(2)])"
    assert diary.seen == [
        f"group {header}",
        f"header {text}",
        "call t(1)",
        "call t(2)",
        f"end of header {text}",
        f"body {text}",
        "call t(3)",
    ]
    assert [stamps(task) for task in made.tasks] == [{"in_group", "in_header", "own"}] * 2
    assert stamps(made.body) == {"in_group", "in_header", "in_body", "own"}


def test_stamps_of_the_outside_hold_inside(add: Any) -> None:
    made = chain(add.s(0), group(add.s(1) | add.s(2), add.s(3)), add.s(4))
    made.stamp(Diary())
    last = made.tasks[-1]
    assert isinstance(last, chord)
    assert stamps(last.tasks[0].tasks[0]) == {"in_chain", "in_header", "in_group", "own"}  # type: ignore[attr-defined]
    assert stamps(last.body) == {"in_chain", "in_header", "in_group", "in_body", "own"}


def test_the_visitor_may_name_the_stamps(add: Any, app: Celeriac) -> None:
    class Some(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"tenant": 7, "queue": "celery", "stamped_headers": ["tenant"]}

    sig = add.s(1).stamp(Some())
    assert sig.options == {"tenant": 7, "queue": "celery", "stamped_headers": ["tenant"]}
    sig.delay()
    (message,) = app.broker.browse("celery", 9)
    assert isinstance(message, Message)
    assert message.headers["stamps"] == {"tenant": 7}
    assert protocol.read(message, frozenset({"application/json"})).headers["stamped_headers"] == ["tenant"]


def test_a_visitor_that_has_nothing_to_say(add: Any) -> None:
    class Silent(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> Any:
            return None

    assert add.s(1).stamp(Silent()).options == {"stamped_headers": []}
    with pytest.raises(TypeError):
        StampingVisitor()  # type: ignore[abstract]


def test_again(add: Any) -> None:
    sig = add.s(1).stamp(batch=1)
    assert sig.stamp(batch=2, other=3).options == {
        "batch": 2,
        "other": 3,
        "stamped_headers": ["batch", "other"],
    }
    assert sig.stamp(append_stamps=True, batch=[4, 5]).options["batch"] == [4, 5, 2]
    assert sorted(sig.stamp(append_stamps=True, batch={6}).options["batch"]) == [2, 4, 5, 6]
    assert add.s(1).stamp(batch=1, size=2, stamped_headers=["batch"]).options == {
        "batch": 1,
        "size": 2,
        "stamped_headers": ["batch"],
    }


def test_they_travel_as_json(add: Any, app: Celeriac) -> None:
    import json

    from celeriac.wire.json import dumps

    made = chord([add.s(1)], add.s(2)).stamp(tenant=7)
    again = maybe_signature(json.loads(dumps(made)), app)
    assert [stamps(sig) for sig in (*again.tasks, again.body)] == [{"tenant"}] * 2
