"""Storing long batches whose messages are alike: written while they are sent, pushed without a script.

`store`: one transaction of plain pushes, applied once however often it is repeated. A script that is given
the messages costs the server as much again as to read and to push them, because Lua copies its arguments
(measured with 0.9 kB each: 4.8 instead of 2.8 µs per message).

The script of short batches (`publish.lua`) compares the number of the last batch; here an optimistic lock is
in its place: the number is read and watched, and the transaction happens only if nobody has changed it since.
Two tries of one batch may meet when the first was believed lost; whichever the server carries out second
finds the number of the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from celeriac.brokers.alike import Alike
from celeriac.brokers.redis.refusals import check
from celeriac.transport.redis.link import Link, pack, pack_large

__all__ = ["LONG", "store"]

#: Messages from which on the saving outweighs the trip for the number.
LONG: Final = 200
#: Messages in one push: what is made at once, and while the server reads the push before.
AT_ONCE: Final = 64
#: Seconds for which a repeated batch is recognised, as in `publish.lua`.
KEPT: Final = 120
_MULTI: Final = pack((b"MULTI",))
_EXEC: Final = pack((b"EXEC",))
_UNWATCH: Final = pack((b"UNWATCH",))


def store(batch: Alike, producer: bytes, listed: bytes, number: int, link: Link, deadline: float) -> None:
    """Push `batch` to the list `listed`, all or nothing, unless the batch `number` of `producer` (a key) is
    there already. May be repeated over another link."""
    look = pack((b"WATCH", producer)), pack((b"GET", producer))
    done = False
    while not done:
        replies = link.pipeline(look, deadline)
        check(replies, link.where)
        if replies[1] is not None and int(replies[1]) >= number:
            link.request(_UNWATCH, deadline)
            return
        replies = link.stream(_commands(batch, producer, listed, number), deadline)
        check(replies, link.where)
        done = replies[-1] is not None  # None: the number has changed since we looked


def _commands(batch: Alike, producer: bytes, listed: bytes, number: int) -> Iterator[bytes]:
    yield _MULTI
    yield pack((b"SET", producer, number, b"EX", KEPT))
    for start in range(0, len(batch), AT_ONCE):
        yield pack_large((b"LPUSH", listed, *batch.envelopes(slice(start, start + AT_ONCE))))
    yield _EXEC
