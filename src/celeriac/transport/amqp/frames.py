"""Cutting the stream into frames, and deliveries out of them.

1. `Stream.feed`: bytes in; whole deliveries go to their channel's `arrivals`, all other frames to the two
   receivers. `Stream._deliveries` is the hot path of the package: several deliveries in a row, each whole in
   the buffer. Whatever is not that, it leaves to the frame-by-frame path beside it, which judges it.
2. `method_frame`, `HEARTBEAT`: frames going out.

Bytes that are no AMQP raise `Malformed`, and the link is given up; a message whose properties cannot be read
is a message all the same (`Unreadable`).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from celeriac.transport.amqp import content, methods
from celeriac.transport.amqp.table import Malformed
from celeriac.transport.amqp.values import Arrival
from celeriac.wire.message import Message, Unreadable

__all__ = ["HEARTBEAT", "Receiver", "Stream", "method_frame"]

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
BEAT: Final = 8
END: Final = 0xCE
HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

DELIVER: Final = methods.BASIC_DELIVER
#: Methods that a content follows.
_CARRIERS: Final = (DELIVER, methods.BASIC_GET_OK, methods.BASIC_RETURN)
#: The shortest frame, and the shortest delivery.
_SHORTEST: Final = 8
_SHORTEST_DELIVERY: Final = 46
_MANY: Final = 1024

_frame = struct.Struct(">BHI").unpack_from
_method = struct.Struct(">I").unpack_from
_head = struct.Struct(">BHIIB").unpack_from
_content = struct.Struct(">BHIIQ").unpack_from  # class and weight as one number
_u64 = struct.Struct(">Q").unpack_from
_ARRIVAL: Final = Arrival
_new: Final = tuple.__new__
_pack_frame = struct.Struct(">BHI").pack
_BASIC: Final = 60 << 16

Pending = tuple[int, list[Any]]


class Receiver(Protocol):
    """A channel, as the stream sees it."""

    arrivals: deque[Arrival]
    incoming: Content | None

    def on_method(self, method: int, arguments: list[Any]) -> None: ...

    def on_content(self, method: int, arguments: list[Any], message: Message | Unreadable) -> None: ...


class Content:
    """A message of which not everything has come."""

    __slots__ = ("arguments", "chunks", "method", "missing", "properties")

    def __init__(self, method: int, arguments: list[Any]) -> None:
        self.method = method
        self.arguments = arguments
        self.properties: bytes | None = None
        self.chunks: list[bytes] = []
        self.missing = 0

    def message(self) -> Message | Unreadable:
        assert self.properties is not None
        exchange, routing_key = self.place()
        body = b"".join(self.chunks) if len(self.chunks) != 1 else self.chunks[0]
        return content.load(self.properties, 0, len(self.properties), body, exchange, routing_key)

    def place(self) -> tuple[str, str]:
        """Exchange and routing key stand in different places."""
        if self.method == methods.BASIC_GET_OK:
            return self.arguments[2], self.arguments[3]
        return self.arguments[-2], self.arguments[-1]


class Stream:
    """What has arrived, from bytes to messages.

    Args:
        receivers: the open channels by number.
        control: takes the methods of channel 0.

    Attributes:
        frame_max: the longest frame that may come, in bytes.
        news: True once anything but heartbeats came for a channel; whoever reads it resets it.
    """

    def __init__(
        self, receivers: Mapping[int, Receiver], control: Callable[[int, list[Any]], None], frame_max: int
    ) -> None:
        self._receivers = receivers
        self._control = control
        self._rest = b""
        self.frame_max = frame_max
        self.news = False

    def feed(self, data: bytes) -> None:
        """Take in `data`.

        Raises:
            Malformed: it is not AMQP; the stream is of no use any more.
        """
        if self._rest:
            data = self._rest + data
        size = len(data)
        at = 0
        while True:
            at = self._deliveries(data, at, size)
            if size - at < _SHORTEST:
                break
            kind, number, length = _frame(data, at)
            if length > self.frame_max or (kind not in (METHOD, HEADER, BODY, BEAT)):
                raise Malformed(_what_it_may_be(data, at))
            end = at + 7 + length
            if end >= size:
                break
            if data[end] != END:
                raise Malformed("a frame does not end where it should")
            self._one(kind, number, data, at + 7, end)
            at = end + 1
        self._rest = data[at:] if at < size else b""

    def _deliveries(self, data: bytes, at: int, size: int) -> int:
        """Deal out the deliveries that begin at `at`, as long as they are whole; return where they end.
        Hot."""
        receivers = self._receivers
        begin = at
        load = content.load
        while size - at >= _SHORTEST_DELIVERY:
            kind, number, length, method, skip = _head(data, at)
            if method != DELIVER or kind != METHOD:
                break
            end = at + 7 + length
            tag_end = at + 12 + skip
            if end + 23 > size or tag_end + 11 > end:
                break
            kind, same, length, basic, missing = _content(data, end + 1)
            stop = end + 8 + length
            if kind != HEADER or same != number or basic != _BASIC or length < 14 or stop >= size:
                break
            header_end = stop
            if missing:
                if stop + 8 > size:
                    break
                kind, same, length = _frame(data, stop + 1)
                body_at = stop + 8
                stop = body_at + length
                if length != missing or kind != BODY or same != number or stop >= size:
                    break
                body = data[body_at:stop]
                if data[stop] != END:
                    break
            else:
                body = b""
            receiver = receivers.get(number)
            if receiver is None or receiver.incoming is not None:
                break
            if data[end] != END or data[header_end] != END:
                break
            tail = data[tag_end + 8 : end]
            place = _places.get(tail) or _place(tail)
            if place is None:
                break
            redelivered, exchange, routing_key = place
            raw = data[at + 12 : tag_end]
            message = load(data, end + 20, header_end, body, exchange, routing_key)
            receiver.arrivals.append(
                _new(
                    _ARRIVAL,
                    (
                        _tags.get(raw) or _tag(raw),
                        _u64(data, tag_end)[0],
                        redelivered,
                        exchange,
                        routing_key,
                        message,
                    ),
                )
            )
            at = stop + 1
        if at != begin:
            self.news = True
        return at

    def _one(self, kind: int, number: int, data: bytes, at: int, end: int) -> None:
        """One frame, with its payload in ``data[at:end]``."""
        if kind == BEAT:
            return
        if number == 0:
            if kind != METHOD or end - at < 4:
                raise Malformed("a content came on channel 0")
            method = _method(data, at)[0]
            self._control(method, methods.loads(method, data, at + 4, end))
            return
        receiver = self._receivers.get(number)
        if receiver is None:
            raise Malformed(f"a frame came for the channel {number}, which is not open")
        self.news = True
        if kind == METHOD:
            self._on_method(receiver, data, at, end)
            return
        incoming = receiver.incoming
        if incoming is None:
            raise Malformed("a content came without its method")
        if kind == HEADER:
            if incoming.properties is not None or end - at < 14:
                raise Malformed("a content header came at the wrong time, or broke off")
            incoming.missing = _u64(data, at + 4)[0]
            incoming.properties = data[at + 12 : end]
        else:
            incoming.missing -= end - at
            if incoming.properties is None or incoming.missing < 0:
                raise Malformed("a body came at the wrong time, or is too long")
            incoming.chunks.append(data[at:end])
        if not incoming.missing:
            receiver.incoming = None
            receiver.on_content(incoming.method, incoming.arguments, incoming.message())

    def _on_method(self, receiver: Receiver, data: bytes, at: int, end: int) -> None:
        if end - at < 4:
            raise Malformed("a method frame is too short")
        method = _method(data, at)[0]
        arguments = methods.loads(method, data, at + 4, end)
        if method in _CARRIERS:
            if receiver.incoming is not None:
                raise Malformed("a content began before the last one was complete")
            receiver.incoming = Content(method, arguments)
        else:
            receiver.incoming = None  # a channel may be closed in the middle of a content
            receiver.on_method(method, arguments)


_places: dict[bytes, tuple[bool, str, str]] = {}
_tags: dict[bytes, str] = {}


def _place(raw: bytes) -> tuple[bool, str, str] | None:
    """Redelivered, exchange and routing key, from the end of basic.deliver; None where that is not what it
    is. They recur, so they are made once."""
    middle = 2 + raw[1]
    if len(raw) <= middle or len(raw) != middle + 1 + raw[middle]:
        return None
    exchange = raw[2:middle].decode("utf-8", "surrogateescape")
    place = bool(raw[0] & 1), exchange, raw[middle + 1 :].decode("utf-8", "surrogateescape")
    if len(_places) >= _MANY:
        _places.clear()
    _places[raw] = place
    return place


def _tag(raw: bytes) -> str:
    if len(_tags) >= _MANY:
        _tags.clear()
    return _tags.setdefault(raw, raw.decode("utf-8", "surrogateescape"))


def _what_it_may_be(data: bytes, at: int) -> str:
    """Words for bytes that are no frame."""
    if data.startswith(b"AMQP", at):
        return f"it speaks another version of AMQP ({data[at + 4 : at + 8].hex(' ')})"
    if data[at] == 0x15:
        return "it seems to want TLS: write amqps:// and the TLS port, 5671 as a rule"
    return f"a frame has an impossible type or length ({data[at : at + 7].hex(' ')})"


def method_frame(number: int, payload: bytes) -> bytes:
    return b"".join((_pack_frame(METHOD, number, len(payload)), payload, b"\xce"))
