"""How deep a canvas may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.canvas import Signature, chain, chord, group, maybe_signature
from celeriac.wire.json import dumps

DEPTH = 50

#: One more layer around a canvas, of a task that may follow or go with it.
LAYERS: dict[str, Callable[[Any, Any], Any]] = {
    "group": lambda inner, t: group(inner, t),
    "chain": lambda inner, t: chain(t, inner),
    "chain to the left": lambda inner, t: chain(inner, t),
    "group in a chain": lambda inner, t: chain(t, group(inner, t)),
    "header": lambda inner, t: chord([inner, t], t),
    "body": lambda inner, t: chord([t, t], inner),
    "group with a task after it": lambda inner, t: group(inner, t) | t,
    "all of it": lambda inner, t: chain(t, group(inner, t), t),
    "groups one after the other": lambda inner, t: chain(t, group(t, t), inner),
}


@pytest.fixture(scope="module")
def app() -> Iterator[Celeriac]:
    made = Celeriac("limits", broker="memory://limits", backend="memory://limits", set_as_current=False)
    made.task(lambda: 1, name="t")
    made.finalize()
    yield made
    made.close()


@pytest.mark.parametrize("layer", LAYERS)
def test_fifty_layers(app: Celeriac, layer: str) -> None:
    t = app.tasks["t"].si()
    sizes = []
    for depth in (DEPTH // 2, DEPTH):
        made: Signature[Any] = t
        for _ in range(depth):
            made = LAYERS[layer](made, t)
        text = dumps(made)
        sizes.append(len(text))
        again = maybe_signature(json.loads(text), app)
        assert dumps(again) == text
        assert repr(again)
        frozen = again.clone()
        frozen.freeze()
        assert frozen.apply().get() is not None
    assert sizes[1] < 2.2 * sizes[0]  # a layer more is a layer's bytes more


def sizes(app: Celeriac, canvas: Signature[Any]) -> list[int]:
    """Bytes of the bodies of all messages that a canvas sends first, and of what its chords keep."""
    canvas.apply_async()
    found = [len(message.body) for message in app.broker.browse("celery", 100_000)]  # type: ignore[union-attr]
    app.broker.purge("celery")
    return found


def test_a_chord_of_ten_thousand(app: Celeriac) -> None:
    t = app.tasks["t"]
    found = sizes(app, chord([t.si() for _ in range(10_000)], t.si()))
    assert len(found) == 10_000
    assert max(found) < 500
    # A body that is large is in the store, once, and not in every member.
    body = t.si(*range(1000))
    assert max(sizes(app, chord([t.si() for _ in range(10)], body))) < 1500


@pytest.mark.parametrize("first", [False, True])
def test_a_chain_of_a_hundred_groups(app: Celeriac, first: bool) -> None:
    t = app.tasks["t"]
    largest, total = [], []
    for count in (50, 100):
        groups = [group(t.si() for _ in range(10)) for _ in range(count)]
        found = sizes(app, chain(*([t.si()] if first else []), *groups))
        largest.append(max(found))
        total.append(sum(found))
    per_task = len(dumps(t.si().set(task_id="0" * 36, reply_to="0" * 36, group_index=0)))
    assert largest[1] < 1500 * per_task
    assert largest[1] < 2.2 * largest[0]
    assert total[1] < 2.2 * total[0]


def test_chords_in_chords(app: Celeriac) -> None:
    t = app.tasks["t"]
    total = []
    for depth in (25, 50):
        made: Any = t.si()
        for _ in range(depth):
            made = chord([made, t.si()], t.si())
        total.append(sum(sizes(app, made)))
    assert total[1] < 2.2 * total[0]
