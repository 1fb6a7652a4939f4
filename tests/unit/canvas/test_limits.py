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
