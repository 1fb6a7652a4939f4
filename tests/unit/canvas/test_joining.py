"""``left | right`` makes of every pair what Celery makes of it; chains are sent folded into chords."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.canvas.forms import RECORDED, calls, facts, forms, shape

from celeriac import Celeriac, canvas
from celeriac.canvas import Signature, chain, chord, group
from celeriac.wire.json import dumps


@pytest.fixture(scope="module")
def app() -> Iterator[Celeriac]:
    made = Celeriac("joining", broker="memory://joining", backend="memory://joining", set_as_current=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def add(app: Celeriac) -> Any:
    return app.task(lambda x, y=0: x, name="t")


@pytest.fixture(scope="module")
def total(app: Celeriac) -> Any:
    return app.task(lambda numbers: sum(numbers), name="total")


def test_every_pair_and_every_call_gives_what_celery_gives(add: Any, total: Any) -> None:
    recorded = json.loads(RECORDED.read_text())
    assert facts(canvas, add, total) == recorded


def test_kinds_are_classes(add: Any, total: Any) -> None:
    made = calls(canvas, add.s)
    assert type(made["group, task"]()) is chord
    assert type(made["group"]()) is chain
    assert type(chain([group(add.s(1), add.s(2))])) is group
    assert type(add.s(1) | add.s(2)) is chain
    assert type(chain(group(add.s(1), add.s(2)), add.s(3), queue="q")) is chain


def test_joining_changes_neither_side(add: Any, total: Any) -> None:
    made = forms(canvas, add.s, add, total)
    for left in made:
        for right in made:
            one, other = made[left](1), made[right](5)
            before = shape(one), shape(other)
            joined = one | other
            joined = joined | add.s(9)
            assert (shape(one), shape(other)) == before, (left, right)


def test_json_and_back(add: Any, total: Any, app: Celeriac) -> None:
    made = forms(canvas, add.s, add, total)
    for left in made:
        for right in made:
            text = dumps(made[left](1) | made[right](5))
            again = Signature.from_dict(json.loads(text), app=app)
            assert dumps(again) == text, (left, right)
            assert dumps(again.clone()) == text, (left, right)


@pytest.mark.parametrize("bad", [None, 3, "t"])
def test_what_cannot_be_joined(add: Any, bad: Any) -> None:
    for left in (add.s(1), group(add.s(1)), add.s(1) | add.s(2), chord([add.s(1)], add.s(2))):
        with pytest.raises(TypeError):
            left | bad


def test_steps_one_by_one(add: Any) -> None:
    steps = add.s(1) | add.s(2)
    steps.link(add.s(8))
    steps.link_error(add.s(9))
    alone = steps.unchain_tasks()
    assert [step.args for step in alone] == [(1,), (2,)]
    assert all(step.options == {"link": [add.s(8)], "link_error": [add.s(9)]} for step in alone)
    assert steps.tasks[0].options == {}


def test_links_of_a_chain_go_with_its_last_step(add: Any) -> None:
    steps = add.s(1) | add.s(2)
    steps.link(add.s(8))
    assert steps.options == {"link": [add.s(8)]}
    for joined in (steps | add.s(3), add.s(0) | steps | add.s(3)):
        assert [step.options.get("link") for step in joined.tasks if step.args == (2,)] == [[add.s(8)]]
        assert joined.options == {}


def test_errbacks_of_an_inner_chain_are_not_for_headers_in_it(add: Any) -> None:
    """Told is who gets the results of all of them; that is the last step of the inner chain here."""
    pairs = [group(add.s(n), add.s(n + 1)) for n in (1, 3, 5)]
    for inner in (pairs[0] | pairs[1] | pairs[2], chain(chord([add.s(0)], pairs[1]), pairs[2])):
        for joined in (inner.on_error(add.s(9)) | add.s(7), chain(inner.on_error(add.s(9)), add.s(7))):
            told = sorted(
                call["args"]
                for call in _calls(json.loads(dumps(joined)))
                if call["options"].get("link_error")
            )
            assert told == [[5], [6]]


def _calls(sig: Any) -> Iterator[Any]:
    """The calls in a signature's dict."""
    parts = sig["kwargs"] if sig["subtask_type"] else {}
    if not parts:
        yield sig
    for part in (*parts.get("tasks", ()), *filter(None, (parts.get("header"), parts.get("body")))):
        yield from _calls(part)


def test_texts(add: Any, total: Any) -> None:
    made = forms(canvas, add.s, add, total)
    shown = {name: repr(make(1)) for name, make in made.items()}
    assert shown["two steps"] == "t(1) | t(2)"
    assert shown["two members"] == "group([t(1), t(2)])"
    assert shown["chord"] == "%total([t(1), t(2)])"
    assert shown["body a chain"] == "%(total([t(1), t(2)]) | t(3))"
    assert shown["map"] == "[t(x) for x in [1]]"
    assert shown["no members"] == "group(<empty>)"


def test_how_many_a_body_waits_for(add: Any, total: Any) -> None:
    made = forms(canvas, add.s, add, total)
    hints = {name: chord([make(1)], total.s()).__length_hint__() for name, make in made.items()}
    assert hints["group in group"] == 2
    assert {name for name, count in hints.items() if count == 0} == {"no members"}


def test_a_canvas_of_ones_own(app: Celeriac) -> None:
    @Signature.register_type("pair")
    class pair(Signature[Any]):
        @classmethod
        def from_dict(cls, d: Any, app: Any = None) -> Signature[Any]:
            return pair(d, app=app)

    try:
        made = Signature.from_dict({"task": "t", "subtask_type": "pair"}, app=app)
        assert type(made) is pair
    finally:
        del Signature.TYPES["pair"]
