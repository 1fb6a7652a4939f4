"""Task messages, ours and Celery's: each side's bytes are what the other side writes or reads."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tests.wire import samples

from celeriac.wire import protocol, serialization, virtual
from celeriac.wire.message import Message, Unreadable

ENVELOPES = samples.envelopes()
OTHER_BODIES = {"serializer_pickle", "serializer_yaml", "serializer_msgpack"}
VERSION_1 = {"protocol_1", "protocol_1_link"}
JSON_ITEMS = [
    pytest.param(item, id=f"{name}-{number}")
    for name, items in ENVELOPES.items()
    for number, item in enumerate(items)
    if name not in OTHER_BODIES
]
V2_ITEMS = [
    pytest.param(item, id=f"{name}-{number}")
    for name, items in ENVELOPES.items()
    for number, item in enumerate(items)
    if name not in OTHER_BODIES | VERSION_1 | {"json_special_types_2", "retry", "compression_gzip"}
]

#: Properties that every message has; what else a sample holds was given by the caller.
STANDARD = {
    "correlation_id",
    "reply_to",
    "delivery_mode",
    "delivery_info",
    "priority",
    "body_encoding",
    "delivery_tag",
    "expiration",
}


def decoded(raw: bytes) -> Message:
    message = virtual.decode(raw)
    assert not isinstance(message, Unreadable), message.reason
    return message


def call_as_recorded(item: dict[str, Any], **changes: Any) -> Message:
    """The call of a sample, made with our `write`."""
    headers, properties = item["headers"], item["properties"]
    args, kwargs, follows = item["body"]
    expires = headers["expires"]
    now = None
    if expires is not None:
        now = datetime.fromisoformat(expires) - timedelta(milliseconds=int(properties["expiration"]))
    custom = {name: value for name, value in headers.items() if name not in ENVELOPES["simple"][0]["headers"]}
    extra = {name: value for name, value in properties.items() if name not in STANDARD}
    options: dict[str, Any] = {
        "name": headers["task"],
        "id": headers["id"],
        "args": args if headers["argsrepr"].startswith("[") else tuple(args),
        "kwargs": kwargs,
        "routing_key": properties["delivery_info"]["routing_key"],
        "priority": properties["priority"],
        "reply_to": properties["reply_to"],
        "eta": headers["eta"],
        "expires": expires,
        "now": now,
        "retries": headers["retries"],
        "time_limit": headers["timelimit"][0],
        "soft_time_limit": headers["timelimit"][1],
        "group": headers["group"],
        "group_index": headers["group_index"],
        "shadow": headers["shadow"],
        "ignore_result": headers["ignore_result"],
        "argsrepr": headers["argsrepr"] if headers["argsrepr"] == "(hidden)" else None,
        "stamped_headers": headers["stamped_headers"],
        "stamps": headers["stamps"],
        "headers": custom,
        "properties": extra,
        **follows,
        **changes,
    }
    return protocol.write(**options)


def assert_same(message: Message, item: dict[str, Any]) -> None:
    """Headers in Celery's order and with its values; properties with its values (but for the random tag)."""
    expected = {**item["headers"], "origin": protocol.origin()}
    assert list(message.headers.items()) == list(expected.items())
    assert {**message.properties, "delivery_tag": "", "origin": ""} == {
        **item["properties"],
        "delivery_tag": "",
        "origin": "",
    }


@pytest.mark.parametrize("item", JSON_ITEMS)
def test_the_samples_are_whole(item: dict[str, Any]) -> None:
    """Placeholders filled in, the bodies have the lengths that were recorded."""
    assert len(samples.celery_body(item)) == item["size"]


@pytest.mark.parametrize("item", JSON_ITEMS)
def test_our_envelope_says_what_celerys_says(item: dict[str, Any]) -> None:
    raw = samples.celery_envelope(item)
    ours = virtual.encode(decoded(raw))
    assert list(json.loads(ours).items()) == list(json.loads(raw).items())


@pytest.mark.parametrize("item", V2_ITEMS)
def test_we_write_celerys_body_headers_and_properties(item: dict[str, Any]) -> None:
    message = call_as_recorded(item)
    assert message.body == samples.celery_body(item)
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert_same(message, item)


@pytest.mark.parametrize("item", V2_ITEMS)
def test_we_read_what_celery_wrote(item: dict[str, Any]) -> None:
    call = protocol.read(decoded(samples.celery_envelope(item)), samples.ACCEPT)
    headers = item["headers"]
    args, kwargs, follows = item["body"]
    assert (call.name, call.id, call.args, call.kwargs) == (headers["task"], headers["id"], args, kwargs)
    assert call.callbacks == follows["callbacks"]
    assert call.errbacks == follows["errbacks"]
    assert call.chain == follows["chain"]
    assert call.chord == follows["chord"]
    assert [call.hard, call.soft] == headers["timelimit"]
    for moment, text in ((call.eta, headers["eta"]), (call.expires, headers["expires"])):
        assert moment == (datetime.fromisoformat(text).timestamp() if text else None)
    assert (call.retries, call.group, call.group_index) == (
        headers["retries"],
        headers["group"],
        headers["group_index"],
    )
    assert (call.root_id, call.parent_id) == (headers["root_id"], headers["parent_id"])
    assert call.ignore_result is headers["ignore_result"]
    assert call.reply_to == item["properties"]["reply_to"]
    assert call.headers == headers


def test_countdown_and_relative_expiry_are_celerys() -> None:
    (item,) = ENVELOPES["countdown_expires_seconds"]
    end = datetime.fromisoformat(item["headers"]["expires"])
    message = call_as_recorded(item, eta=None, countdown=60, expires=120, now=end - timedelta(seconds=120))
    assert_same(message, item)


def test_an_expiry_in_the_past_gives_no_negative_expiration() -> None:
    message = protocol.write(name="t", id="i", expires=datetime(2020, 1, 1, tzinfo=UTC))
    assert message.properties["expiration"] == "0"


SPECIAL = (
    datetime(2030, 1, 1, 1, 2, 3, 4, tzinfo=UTC),
    datetime(2030, 1, 1),
    date(2030, 1, 1),
    time(1, 2),
    UUID(int=1),
    Decimal("1.50"),
    b"bytes",
    (1, 2),
)
SPECIAL_KWARGS = {"n": None, "t": True, "f": 1.5, "s": "é"}


def test_special_types_are_written_as_celery_does() -> None:
    (item,) = samples.envelopes()["json_special_types_2"]
    item["headers"]["argsrepr"] = repr(SPECIAL)
    message = call_as_recorded(item, args=SPECIAL, kwargs=SPECIAL_KWARGS)
    assert message.body == samples.celery_body(item)
    assert_same(message, item)


def test_special_types_are_read_as_celery_wrote_them() -> None:
    (item,) = ENVELOPES["json_special_types_2"]
    call = protocol.read(decoded(samples.celery_envelope(item)), samples.ACCEPT)
    assert call.args == [*SPECIAL[:-1], [1, 2]]
    assert [type(arg) for arg in call.args[:-1]] == [type(arg) for arg in SPECIAL[:-1]]
    assert call.kwargs == SPECIAL_KWARGS


@pytest.mark.parametrize("name", ["gzip", "zlib", "bzip2", "lzma", "zstd", "brotli"])
def test_compressed_bodies_round_trip(name: str) -> None:
    message = decoded(virtual.encode(protocol.write(name="t", id="i", args=(1, 2), compression=name)))
    assert protocol.read(message, samples.ACCEPT).args == [1, 2]


def test_gzip_is_named_as_celery_does() -> None:
    (item,) = ENVELOPES["compression_gzip"]
    message = call_as_recorded(item, compression="gzip", headers=None)
    assert_same(message, item)


def test_a_compressed_message_of_celery_is_read() -> None:
    call = protocol.read(decoded(samples.raw("bzip2_envelope.json")), samples.ACCEPT)
    assert (call.name, call.args) == ("proj.add", [1, 2])


@pytest.mark.parametrize("name", ["pickle", "yaml", "msgpack"])
def test_other_serializers_write_celerys_sizes_and_types(name: str) -> None:
    (item,) = samples.envelopes()[f"serializer_{name}"]
    item["body"] = [[1, 2], {}, {}]
    message = call_as_recorded(item, serializer=name)
    assert (message.content_type, message.content_encoding) == (
        item["content-type"],
        item["content-encoding"],
    )
    assert len(message.body) == item["size"]
    assert_same(message, item)
    accept = serialization.content_types([name])
    assert list(protocol.read(decoded(virtual.encode(message)), accept).args) == [1, 2]


def test_yaml_text_is_celerys() -> None:
    (item,) = samples.envelopes()["serializer_yaml"]
    text = item["body"]["yaml_text"].encode()
    assert protocol.write(name="t", id="i", args=(1, 2), serializer="yaml").body == text
    call = protocol.read(decoded(samples.celery_envelope(item, text)), samples.ACCEPT)
    assert call.args == [1, 2]


def test_a_retry_is_celerys() -> None:
    (item,) = ENVELOPES["retry"]
    headers = item["headers"]
    first = protocol.write(
        name=headers["task"],
        id=headers["id"],
        args=(30,),
        routing_key="celery",
        reply_to=item["properties"]["reply_to"],
    )
    call = protocol.read(first, samples.ACCEPT)
    again = protocol.retry(call, first, eta=datetime.fromisoformat(headers["eta"]).timestamp())
    assert again.body == samples.celery_body(item)
    assert_same(again, item)
    assert again.properties["delivery_tag"] != first.properties["delivery_tag"]


@pytest.mark.parametrize("name", sorted(VERSION_1))
def test_protocol_1_is_read(name: str) -> None:
    (item,) = ENVELOPES[name]
    call = protocol.read(decoded(samples.celery_envelope(item)), samples.ACCEPT)
    body = item["body"]
    assert (call.name, call.id, call.args, call.kwargs) == (
        body["task"],
        body["id"],
        body["args"],
        body["kwargs"],
    )
    assert call.callbacks == body["callbacks"]
    assert call.eta == (datetime.fromisoformat(body["eta"]).timestamp() if body["eta"] else None)
    assert call.headers.keys() == ENVELOPES["simple"][0]["headers"].keys()
    assert call.root_id == call.id


def test_protocol_1_is_written() -> None:
    (item,) = ENVELOPES["protocol_1"]
    body, properties = item["body"], item["properties"]
    end = datetime.fromisoformat(body["expires"])
    message = protocol.write_v1(
        name=body["task"],
        id=body["id"],
        args=(1, 2),
        kwargs={"k": 1},
        priority=4,
        routing_key="celery",
        reply_to=properties["reply_to"],
        eta=body["eta"],
        expires=end,
        now=end - timedelta(seconds=60),
    )
    assert message.body == samples.celery_body(item)
    assert message.headers == {}
    assert {**message.properties, "delivery_tag": ""} == {**properties, "delivery_tag": ""}


def test_a_protocol_1_message_is_retried_as_protocol_2() -> None:
    (item,) = ENVELOPES["protocol_1_link"]
    first = decoded(samples.celery_envelope(item))
    call = protocol.read(first, samples.ACCEPT)
    again = protocol.read(protocol.retry(call, first), samples.ACCEPT)
    assert (again.args, again.retries, again.callbacks) == (call.args, 1, call.callbacks)
    assert again.parent_id == call.id
