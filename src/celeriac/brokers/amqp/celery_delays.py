"""Celery's native delayed delivery on RabbitMQ, as a Celery worker declares it: what its producers delay for
a quorum queue waits there, whoever consumes the queue.

One topic exchange and one quorum queue for each power of two seconds, `celery_delayed_27` to
`celery_delayed_0`. The first 28 words of the routing key are the seconds in binary; where a word is 1 the
message waits in that level's queue, where it is 0 it goes on. Behind the last level stands the exchange
`celery_delayed_delivery`. It is shared with Celery's workers, so it must be declared exactly so.

Pure. Not here: our own delays (`delays.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["DELIVERY", "Leg", "legs"]

LEVELS: Final = 28
#: Where messages go when their time has come.
DELIVERY: Final = "celery_delayed_delivery"


class Leg(NamedTuple):
    """One level: exchange and queue (of the same name) with arguments, the bindings between them, and the
    exchange behind."""

    name: str
    arguments: Mapping[str, Any]
    waits: str  # binding of the queue
    passes: str  # binding of the next exchange
    behind: str


def legs() -> Iterator[Leg]:
    """All levels, last one first, so that each finds the exchange behind it declared.

    Example:
        >>> first, *_, last = legs()
        >>> first.name, first.arguments["x-message-ttl"], first.behind
        ('celery_delayed_0', 1000, 'celery_delayed_delivery')
        >>> last.name, last.waits, last.behind
        ('celery_delayed_27', '1.#', 'celery_delayed_26')
    """
    for level in range(LEVELS):
        behind = f"celery_delayed_{level - 1}" if level else DELIVERY
        arguments = {
            "x-queue-type": "quorum",
            "x-overflow": "reject-publish",
            "x-message-ttl": 1000 * 2**level,
            "x-dead-letter-exchange": behind,
            "x-dead-letter-strategy": "at-least-once",
        }
        stars = "*." * (LEVELS - 1 - level)
        yield Leg(f"celery_delayed_{level}", arguments, f"{stars}1.#", f"{stars}0.#", behind)
