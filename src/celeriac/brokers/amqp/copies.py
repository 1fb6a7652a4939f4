"""Delivered messages on their way back into a queue: each is published again, confirmed, before the delivery
is acknowledged. Rejecting it instead would make it look like one that came back from a dead process, and
would count as an attempt on quorum queues.

1. `returned`: back to its queue, under a new name: nothing that was said of the old copy holds for it. Who
   knows the old name knows the new one. `perhaps`: once more, and marked: nobody knows whether it is there.
2. `suspect`: to the queue of those that have crashed a process, as far as anybody knows.
3. `parked`: to the delay queues for a while, under its old name.
4. `dead`, `revived`: to the dead letters, and back from there.

Pure. Not here: publishing (`publisher.py`), when which is due (`consumer.py`).
"""

from __future__ import annotations

import random
import time
from typing import Any, Final

from celeriac.brokers.amqp import names
from celeriac.brokers.amqp.publisher import Post, sendable
from celeriac.brokers.base import DeadLetter, Outgoing
from celeriac.transport.amqp.values import Arrival
from celeriac.utils.identity import successor, tagged_at
from celeriac.wire.amqp import (
    AGAIN,
    BY_COPY,
    CRASHES,
    DEAD_AT,
    DEAD_QUEUE,
    DEAD_REASON,
    PARKED,
    RAW,
    body_tag,
    strip,
)
from celeriac.wire.message import Message, Unreadable

__all__ = [
    "PARKS",
    "apart",
    "dead",
    "letter_of",
    "parked",
    "perhaps",
    "plain",
    "returned",
    "revived",
    "suspect",
]

#: Seconds that a message waits which is running elsewhere: the first time, the second, from then on.
PARKS: Final = (1.0, 2.5, 5.0)


def plain(arrival: Arrival) -> tuple[Message | Unreadable, dict[str, Any], str]:
    """The message as the worker gets it, what the server and we had put on it, and its name.

    A message without a content type is nobody's task.
    """
    message = arrival.message
    if isinstance(message, Unreadable):
        return message, {}, body_tag(message)
    headers, properties = message.headers, message.properties
    name = properties.pop("message_id", None) or body_tag(message)
    marks = strip(headers)
    properties["delivery_tag"] = name
    properties["body_encoding"] = "base64"
    if RAW in marks:
        return Unreadable(str(marks[RAW]), message.body), marks, name
    if not message.content_type and "task" not in headers:
        return Unreadable("it has no content type, and so it is no task", message.body), marks, name
    return message, marks, name


def _headed(message: Message | Unreadable, marks: dict[str, Any], *, rename: bool = True) -> Message:
    """`message` with headers of ours; what cannot be read becomes the body of one that can."""
    if isinstance(message, Unreadable):
        marks = {**marks, RAW: message.reason[:500]}
        message = Message(message.raw, "application/octet-stream", "binary", {}, {"delivery_mode": 2})
        rename = True
    properties = dict(message.properties)
    if rename:
        properties["delivery_tag"] = successor(properties.get("delivery_tag"))
    given = {name: value for name, value in marks.items() if value}
    return sendable(message._replace(headers={**message.headers, **given}, properties=properties))


def returned(queue: str, message: Message | Unreadable) -> Post:
    if isinstance(message, Unreadable):
        return Post("", queue, message, queue)
    return Post("", queue, _headed(message, {}), queue)


def perhaps(queue: str, message: Message | Unreadable, crashes: int, *, is_suspect: bool) -> Post | None:
    """The copy that may have been published before, under the same name; None when that cannot be known."""
    if isinstance(message, Unreadable) or tagged_at(message.properties.get("delivery_tag")) is None:
        return None
    where = names.suspects_queue(queue) if is_suspect else queue
    return Post("", where, _headed(message, {CRASHES: crashes, AGAIN: BY_COPY}), where)


def suspect(
    queue: str, message: Message | Unreadable, crashes: int, *, rename: bool = True, **marks: Any
) -> Post:
    """`rename`: the copy that it replaces is known to be done then. Else it keeps its name: it is in doubt
    itself, and is asked about again."""
    where = names.suspects_queue(queue)
    return Post("", where, _headed(message, {CRASHES: crashes, **marks}, rename=rename), where)


def apart(seconds: float = PARKS[-1]) -> float:
    """Seconds for a copy of a publish that was in doubt: not the same for two of them, which would meet again
    and again."""
    return random.uniform(0.6, 1.4) * seconds


def parked(
    queue: str,
    message: Message | Unreadable,
    crashes: int,
    times: int,
    seconds: float = PARKS[-1],
    **marks: Any,
) -> Outgoing:
    copy = _headed(message, {CRASHES: crashes, PARKED: times, **marks}, rename=False)
    return Outgoing(copy, queue=queue, priority=copy.properties.get("priority", 0), countdown=seconds)


def dead(queue: str, message: Message | Unreadable, reason: str, crashes: int) -> Post:
    marks = {DEAD_REASON: reason, DEAD_AT: time.time(), DEAD_QUEUE: queue, CRASHES: crashes}
    return Post(names.DEAD, queue, _headed(message, marks, rename=False), names.dead_queue(queue))


def letter_of(queue: str, arrival: Arrival) -> DeadLetter:
    """What lies in the dead-letter queue of `queue`, whoever put it there."""
    message, marks, name = plain(arrival)
    at, reason, crashes = marks.get(DEAD_AT), marks.get(DEAD_REASON), marks.get(CRASHES)
    return DeadLetter(
        name,
        queue,
        reason if isinstance(reason, str) else "",
        float(at) if isinstance(at, (int, float)) else 0.0,
        message,
        crashes if type(crashes) is int else 0,
    )


def revived(letter: DeadLetter) -> Post:
    return returned(letter.queue, letter.message)
