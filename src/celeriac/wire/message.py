"""The value that travels: a message as every transport carries it.

1. `Message`: body, content type and encoding, headers, properties (AMQP's own split; the virtual envelope of
   Redis and SQL stores is one encoding of it, see `virtual.py`).
2. `Unreadable`: what stands in its place when the bytes are not a message. It is a value, not an exception,
   because a bad message is an ordinary delivery with an ordinary end: the dead-letter queue.

Not here: what the headers mean (`protocol.py`), what the body means (`serialization.py`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Message", "Unreadable"]


class Message(NamedTuple):
    """One message, decoded as far as the transport needs and no further.

    Attributes:
        body: the serialised (and perhaps compressed) body.
        content_type: MIME type of the body, e.g. ``application/json``.
        content_encoding: ``utf-8`` or ``binary``.
        headers: the task's headers (protocol 2), or empty (protocol 1).
        properties: ``correlation_id``, ``reply_to``, ``delivery_mode``, ``delivery_info``, ``priority``,
            ``body_encoding``, ``delivery_tag``, …
    """

    body: bytes
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    properties: dict[str, Any]


class Unreadable(NamedTuple):
    """Bytes that are not a message: `reason` says why, `raw` keeps them for the dead-letter queue."""

    reason: str
    raw: bytes
