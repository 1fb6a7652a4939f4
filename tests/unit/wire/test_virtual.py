"""The envelope: never an exception, always a reason."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from celeriac.exceptions import EncodeError
from celeriac.wire import virtual
from celeriac.wire.message import Message, Unreadable

MESSAGE = Message(
    b'{"any": "body \\" \xc3\xa9"}',
    "application/json",
    "utf-8",
    {"task": "t", "id": "i", "x-note": "é"},
    {"body_encoding": "base64", "delivery_tag": "d", "delivery_info": {"exchange": "", "routing_key": "q"}},
)
ENVELOPE = json.loads(virtual.encode(MESSAGE))


def changed(drop: str = "", **changes: Any) -> bytes:
    envelope = {**ENVELOPE, **{key.replace("_", "-"): value for key, value in changes.items()}}
    envelope.pop(drop, None)
    return json.dumps(envelope).encode()


def with_property(**changes: Any) -> bytes:
    return changed(properties={**ENVELOPE["properties"], **changes})


def test_round_trip() -> None:
    assert virtual.decode(virtual.encode(MESSAGE)) == MESSAGE


def test_the_keys_are_celerys() -> None:
    assert list(ENVELOPE) == ["body", "content-encoding", "content-type", "headers", "properties"]
    assert base64.b64decode(ENVELOPE["body"]) == MESSAGE.body


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"spam", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"null", "got `null`"),
        (b"[]", "got `array`"),
        (b"{}", "`body`"),
        (b"7", "got `int`"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"x":' + b"[" * 200_000, "nested too deeply"),
        (virtual.encode(MESSAGE)[:-9], "not JSON"),
        (changed(drop="properties"), "`properties`"),
        (changed(properties=None), "properties"),
        (changed(headers=[]), "headers"),
        (changed(headers={"x": "y" * (2 << 20)}), "limit"),
        (changed(body=7), "body"),
        (changed(body="%%%"), "base64"),
        (changed(body="YQ"), "base64"),
        (changed(content_type=None), "content-type"),
        (changed(content_type=[1]), "content-type"),
        (changed(content_encoding=1), "content-encoding"),
        (with_property(body_encoding="rot13"), "rot13"),
        (with_property(body_encoding=["base64"]), "body_encoding"),
        (with_property(delivery_tag=None), "delivery_tag"),
        (with_property(delivery_tag=["d"]), "delivery_tag"),
        (with_property(delivery_tag=True), "delivery_tag"),
        (with_property(delivery_info=None), "delivery_info"),
        (with_property(delivery_info="q"), "delivery_info"),
    ],
    ids=lambda value: str(value[:30]),
)
def test_what_is_no_message_says_why(raw: bytes, reason: str) -> None:
    found = virtual.decode(raw)
    assert isinstance(found, Unreadable)
    assert reason in found.reason
    assert found.raw == raw


@pytest.mark.parametrize(
    "raw",
    [
        changed(headers={**MESSAGE.headers}),
        changed(body="\n".join(ENVELOPE["body"][at : at + 8] for at in range(0, len(ENVELOPE["body"]), 8))),
        with_property(delivery_tag=7),
        with_property(weight=float("nan")),
        b'{"celeriac-crashes":2,' + virtual.encode(MESSAGE)[1:],
        changed(unknown={"deep": [1, {"er": None}]}),
    ],
)
def test_what_others_may_write_is_read(raw: bytes) -> None:
    found = virtual.decode(raw)
    assert isinstance(found, Message)
    assert (found.body, found.headers) == (MESSAGE.body, MESSAGE.headers)


@pytest.mark.parametrize("encoding", [None, "", "utf-8"])
def test_bodies_without_base64_are_read(encoding: str | None) -> None:
    raw = changed(body="YWJj é", properties={**ENVELOPE["properties"], "body_encoding": encoding})
    found = virtual.decode(raw)
    assert isinstance(found, Message)
    assert found.body == "YWJj é".encode()


def test_a_plain_body_that_looks_like_base64_is_left_alone() -> None:
    raw = changed(body="YWJj", properties={"delivery_tag": "d"})
    found = virtual.decode(raw)
    assert isinstance(found, Message)
    assert found.body == b"YWJj"


def test_no_headers_are_empty_headers() -> None:
    for raw in (changed(headers=None), changed(drop="headers")):
        found = virtual.decode(raw)
        assert isinstance(found, Message)
        assert found.headers == {}


def test_any_message_is_written_with_a_base64_body() -> None:
    bare = MESSAGE._replace(properties={"delivery_tag": "d"})
    found = virtual.decode(virtual.encode(bare))
    assert isinstance(found, Message)
    assert found.body == MESSAGE.body
    assert bare.properties == {"delivery_tag": "d"}


@pytest.mark.parametrize("value", [2**70, "\ud800", 1 << 64])
def test_headers_beyond_msgspec_are_written_all_the_same(value: Any) -> None:
    message = MESSAGE._replace(headers={"x": value})
    assert virtual.decode(virtual.encode(message)) == message


def test_large_headers_are_refused_where_they_are_written() -> None:
    with pytest.raises(EncodeError, match="1,048,576"):
        virtual.encode(MESSAGE._replace(headers={"x": "y" * (2 << 20)}))


def test_large_bodies_are_not() -> None:
    message = MESSAGE._replace(body=b"y" * (3 << 20))
    assert virtual.decode(virtual.encode(message)) == message


def test_crashes() -> None:
    raw = virtual.encode(MESSAGE)
    assert virtual.crashes(raw) == 0
    assert virtual.crashes(b'{"celeriac-crashes":12,' + raw[1:]) == 12
    assert virtual.crashes(b'{"celeriac-crashes":"12",' + raw[1:]) == 0
    assert virtual.crashes(b"") == 0
