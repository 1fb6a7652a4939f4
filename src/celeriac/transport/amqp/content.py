"""The properties of a message, as AMQP writes them, to a `Message` and back. Both ways are hot.

1. `load`: a content header's properties and a body, to a `Message`; what cannot be read becomes `Unreadable`.
2. `dump`: a `Message` (or what could not be read) to its properties and its body.
3. `wrap`, `unwrap`: the `raw` of an `Unreadable`: properties and body as they came, so that it can be moved
   to another queue without being understood.

``delivery_info`` is not part of the wire format: it says how this copy was routed.

Not here: frames (`frames.py`), what headers mean (`wire/protocol.py`).
"""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Any, Final

from celeriac.exceptions import EncodeError
from celeriac.transport.amqp import table
from celeriac.transport.amqp.table import Malformed
from celeriac.wire.message import Message, Unreadable

__all__ = ["dump", "load", "unwrap", "wrap"]

CONTENT_TYPE: Final = 1 << 15
CONTENT_ENCODING: Final = 1 << 14
HEADERS: Final = 1 << 13
DELIVERY_MODE: Final = 1 << 12
PRIORITY: Final = 1 << 11
CORRELATION_ID: Final = 1 << 10
REPLY_TO: Final = 1 << 9
EXPIRATION: Final = 1 << 8
MESSAGE_ID: Final = 1 << 7
TIMESTAMP: Final = 1 << 6
#: The seldom ones, in the order of the wire.
_SELDOM: Final = (
    ("message_id", MESSAGE_ID), ("timestamp", TIMESTAMP), ("type", 1 << 5), ("user_id", 1 << 4),
    ("app_id", 1 << 3), ("cluster_id", 1 << 2),
)  # fmt: skip
_SELDOM_FLAGS: Final = 0xFC
_SELDOM_NAMES: Final = frozenset(name for name, _ in _SELDOM)
_RARE_NAMES: Final = frozenset(name for name, _ in _SELDOM[2:])
_MORE: Final = 1

_WRAPPED: Final = b"AMQP 0-9-1 content\n"
_MANY: Final = 1024
_MESSAGE: Final = Message
_new: Final = tuple.__new__
_u32 = struct.Struct(">I").unpack_from
_pack_u32 = struct.Struct(">I").pack
_pack_flags = struct.Struct(">H").pack
_pack_u64 = struct.Struct(">Q").pack
_octets = table.OCTETS


def load(
    data: bytes, at: int, end: int, body: bytes, exchange: str, routing_key: str
) -> Message | Unreadable:
    """The message whose properties (from the flags on) are ``data[at:end]``."""
    begin = at
    try:
        flags = data[at] << 8 | data[at + 1]
        at += 2
        content_type = content_encoding = ""
        headers: dict[str, Any] = {}
        properties: dict[str, Any] = {"delivery_info": {"exchange": exchange, "routing_key": routing_key}}
        if flags & CONTENT_TYPE:
            start = at + 1
            at = start + data[at]
            raw = data[start:at]
            content_type = _texts.get(raw) or _text(raw)
        if flags & CONTENT_ENCODING:
            start = at + 1
            at = start + data[at]
            raw = data[start:at]
            content_encoding = _texts.get(raw) or _text(raw)
        if flags & HEADERS:
            start = at + 4
            at = start + _u32(data, at)[0]
            if at > end:
                raise Malformed("the headers are longer than they may be")
            headers = table.load_headers(data, start, at)
        if flags & DELIVERY_MODE:
            properties["delivery_mode"] = data[at]
            at += 1
        if flags & PRIORITY:
            properties["priority"] = data[at]
            at += 1
        if flags & CORRELATION_ID:
            start = at + 1
            at = start + data[at]
            properties["correlation_id"] = data[start:at].decode("utf-8", "surrogateescape")
        if flags & REPLY_TO:
            start = at + 1
            at = start + data[at]
            raw = data[start:at]
            properties["reply_to"] = _texts.get(raw) or _text(raw)
        if flags & EXPIRATION:
            start = at + 1
            at = start + data[at]
            properties["expiration"] = data[start:at].decode("utf-8", "surrogateescape")
        if flags & _SELDOM_FLAGS:
            at = _load_seldom(data, at, flags, properties)
        if at != end or flags & _MORE:
            raise Malformed("the properties have not the length that they should have")
    except (ValueError, IndexError, struct.error, RecursionError) as exc:
        reason = f"the properties cannot be read: {exc}"
        return Unreadable(reason, wrap(data[begin:end], body))
    return _new(_MESSAGE, (body, content_type, content_encoding, headers, properties))


def _load_seldom(data: bytes, at: int, flags: int, properties: dict[str, Any]) -> int:
    for name, flag in _SELDOM:
        if not flags & flag:
            continue
        if name == "timestamp":
            properties[name] = struct.unpack_from(">Q", data, at)[0]
            at += 8
        else:
            start = at + 1
            at = start + data[at]
            properties[name] = data[start:at].decode("utf-8", "surrogateescape")
    return at


_texts: dict[bytes, str] = {}


def _text(raw: bytes) -> str:
    """Texts that recur are made once."""
    text = raw.decode("utf-8", "surrogateescape")
    if len(_texts) >= _MANY:
        _texts.clear()
    _texts[raw] = text
    return text


def wrap(properties: bytes, body: bytes) -> bytes:
    """Properties and body as one piece of bytes."""
    return b"".join((_WRAPPED, _pack_u32(len(properties)), properties, body))


def unwrap(raw: bytes) -> tuple[bytes, bytes]:
    """Properties and body; bytes that `wrap` has not made are a body without properties.

    Example:
        >>> unwrap(wrap(b"\\x00\\x00", b"body"))
        (b'\\x00\\x00', b'body')
    """
    start = len(_WRAPPED) + 4
    if len(raw) < start or not raw.startswith(_WRAPPED):
        return b"\x00\x00", raw
    end = start + _u32(raw, start - 4)[0]
    return raw[start:end], raw[end:]


def dump(message: Message | Unreadable) -> tuple[bytes, bytes]:
    """The properties, flags first, and the body.

    Raises:
        EncodeError: a header or a property has a value that AMQP cannot write.
    """
    if isinstance(message, Unreadable):
        return unwrap(message.raw)
    body, content_type, content_encoding, headers, properties = message
    known = _kinds.get((content_type, content_encoding)) or _kind(content_type, content_encoding)
    flags, kind = known
    get = properties.get
    tail = b""
    try:
        if (mode := get("delivery_mode")) is not None:
            flags |= DELIVERY_MODE
            tail = _octets[mode]
        if (priority := get("priority")) is not None:
            flags |= PRIORITY
            tail += _octets[priority]
    except (LookupError, TypeError) as exc:
        raise EncodeError(
            f"delivery_mode and priority must be numbers from 0 to 255, not {exc.args[0]!r}"
        ) from exc
    if (text := get("correlation_id")) is not None:
        flags |= CORRELATION_ID
        tail += table.short_text(text if type(text) is str else str(text), "correlation_id")
    if (text := get("reply_to")) is not None:
        flags |= REPLY_TO
        tail += (_addresses.get(text) if type(text) is str else None) or _address(text)
    if (text := get("expiration")) is not None:
        flags |= EXPIRATION
        tail += table.short_text(text if type(text) is str else str(text), "expiration")
    if "message_id" in properties or not _SELDOM_NAMES.isdisjoint(properties):  # all of ours have one
        more, seldom = _dump_seldom(properties)
        flags |= more
        tail += seldom
    return _whole(flags, kind, headers, tail), body


def _whole(flags: int, kind: bytes, headers: dict[str, Any], tail: bytes) -> bytes:
    if not headers:
        return _pack_flags(flags) + kind + tail
    raw = table.dump_headers(headers)
    return b"".join((_pack_flags(flags | HEADERS), kind, _pack_u32(len(raw)), raw, tail))


_kinds: dict[tuple[str, str], tuple[int, bytes]] = {}


def _kind(content_type: str, content_encoding: str) -> tuple[int, bytes]:
    """Flags and bytes of the content's type and encoding; they recur, so they are made once."""
    flags, raw = 0, b""
    if content_type:
        flags |= CONTENT_TYPE
        raw += table.short_text(content_type, "content_type")
    if content_encoding:
        flags |= CONTENT_ENCODING
        raw += table.short_text(content_encoding, "content_encoding")
    if len(_kinds) >= _MANY:
        _kinds.clear()
    _kinds[content_type, content_encoding] = flags, raw
    return flags, raw


_addresses: dict[Any, bytes] = {}


def _address(text: Any) -> bytes:
    """Where replies go. A process has few of them, so their bytes are made once."""
    raw = table.short_text(str(text), "reply_to")
    if type(text) is str:
        if len(_addresses) >= _MANY:
            _addresses.clear()
        _addresses[text] = raw
    return raw


def _dump_seldom(properties: dict[str, Any]) -> tuple[int, bytes]:
    flags, raw = 0, b""
    if (text := properties.get("message_id")) is not None:  # all of ours have the first two
        flags = MESSAGE_ID
        raw = table.short_text(text if type(text) is str else str(text), "message_id")
    if (moment := properties.get("timestamp")) is not None:
        flags |= TIMESTAMP
        raw += _pack_u64(moment) if type(moment) is int and 0 <= moment < 1 << 64 else _seconds(moment)
    if not _RARE_NAMES.isdisjoint(properties):
        for name, flag in _SELDOM[2:]:
            if (value := properties.get(name)) is not None:
                flags |= flag
                raw += table.short_text(str(value), name)
    return flags, raw


def _seconds(moment: Any) -> bytes:
    seconds = moment.timestamp() if isinstance(moment, datetime) else moment
    try:
        return int(seconds).to_bytes(8, "big")
    except (OverflowError, TypeError, ValueError) as exc:
        raise EncodeError(f"timestamp must be epoch seconds, not {moment!r}") from exc
