"""The envelope of the transports that store text: Redis, and our own SQL and memory stores.

1. `encode`: a `Message` as the JSON envelope that Celery's peers read (keys ``body``, ``content-encoding``,
   ``content-type``, ``headers``, ``properties``; the body in base64).
2. `decode`: the way back. It never raises: bytes that are no message become `Unreadable` with the reason.
3. `reread`: both, for who has the message at hand and need not unpack its body.
4. `encode_apart`: an envelope without the steps of its chain, for who keeps them elsewhere; `whole` puts
   them in.
5. `crashes`: the count that a broker may put before the first key, for itself.

Not here: what headers and bodies mean (`protocol.py`).
"""

from __future__ import annotations

import base64
import re
from typing import Final, NamedTuple

from celeriac.exceptions import DecodeError, EncodeError
from celeriac.wire import json
from celeriac.wire.message import Message, Unreadable
from celeriac.wire.steps import Chained, spaces

__all__ = [
    "CRASHES_KEY", "HEADERS_LIMIT", "Apart", "crashes", "decode", "encode", "encode_apart", "reread", "whole",
]  # fmt: skip

#: Bytes that headers and properties may take together.
HEADERS_LIMIT: Final = 1024 * 1024

#: The broker-private key that stands before all others; Celery's peers ignore it.
CRASHES_KEY: Final = "celeriac-crashes"

_CRASHES = re.compile(rb'\A\{"celeriac-crashes": ?(\d{1,9})[,}]')
_SPACE = re.compile(r"\s+")
_PLAIN_BODIES: Final = frozenset({None, "", "utf-8", "utf8"})
#: How an envelope begins that has no body.
_BODILESS: Final = b'{"body":"'
#: Stands in a body where something is missing: base64 has no such character, so nobody reads it by mistake.
_GAP: Final = b"*"
_new_message = tuple.__new__
_encode_envelope = json.encode_envelope
_decode_envelope = json.decode_envelope


def encode(message: Message) -> bytes:
    """Return the envelope of `message`.

    Headers and properties must hold plain JSON values (`protocol.write` sees to it). The property
    ``body_encoding`` is set to ``base64``, which is what the envelope then says truthfully.

    Raises:
        EncodeError: a header or property cannot be written, or they are longer than `HEADERS_LIMIT`.
    """
    body, content_type, content_encoding, headers, properties = message
    if properties.get("body_encoding") != "base64":
        properties = {**properties, "body_encoding": "base64"}
    raw = _encode_envelope(body, content_type, content_encoding, headers, properties)
    if len(raw) > HEADERS_LIMIT and len(raw) - 4 * len(body) // 3 > HEADERS_LIMIT:
        raise EncodeError(
            f"headers and properties may take {HEADERS_LIMIT:,} bytes together, these take more; pass large "
            "values as arguments"
        )
    return raw


def decode(raw: bytes) -> Message | Unreadable:
    """Return the message in the envelope `raw`, or `Unreadable` with the reason; never raise.

    Example:
        >>> decode(b"[]").reason
        'not a message envelope: Expected `object`, got `array`'
    """
    try:
        envelope = _decode_envelope(raw)
    except (ValueError, RecursionError, TypeError):
        return _decode_slowly(raw)
    properties = envelope.properties
    if properties.get("body_encoding") != "base64":
        return _decode_slowly(raw)
    if type(properties.get("delivery_tag")) is not str or type(properties.get("delivery_info")) is not dict:
        reason = _property_fault(properties)
        if reason:
            return Unreadable(reason, bytes(raw))
    if len(raw) > HEADERS_LIMIT:
        return _decode_slowly(raw)
    return _new_message(
        Message,
        (
            envelope.body,
            envelope.content_type,
            envelope.content_encoding,
            envelope.headers or {},
            properties,
        ),
    )


def reread(message: Message) -> Message | Unreadable:
    """What `decode(encode(message))` returns.

    Raises:
        EncodeError: as `encode`.
    """
    again = decode(encode(message._replace(body=b"")))
    if not isinstance(again, Message):
        return decode(encode(message))
    if type(message) is Chained and message.steps is not None:
        return Chained.made((message.body, *again[1:]), message.head, message.steps, message.tail)
    return again._replace(body=message.body)


class Apart(NamedTuple):
    """An envelope without the steps of its chain.

    Attributes:
        text: the envelope, with a mark at `at` that stands for the steps.
        at: bytes before the mark.
        length: how much of ``message.steps.rest().text`` belongs there.
    """

    text: bytes
    at: int
    length: int


def encode_apart(message: Chained) -> Apart | None:
    """The envelope of `message` without its steps; None where it cannot be written so.

    Raises:
        EncodeError: as `encode`.
    """
    if message.steps is None:
        return None
    shell = encode(message._replace(body=b""))
    if not shell.startswith(_BODILESS + b'"'):
        return None
    start = message.head + b"["
    head = _BODILESS + base64.b64encode(spaces(start) + start)
    tail = base64.b64encode(b"]" + message.tail)
    text = b"".join((head, _GAP, tail, shell[len(_BODILESS) :]))
    return Apart(text, len(head), message.steps.rest().ends[len(message.steps)])


def whole(apart: Apart, rest: bytes) -> bytes:
    """The envelope, with the steps from `rest`, the text of a `Rest`."""
    text, at, length = apart
    return b"".join((text[:at], rest[:length], text[at + len(_GAP) :]))


def _decode_slowly(raw: bytes) -> Message | Unreadable:
    """The uncommon envelopes (plain bodies, wrapped base64, NaN) and everything that is none."""
    try:
        raw = bytes(raw)
        envelope = json.decode_plain_envelope(raw)
        body = _body(envelope.body, envelope.properties.get("body_encoding"))
    except (DecodeError, ValueError, TypeError) as exc:
        return Unreadable(str(exc)[:500], raw)
    headers = envelope.headers or {}
    reason = _property_fault(envelope.properties)
    if not reason and len(raw) > HEADERS_LIMIT:
        reason = _size_fault(headers, envelope.properties)
    if reason:
        return Unreadable(reason, raw)
    return Message(body, envelope.content_type, envelope.content_encoding, headers, envelope.properties)


def _body(text: str, encoding: object) -> bytes:
    if encoding == "base64":
        try:
            # some clients wrap base64 into lines; anything else that is not base64 is damage
            return base64.b64decode(_SPACE.sub("", text), validate=True)
        except ValueError as exc:
            raise DecodeError(f"the body is not base64: {exc}") from exc
    if (encoding is None or isinstance(encoding, str)) and encoding in _PLAIN_BODIES:
        try:
            return text.encode("utf-8")
        except UnicodeEncodeError as exc:
            raise DecodeError(f"the body is not text: {exc}") from exc
    raise DecodeError(f"the property body_encoding is {encoding!r:.80}; base64 or nothing is understood")


def _property_fault(properties: dict[str, object]) -> str:
    """Say what is wrong with the properties that every peer needs; empty when nothing is."""
    tag = properties.get("delivery_tag")
    if type(tag) not in (str, int):
        return f"the property delivery_tag must be text or an integer, not {tag!r:.80}"
    info = properties.get("delivery_info", {})
    if type(info) is not dict:
        return f"the property delivery_info must be an object, not {info!r:.80}"
    return ""


def _size_fault(headers: dict[str, object], properties: dict[str, object]) -> str:
    size = len(json.dumps(headers)) + len(json.dumps(properties))
    if size <= HEADERS_LIMIT:
        return ""
    return f"headers and properties take {size:,} bytes; {HEADERS_LIMIT:,} are the limit"


def crashes(raw: bytes) -> int:
    """Return the number of processes that died while running the message `raw`, as its broker counted.

    Example:
        >>> crashes(b'{"celeriac-crashes":2,"body": ""}')
        2
    """
    match = _CRASHES.match(raw)
    return int(match[1]) if match else 0
