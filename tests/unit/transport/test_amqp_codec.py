"""The AMQP codec: tables, properties, frames; round trips, golden bytes, and bytes that are none."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from celeriac.exceptions import EncodeError
from celeriac.transport.amqp import content, methods, table
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.frames import HEARTBEAT, Stream, method_frame
from celeriac.transport.amqp.table import Malformed
from celeriac.wire.message import Message, Unreadable
from celeriac.wire.protocol import write

names = st.text(st.characters(codec="utf-8"), max_size=60)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0, fold=0)
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | moments
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
tables = st.dictionaries(names, values, max_size=8)


# -- tables -----------------------------------------------------------------------------------------------


@given(tables)
def test_tables_come_back(headers: dict[str, Any]) -> None:
    raw = table.dumps(headers)
    for load in (table.loads, table.load_headers, table.load_headers):
        loaded = load(raw, 0, len(raw))
        assert loaded == headers
        assert list(loaded) == list(headers)
        assert repr(loaded) == repr(headers)  # True is not 1


@given(
    st.sampled_from([
        {}, {"group": "g"}, {"group": "g", "group_index": 7}, {"group_index": 1 << 40}, {"retries": 3},
        {"parent_id": "p", "root_id": "r\xfc"}, {"ignore_result": True}, {"ignore_result": 1},
        {"ignore_result": None}, {"time_limit": 3.5}, {"eta": "2030-01-01T00:00:00+00:00"}, {"shadow": "s"},
        {"stamps": {"a": 1}, "stamped_headers": ["a"]}, {"replaced_task_nesting": 1},
        {"headers": {"mine": 1}}, {"headers": {"group": 1}}, {"headers": {"group": True}},
        {"headers": {"stamps": None}},
        {"headers": {"id": 5}}, {"headers": {"retries": None}}, {"headers": {"task": "\udce4"}},
    ]),
    st.lists(st.text(max_size=3) | st.integers(), max_size=2),
)  # fmt: skip
def test_headers_are_written_as_tables_are(options: dict[str, Any], args: list[Any]) -> None:
    """Whatever was written before them."""
    headers = write(name="proj.add", id="i-1", args=args, **options).headers
    for _ in range(2):
        assert table.dump_headers(headers) == table.dumps(headers)


def test_a_table_as_celerys_client_writes_it() -> None:
    golden = bytes.fromhex(
        "046c616e67530000000270790365746156077265747269657349000000000669676e6f726574000974696d656c696d6974"
        "410000000256560673"
        "74616d70734600000000036269674c00000100000000000166643ff800000000000001735300000002c3bc"
    )
    headers = {
        "lang": "py", "eta": None, "retries": 0, "ignore": False, "timelimit": [None, None], "stamps": {},
        "big": 1 << 40, "f": 1.5, "s": "ü",
    }  # fmt: skip
    assert table.dumps(headers) == golden
    assert table.load_headers(golden, 0, len(golden)) == headers


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"b\xff", -1),
        (b"B\xff", 255),
        (b"s\xff\xfe", -2),
        (b"u\xff\xfe", 65534),
        (b"I\xff\xff\xff\xff", -1),
        (b"i\xff\xff\xff\xff", 4294967295),
        (b"l" + b"\xff" * 8, -1),
        (b"L" + b"\x00" * 7 + b"\x07", 7),
        (b"f\x3f\xc0\x00\x00", 1.5),
        (b"d\x3f\xf8" + b"\x00" * 6, 1.5),
        (b"D\x02\x00\x00\x01\x3a", Decimal("3.14")),
        (b"T" + (1_800_000_000).to_bytes(8, "big"), datetime.fromtimestamp(1_800_000_000, UTC)),
        (b"x\x00\x00\x00\x02\xff\x00", b"\xff\x00"),
        (b"S\x00\x00\x00\x01\xff", b"\xff"),
        (b"V", None),
        (b"t\x02", True),
    ],
)
def test_values_of_other_clients_are_read(raw: bytes, value: object) -> None:
    data = b"\x01a" + raw
    assert table.loads(data, 0, len(data)) == {"a": value}


@pytest.mark.parametrize(
    "raw",
    [
        b"\x01a",
        b"\x05a",
        b"\x01aS\x00\x00\x00\x09short",
        b"\x01aF\xff\xff\xff\xff",
        b"\x01aI\x00",
        b"\x01a?",
        b"\x01aT\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x01aT\x00\x00\x00\xff\x00\x00\x00\x00",
        b"\x01aA\x00\x00\x00\x02I\x00\x00\x00\x00",
        b"\x02idS\xff\xff\xff\xff",
        b"\x02idS\x00",
    ],
)
def test_broken_tables_are_malformed(raw: bytes) -> None:
    for load in (table.loads, table.load_headers):
        with pytest.raises(Malformed):
            load(raw, 0, len(raw))


def test_nested_without_end() -> None:
    value: Any = 1
    for _ in range(200):
        value = [value]
    with pytest.raises(EncodeError, match="nested"):
        table.dumps({"a": value})
    raw = b"V"
    for _ in range(200):
        raw = b"A" + len(raw).to_bytes(4, "big") + raw
    with pytest.raises(Malformed, match="nested"):
        table.loads(b"\x01a" + raw, 0, 2 + len(raw))


@pytest.mark.parametrize(
    "value", [1 << 63, object(), Decimal(10) ** 30, Decimal("nan"), {"a": {1, object()}}]
)
def test_what_amqp_cannot_write(value: object) -> None:
    with pytest.raises(EncodeError):
        table.dumps({"a": value})
    with pytest.raises(EncodeError, match="255"):
        table.dumps({"a" * 256: 1})


def test_remembered_runs_do_not_share_lists() -> None:
    raw = table.dumps({"timelimit": [None, None], "id": "a", "stamps": {}})
    first, second = (table.load_headers(raw, 0, len(raw)) for _ in range(2))
    first["timelimit"].append(1)
    first["stamps"]["x"] = 1
    assert (
        second == table.load_headers(raw, 0, len(raw)) == {"timelimit": [None, None], "id": "a", "stamps": {}}
    )


@given(st.text(st.characters(codec="utf-8"), max_size=20), tables)
def test_a_mark_within_a_value_misleads_nobody(text: str, inner: dict[str, Any]) -> None:
    mark = b"\x02idS\x00\x00\x00\x01x".decode()
    headers = {
        "lang": text + mark,
        "inner": {"id": "y", **inner},
        "id": mark,
        "argsrepr": mark + text,
        "x": mark,
    }
    raw = table.dumps(headers)
    assert table.load_headers(raw, 0, len(raw)) == headers


@given(st.binary(max_size=200))
@example(b"\x02idS\x00\x00\x00\x01x\x02idS\x00\x00\x00\x01y")
def test_both_readers_agree_on_any_bytes(raw: bytes) -> None:
    def outcome(load: Any) -> Any:
        try:
            return repr(load(raw, 0, len(raw)))
        except Malformed:
            return Malformed

    assert outcome(table.loads) == outcome(table.load_headers)


@given(tables, st.data())
def test_both_readers_agree_on_damaged_tables(headers: dict[str, Any], data: st.DataObject) -> None:
    raw = bytearray(table.dumps({"lang": "py", "id": "a-1", **headers, "argsrepr": "()"}))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    test_both_readers_agree_on_any_bytes.hypothesis.inner_test(bytes(raw))


# -- properties and bodies --------------------------------------------------------------------------------

PROPERTIES = {
    "delivery_mode": 2, "priority": 7, "correlation_id": "c-ü", "reply_to": "r", "expiration": "60000",
    "message_id": "m", "timestamp": 1_800_000_000, "type": "t", "user_id": "guest", "app_id": "a",
    "cluster_id": "",
}  # fmt: skip


@given(
    st.binary(max_size=50),
    st.sampled_from(["", "application/json", "ü"]),
    st.sampled_from(["", "utf-8", "binary"]),
    tables,
    st.sets(st.sampled_from(sorted(PROPERTIES))),
)
def test_messages_come_back(
    body: bytes, kind: str, encoding: str, headers: dict[str, Any], chosen: set[str]
) -> None:
    properties = {name: PROPERTIES[name] for name in sorted(chosen)}
    raw, sent = content.dump(Message(body, kind, encoding, headers, dict(properties)))
    assert sent == body
    loaded = content.load(raw, 0, len(raw), body, "x", "k")
    assert isinstance(loaded, Message)
    assert loaded.properties.pop("delivery_info") == {"exchange": "x", "routing_key": "k"}
    assert loaded == Message(body, kind, encoding, headers, properties)


def test_properties_that_mean_nothing_here_are_not_sent() -> None:
    message = write(name="proj.add", id="a-1", args=(2, 3))
    raw, _ = content.dump(message)
    for word in (b"delivery_tag", b"base64", b"delivery_info"):
        assert word not in raw


@pytest.mark.parametrize("name", ["correlation_id", "reply_to", "message_id"])
@pytest.mark.parametrize("value", [7, 7.0, ["7"], "7", ""])
def test_addresses_are_written_as_text(name: str, value: Any) -> None:
    for _ in range(2):  # the second time from memory
        raw, _ = content.dump(Message(b"", "", "", {}, {name: value}))
        loaded = content.load(raw, 0, len(raw), b"", "", "q")
        assert isinstance(loaded, Message)
        assert loaded.properties[name] == str(value)


@pytest.mark.parametrize(
    "properties",
    [
        {"priority": 256},
        {"priority": "high"},
        {"delivery_mode": -1},
        {"reply_to": "r" * 256},
        {"timestamp": "now"},
        {"timestamp": -1},
        {"timestamp": 1 << 64},
    ],
)
def test_properties_that_cannot_be_written(properties: dict[str, Any]) -> None:
    with pytest.raises(EncodeError):
        content.dump(Message(b"", "", "", {}, properties))


@given(st.binary(max_size=60), st.binary(max_size=10))
def test_any_properties_give_a_message_or_an_unreadable_that_is_whole(raw: bytes, body: bytes) -> None:
    loaded = content.load(raw, 0, len(raw), body, "", "q")
    if isinstance(loaded, Unreadable):
        assert content.dump(loaded) == (raw, body)
        assert loaded.reason


def test_bytes_that_were_never_amqp_are_a_body() -> None:
    assert content.dump(Unreadable("?", b"junk")) == (b"\x00\x00", b"junk")


# -- methods ----------------------------------------------------------------------------------------------

_SAMPLES: dict[str, Any] = {
    "o": 7,
    "h": 65535,
    "i": 1 << 31,
    "q": 1 << 63,
    "s": "ü",
    "S": b"\x00x",
    "t": {"a": [1]},
}


@pytest.mark.parametrize("method", methods.FORMATS)
def test_methods_come_back(method: int) -> None:
    letters = methods.FORMATS[method]
    arguments = [_SAMPLES.get(letter, position % 2 == 0) for position, letter in enumerate(letters)]
    raw = methods.dumps(method, *arguments)
    assert struct.unpack(">I", raw[:4])[0] == method
    assert methods.loads(method, raw, 4, len(raw)) == arguments
    for cut in range(4, len(raw)):
        with pytest.raises(Malformed):
            methods.loads(method, raw[:cut], 4, cut)


def test_golden_methods() -> None:
    assert methods.dumps(methods.BASIC_ACK, 1, True) == bytes.fromhex("003c0050000000000000000101")
    assert methods.dumps(
        methods.QUEUE_DECLARE, 0, "q", False, True, False, False, False, {}
    ) == bytes.fromhex("0032000a000001710200000000")


# -- the stream -------------------------------------------------------------------------------------------


class FakeLink:
    """Where a channel's frames go, and what it asks of its link."""

    frame_max = 4096
    timeout = 1.0
    where = "nowhere"

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.forgotten: list[int] = []

    def put(self, frame: bytes) -> None:
        self.out.append(bytes(frame))

    def put_all(self, frames: tuple[bytes, ...]) -> None:
        self.out += map(bytes, frames)

    def forget(self, number: int) -> None:
        self.forgotten.append(number)


def a_channel() -> tuple[FakeLink, Channel, Stream, list[Any]]:
    link, controls = FakeLink(), []
    channel = Channel(link, 1)  # type: ignore[arg-type]
    stream = Stream({1: channel}, lambda *method: controls.append(method), 4096)
    return link, channel, stream, controls


def delivery(message: Message | Unreadable, tag: int, *, frame_max: int = 4096, exchange: str = "x") -> bytes:
    """What the server sends for a message."""
    deliver = methods.dumps(methods.BASIC_DELIVER, "ctag", tag, False, exchange, "key")
    return method_frame(1, deliver) + carried(message, frame_max)


def carried(message: Message | Unreadable, frame_max: int = 4096) -> bytes:
    link, channel, _, _ = a_channel()
    link.frame_max = frame_max
    channel.publish("", "q", message)
    published = b"".join(link.out)
    return published[8 + struct.unpack_from(">I", published, 3)[0] :]


MESSAGES = [
    write(name="proj.add", id="a-1", args=(2, 3)),
    write(name="proj.add", id="a-2", args=("x" * 20_000,)),
    Message(b"", "", "", {}, {}),
    Message(b"x" * 4088, "text/plain", "", {"a": [1, {"b": None}]}, {"priority": 3}),
    Unreadable("?", content.wrap(b"\x20\x00\x00\x00\x00\x03\x01a?", b"body")),
]


@pytest.mark.parametrize("step", [1, 3, 7, 64, 1000, 1 << 20])
def test_deliveries_come_out_whatever_the_pieces(step: int) -> None:
    _, channel, stream, _ = a_channel()
    data = b"".join(delivery(message, tag) + HEARTBEAT for tag, message in enumerate(MESSAGES, 1)) * 2
    for start in range(0, len(data), step):
        stream.feed(data[start : start + step])
    assert [arrival[:5] for arrival in channel.arrivals] == [
        ("ctag", tag, False, "x", "key") for tag in range(1, len(MESSAGES) + 1)
    ] * 2
    for arrival, sent in zip(channel.arrivals, MESSAGES * 2, strict=True):
        if isinstance(sent, Unreadable):
            assert isinstance(arrival.message, Unreadable)
            assert arrival.message.raw == sent.raw
        else:
            assert isinstance(arrival.message, Message)
            assert arrival.message[:4] == sent[:4]


def test_properties_as_celerys_client_writes_them() -> None:
    golden = bytes.fromhex("ff0003612f62057574662d3800000007016149000000010200016301720135")
    properties = {
        "delivery_mode": 2, "priority": 0, "correlation_id": "c", "reply_to": "r", "expiration": "5",
    }  # fmt: skip
    assert content.dump(Message(b"hi", "a/b", "utf-8", {"a": 1}, properties)) == (golden, b"hi")


def test_golden_publish() -> None:
    link, channel, _, _ = a_channel()
    channel.publish("", "q", Message(b"hi", "a/b", "utf-8", {}, {"delivery_mode": 2}), mandatory=True)
    method = "0100010000000a003c0028000000017101ce"
    properties = "02000100000019003c00000000000000000002d00003612f62057574662d3802ce"
    assert b"".join(link.out).hex() == method + properties + "030001000000026869ce"


def test_properties_have_to_fit_into_a_frame() -> None:
    link, channel, _, _ = a_channel()
    with pytest.raises(EncodeError, match="frame_max"):
        channel.publish("", "q", Message(b"", "", "", {"a": "x" * 5000}, {}))
    assert not link.out


def test_confirms_in_any_order() -> None:
    _, channel, stream, _ = a_channel()
    channel._confirms = True
    assert [channel.publish("", "q", MESSAGES[0]) for _ in range(10)] == list(range(1, 11))

    def confirm(tag: int, multiple: bool = False, ok: bool = True) -> None:
        arguments = (tag, multiple) if ok else (tag, multiple, False)
        payload = methods.dumps(methods.BASIC_ACK if ok else methods.BASIC_NACK, *arguments)
        stream.feed(method_frame(1, payload))

    confirm(3)
    confirm(1)
    assert [seq for seq in range(1, 11) if channel.is_confirmed(seq)] == [1, 3]
    assert channel.unconfirmed == 8
    confirm(5, ok=False)
    confirm(6, multiple=True, ok=False)
    assert channel.nacked == [5, 2, 4, 6]
    assert channel.unconfirmed == 4
    confirm(9)
    confirm(0, multiple=True)
    assert channel.unconfirmed == 0


def test_a_returned_message_comes_with_its_reason() -> None:
    _, channel, stream, _ = a_channel()
    payload = methods.dumps(methods.BASIC_RETURN, 312, "NO_ROUTE", "", "q")
    stream.feed(method_frame(1, payload) + carried(MESSAGES[1]))
    [returned] = channel.returned
    assert returned[:4] == (312, "NO_ROUTE", "", "q")
    assert isinstance(returned.message, Message)
    assert returned.message.headers["id"] == "a-2"


def test_a_channel_that_the_server_closes() -> None:
    link, channel, stream, _ = a_channel()
    stream.feed(method_frame(1, methods.dumps(methods.CHANNEL_CLOSE, 404, "NOT_FOUND", 0)))
    assert channel.error is not None
    assert channel.error.code == 404
    assert link.forgotten == [1]
    with pytest.raises(type(channel.error)):
        channel.publish("", "q", MESSAGES[0])
    with pytest.raises(type(channel.error)):
        channel.queue_declare("q")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"AMQP\x00\x01\x00\x00", "another version"),
        (b"\x15\x03\x03\x00\x02\x02\x46\x00", "amqps://"),
        (b"HTTP/1.1 400 Bad Request\r\n", "impossible"),
        (b"\x01\x00\x01\xff\xff\xff\xff\x00", "impossible"),
        (HEARTBEAT[:-1] + b"\x00", "end"),
        (method_frame(1, b"\x00"), "too short"),
        (method_frame(1, b"\x00\x63\x00\x01"), "unknown"),
        (method_frame(9, b"\x00\x3c\x00\x50" + b"\x00" * 9), "not open"),
        (carried(MESSAGES[0]), "without its method"),
        (delivery(MESSAGES[0], 1)[:-100] + delivery(MESSAGES[0], 1), "end where"),
    ],
)
def test_bytes_that_are_no_amqp(data: bytes, what: str) -> None:
    _, _, stream, _ = a_channel()
    with pytest.raises(Malformed, match=what):
        stream.feed(data + bytes(5000))


@settings(max_examples=300)
@given(st.data())
def test_damaged_streams_never_do_worse_than_malformed(data: st.DataObject) -> None:
    _, _, stream, _ = a_channel()
    raw = bytearray(b"".join(delivery(message, 1) for message in (MESSAGES[0], MESSAGES[2], MESSAGES[3])))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    step = data.draw(st.integers(1, len(raw)))
    try:
        for start in range(0, len(raw), step):
            stream.feed(bytes(raw[start : start + step]))
    except Malformed:
        pass  # the one way to fail
