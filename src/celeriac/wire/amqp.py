"""Names that messages on RabbitMQ carry, and what the server adds to them.

1. The headers of ours: crash counts, copies in doubt, dead letters, far due times.
2. `strip`: takes off what the server wrote on a message on its way (``x-death``, …). It must not travel on a
   copy: a message that says it has been through a queue before is dropped when it comes there again (the
   server's cycle detection), and a retry with a countdown goes through the same delay queues every time.
3. `tag_of`: the number that names one copy of a message.

Not here: tables and frames (`transport/amqp`), names of queues and exchanges (`brokers/amqp/names.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from celeriac.wire.message import Message, Unreadable

__all__ = [
    "AGAIN",
    "BY_COPY",
    "CRASHES",
    "DEAD_AT",
    "DEAD_QUEUE",
    "DEAD_REASON",
    "DUE",
    "FAR",
    "MARKS",
    "PARKED",
    "RAW",
    "body_tag",
    "count_of",
    "strip",
    "tag_of",
]

#: How many processes died while running this message.
CRASHES: Final = "x-celeriac-crashes"
#: This copy was published because nobody knew whether the first one was stored: ask before it runs.
AGAIN: Final = "x-celeriac-again"
#: Its value where the first one was to take the place of a delivery: it is before this one in its queue.
BY_COPY: Final = 2
#: This copy waited because the message was running elsewhere: ask again before it runs. Value: how often.
PARKED: Final = "x-celeriac-parked"
#: Epoch seconds before which it must not run, where that is further away than the delay queues reach.
DUE: Final = "x-celeriac-due"
#: A due time that is no longer one: the end of the year 9999.
FAR: Final = 253_402_300_800.0
#: Of a dead letter: why, when (epoch seconds), from which queue.
DEAD_REASON: Final = "x-celeriac-reason"
DEAD_AT: Final = "x-celeriac-dead-at"
DEAD_QUEUE: Final = "x-celeriac-queue"
#: The body is a message that could not be read; the value says why.
RAW: Final = "x-celeriac-unreadable"

_SERVER: Final = frozenset({
    "x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason",
    "x-last-death-exchange", "x-last-death-queue", "x-last-death-reason",
    "x-delivery-count", "x-acquired-count", "x-opt-deaths", "x-stream-offset",
})  # fmt: skip
_OURS: Final = frozenset({CRASHES, AGAIN, PARKED, DUE, DEAD_REASON, DEAD_AT, DEAD_QUEUE, RAW})
#: A message without any of these headers is an ordinary one.
MARKS: Final = _SERVER | _OURS


def count_of(marks: Mapping[str, Any], name: str) -> int:
    """A number that we count on a message; 0 when it is none, for anybody may have written it."""
    count = marks.get(name)
    return count if type(count) is int and 0 < count < 1 << 31 else 0


def strip(headers: dict[str, Any]) -> dict[str, Any]:
    """Take all `MARKS` off `headers`, in place; return those that were there.

    Example:
        >>> headers = {"task": "a", "x-delivery-count": 2}
        >>> strip(headers), headers
        ({'x-delivery-count': 2}, {'task': 'a'})
    """
    if MARKS.isdisjoint(headers):
        return {}
    return {name: headers.pop(name) for name in MARKS.intersection(headers)}


def tag_of(message_id: str) -> int:
    """A number below 2 ** 62 for a message id: the same in every process.

    Example:
        >>> tag_of("a") == tag_of("a") != tag_of("b")
        True
    """
    return int.from_bytes(blake2b(message_id.encode(), digest_size=8).digest(), "big") >> 2


def body_tag(message: Message | Unreadable) -> str:
    """Stands for the message id of a message without one (Celery's have none): made of what it says, so that
    a redelivered copy has the same, and the next try of the same call another."""
    digest = blake2b(digest_size=16)
    if isinstance(message, Unreadable):
        digest.update(message.raw)
    else:
        headers = message.headers
        told = (headers.get(name) for name in ("id", "task", "retries", "eta", "parent_id", "stamps"))
        digest.update(repr((*told, message.properties.get("correlation_id"))).encode(errors="replace"))
        digest.update(message.body)
    return digest.hexdigest()
