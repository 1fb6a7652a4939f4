"""Malformed envelopes (bytes) and messages (headers, bodies) of every class: no worker may die of them."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from celeriac.wire import protocol
from celeriac.wire.message import Message

__all__ = ["bad_messages", "envelope", "envelopes"]

GOOD_BODY = b'[[1, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


def envelope(**changes: Any) -> dict[str, Any]:
    """A good one, with these changes at its top."""
    made: dict[str, Any] = {
        "body": base64.b64encode(GOOD_BODY).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "add", "id": "bad", "retries": 0},
        "properties": {
            "correlation_id": "bad",
            "delivery_info": {"exchange": "", "routing_key": "faults"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "t",
        },
    }
    made.update(changes)
    return made


def _properties(**changes: Any) -> dict[str, Any]:
    properties = envelope()["properties"]
    properties.update(changes)
    return {key: value for key, value in properties.items() if value is not ...}


def envelopes() -> dict[str, bytes]:
    """Bytes in place of an envelope, by what is wrong with them."""
    made: dict[str, Any] = {
        "not JSON": b"{not json",
        "empty": b"",
        "not UTF-8": b"\xff\xfe{}",
        "null": b"null",
        "list": b"[]",
        "object": b"{}",
        "number": b"42",
        "truncated": json.dumps(envelope()).encode()[:120],
        "no properties": {k: v for k, v in envelope().items() if k != "properties"},
        "headers list": envelope(headers=[]),
        "headers null": envelope(headers=None),
        "headers huge": envelope(headers={"task": "add", "id": "bad", "x": "y" * 10_000_000}),
        "delivery_tag missing": envelope(properties=_properties(delivery_tag=...)),
        "delivery_tag list": envelope(properties=_properties(delivery_tag=[1])),
        "delivery_info null": envelope(properties=_properties(delivery_info=None)),
        "body_encoding unknown": envelope(properties=_properties(body_encoding="rot13")),
        "bad base64": envelope(body="%%%"),
        "body number": envelope(body=7),
        "content-type null": envelope(**{"content-type": None}),
        "content-type unknown": envelope(**{"content-type": "application/x-nothing"}),
        "content-encoding unknown": envelope(**{"content-encoding": "klingon"}),
    }
    return {
        name: value if isinstance(value, bytes) else json.dumps(value).encode()
        for name, value in made.items()
    }


def _message(body: bytes = GOOD_BODY, properties: dict[str, Any] | None = None, **headers: Any) -> Message:
    good = protocol.write(name="add", id="bad", args=(1, 2), routing_key="faults")
    return good._replace(
        body=body,
        headers={k: v for k, v in {**good.headers, **headers}.items() if v is not ...},
        properties={**good.properties, **(properties or {})},
    )


def bad_messages() -> dict[str, Message]:
    """Messages that decode as messages and are still wrong, by what is wrong with them."""
    cycle: dict[str, Any] = {"task": "add", "args": [], "kwargs": {}, "options": {}, "immutable": False}
    bodies = {
        "body scalar": b"7",
        "body object": b'{"a": 1}',
        "body two parts": b"[[1], {}]",
        "body args scalar": b"[7, {}, {}]",
        "body kwargs list": b"[[], [], {}]",
        "body embed list": b"[[], {}, []]",
        "body deep": b"[" * 100_000 + b"]" * 100_000,
        "body not JSON": b"[[1, 2",
        "body not UTF-8": b"\xff\xff",
        "body huge integer": b"[[" + b"9" * 5_000 + b", 1], {}, {}]",
        "body callbacks scalar": b'[[1, 2], {}, {"callbacks": 7}]',
        "body chain of numbers": b'[[1, 2], {}, {"chain": [1, 2]}]',
        "body chord scalar": b'[[1, 2], {}, {"chord": "x"}]',
        "body pickle type": b'[[{"__type__": "os.system", "__value__": "true"}, 1], {}, []]',
    }
    headers: dict[str, dict[str, Any]] = {
        "task null": {"task": None},
        "task list": {"task": ["add"]},
        "task number": {"task": 7},
        "id null": {"id": None},
        "id list": {"id": [1]},
        "id long": {"id": "x" * 10_240},
        "eta garbage": {"eta": "tomorrow-ish"},
        "eta list": {"eta": [1]},
        "expires garbage": {"expires": "never"},
        "timelimit text": {"timelimit": "soon"},
        "timelimit short": {"timelimit": [1]},
        "timelimit negative": {"timelimit": [-1, -2]},
        "retries text": {"retries": "two"},
        "retries negative": {"retries": -1},
        "retries huge": {"retries": 10**9},
        "compression unknown": {"compression": "application/x-nothing"},
        "compression lies": {"compression": "application/x-gzip"},
    }
    made = {name: _message(body) for name, body in bodies.items()}
    made |= {name: _message(**changes) for name, changes in headers.items()}
    made["compression bomb"] = _message(
        gzip.compress(b"[" + b" " * (300 << 20) + b"]", 1), compression="application/x-gzip"
    )
    made["pickle"] = _message(b"\x80\x04N.")._replace(
        content_type="application/x-python-serialize", content_encoding="binary"
    )
    made["chain endless"] = _message(json.dumps([[1, 2], {}, {"chain": [cycle] * 3 + [7]}]).encode())
    return made
