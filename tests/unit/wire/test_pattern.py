"""Envelopes from a pattern are, byte for byte, those that are written one by one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac.exceptions import EncodeError
from celeriac.wire import protocol, virtual
from celeriac.wire.pattern import Pattern

TAG = "01a1ff5f-9996-7000-8000-0abc3f801f04"
CHORD = {"task": "proj.total", "args": [], "options": {"task_id": "b"}, "counted": 3, "note": "50 % or %s"}
SHARED: dict[str, dict[str, Any]] = {
    "plain": {},
    "group": {"group": "g", "root_id": "r", "parent_id": "p"},
    "chord": {"group": "g", "chord": CHORD},
    "dates": {"chord": {**CHORD, "args": [date(2030, 1, 1)]}},
    "links": {"callbacks": [CHORD], "errbacks": [CHORD], "shadow": "ä", "ignore_result": True},
    "headers": {"headers": {"percent": "%s %(x)d %%", "umlaut": "ä€😀", "argsrepr": "mine"}},
    "properties": {"properties": {"x-own": ["%", 1]}, "correlation_id": "c", "priority": 9},
    "stamps": {"stamped_headers": ["s"], "stamps": {"s": [1]}, "argsrepr": "(…)", "time_limit": 2.5},
    "surrogate": {"shadow": "\ud800"},
    "large headers": {"headers": {"long": "x" * (virtual.HEADERS_LIMIT // 2)}},
    "yaml": {"serializer": "yaml"},
    "compressed": {"compression": "gzip"},
}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.uuids()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def raised(work: Callable[[], bytes]) -> bytes | type[Exception]:
    try:
        return work()
    except Exception as exc:
        return type(exc)


def both(shared: dict[str, Any], id: Any, args: Any, kwargs: Any, index: Any) -> tuple[Any, Any]:
    """The envelope from a pattern, and the one that is written for itself; or what they raise."""
    make = partial(protocol.write, name="proj.add", routing_key="celery", reply_to="me", **shared)

    def written() -> bytes:
        message = make(id=id, args=args, kwargs=kwargs, group_index=index)
        message.properties["delivery_tag"] = TAG
        return virtual.encode(message)

    pattern = Pattern(make)
    found = raised(lambda: pattern.envelope(id, args, kwargs, index, TAG))
    if isinstance(found, bytes):  # what fits no pattern has a name of its own
        message = virtual.decode(found)
        found = found.replace(message.properties["delivery_tag"].encode(), TAG.encode())  # type: ignore[union-attr]
    return found, raised(written)


@settings(max_examples=150, deadline=None)
@given(
    shared=st.sampled_from([name for name in SHARED if name not in ("yaml", "compressed", "large headers")]),
    id=st.uuids().map(str) | st.text(min_size=1),
    args=st.lists(VALUES, max_size=3) | st.lists(VALUES, max_size=3).map(tuple),
    kwargs=st.none() | st.dictionaries(st.text(), VALUES, max_size=3),
    index=st.none() | st.integers(),
)
def test_any_call_is_as_if_written_for_itself(
    shared: str, id: str, args: Any, kwargs: Any, index: int | None
) -> None:
    ours, theirs = both(SHARED[shared], id, args, kwargs, index)
    assert ours == theirs


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize(
    ("id", "args", "kwargs", "index"),
    [
        ("an-id", (), None, 3),
        ("an-id", [], {}, None),
        ('"\\\n%s\x7f', (1, "%s"), {"k": "50 %"}, 0),
        ("\ud800", ("\ud800",), {"\ud800": 1}, 1),
        ("an-id", ("x" * 2000, b"\xff", {1, 2}), {"d": date(2030, 1, 1)}, 1 << 70),
        ("x" * virtual.HEADERS_LIMIT, (1,), None, None),
        (7, (1,), None, True),
        ("an-id", "text", None, None),
        ("an-id", (object(),), None, None),
        ("an-id", (1,), [("k", 1)], None),
    ],
)
def test_odd_calls_are_as_if_written_for_themselves(
    shared: str, id: Any, args: Any, kwargs: Any, index: Any
) -> None:
    ours, theirs = both(SHARED[shared], id, args, kwargs, index)
    assert ours == theirs


def test_what_they_share_is_refused_as_it_would_be_for_one() -> None:
    shared = {"chord": {"task": "t", "args": [object()]}}
    assert both(shared, "an-id", (), None, 0) == (EncodeError, EncodeError)


@pytest.mark.parametrize(
    "shared", [name for name in SHARED if name not in ("yaml", "compressed", "large headers")]
)
def test_only_one_is_written_for_all(shared: str) -> None:
    made: list[Any] = []

    def make(**own: Any) -> Any:
        made.append(own)
        return protocol.write(name="proj.add", **own, **SHARED[shared])

    pattern = Pattern(make)
    for n in range(5):
        pattern.envelope(f"id-{n}", (n,), None, n, TAG)
    assert len(made) == (6 if shared == "surrogate" else 1)
