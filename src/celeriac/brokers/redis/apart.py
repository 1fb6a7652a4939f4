"""What is held, seen from outside the scripts: some of it without the rest of its chain (`whole.lua`).

1. `held_tags`, `held_envelopes`: what a consumer holds.
2. `whole`: the envelope of what is held without the rest of its chain.
3. `as_pairs`: a map's reply.

Not here: writing it so (`settling.py`), giving it back (`scripts/give_back.lua`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celeriac.brokers.redis.keys import QueueKeys
from celeriac.transport.redis.link import Link, pack
from celeriac.transport.redis.pool import checked
from celeriac.wire import virtual

__all__ = ["as_pairs", "held_envelopes", "held_tags", "whole"]


def as_pairs(reply: Any) -> Sequence[tuple[Any, Any]]:
    """Field and value: a map in RESP3, a flat list in RESP2."""
    if isinstance(reply, dict):
        return list(reply.items())
    return list(zip(reply[::2], reply[1::2], strict=True))


def whole(envelope: bytes, tag: int, rests: Mapping[bytes, bytes]) -> bytes:
    """The envelope of what is held under `tag`.

    Args:
        rests: the hash of rests, asked for before `envelope`, so that what is apart never seems to be whole.
    """
    value = rests.get(b"%d" % tag)
    if value is None:
        return envelope
    name, length, at = value.split(b" ")
    text = rests.get(b"=" + name)
    return envelope if text is None else virtual.whole(virtual.Apart(envelope, int(at), int(length)), text)


def held_tags(
    link: Link, queues: Iterable[QueueKeys], consumer: str, deadline: float
) -> list[tuple[set[int], set[int]]]:
    """For each queue: what is held, and which of it without the rest of its chain."""
    keys = [key(consumer) for names in queues for key in (names.held_by, names.rest_of)]
    replies = checked(link.pipeline([pack((b"HKEYS", key)) for key in keys], deadline), link.where)
    tags = [{int(field) for field in fields if not field.startswith(b"=")} for fields in replies]
    return list(zip(tags[::2], tags[1::2], strict=True))


def held_envelopes(
    link: Link, names: QueueKeys, consumer: str, tags: Sequence[int], deadline: float
) -> list[tuple[int, bytes]]:
    """Tags and envelopes of those of `tags` that are held."""
    asked = [
        pack((b"HGETALL", names.rest_of(consumer))),
        pack((b"HMGET", names.held_by(consumer), *tags)),
    ]
    kept, stored = checked(link.pipeline(asked, deadline), link.where)
    rests = dict(as_pairs(kept))
    pairs = zip(tags, stored, strict=True)
    return [(tag, whole(envelope, tag, rests)) for tag, envelope in pairs if envelope is not None]
