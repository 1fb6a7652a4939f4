"""Delays kept by RabbitMQ: queues whose messages expire into the next one.

1. Celery's native delayed delivery: one topic exchange and one quorum queue for each power of two seconds,
   `celery_delayed_27` to `celery_delayed_0`. The first 28 words of the routing key are the seconds in binary;
   where a word is 1 the message waits in that level's queue, where it is 0 it goes on. Behind the last level
   stands the exchange `celery_delayed_delivery`. Both fleets share it, so it must be declared exactly so.
2. Levels of our own for what is less than a second, in front of it: `celeriac.delay.4` (512 ms) to
   `celeriac.delay.0` (32 ms), words 29 to 33. A message is late by 32 ms at most because of them, and never
   early: time is rounded up, and every hop only adds.
3. `route`: the exchange and key for a delay. `Leg`: what is to be declared.
4. Who gets it in the end: a queue is bound by its own word (`queue_key`), an exchange by its own
   (`exchange_key`). Patterns with ``#.`` in front, which Celery binds, would also catch longer keys of
   others; ours say how many words there are.

Pure. The times are the sender's: RabbitMQ has no clock that could be asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from urllib.parse import quote

__all__ = [
    "DELIVERY",
    "ENTRY",
    "LONGEST",
    "Leg",
    "exchange_key",
    "legs",
    "pattern",
    "queue_key",
    "route",
    "step",
]

LEVELS: Final = 28
FINE_LEVELS: Final = 5
#: Seconds of the finest step.
STEP: Final = 0.032
#: A delay is rounded up by this part of itself, as far as our own levels go.
_PART: Final = 1 / 32
#: Seconds that one journey can take; who has to wait longer is sent on a second one.
LONGEST: Final = 2**LEVELS - 2
#: Where messages go when their time has come.
DELIVERY: Final = "celery_delayed_delivery"
#: An exchange that is declared last: when it is there, everything is. Nothing goes through it.
ENTRY: Final = "celeriac.delay"
_STARS: Final = "*." * (LEVELS + FINE_LEVELS)
#: Bytes that a routing key has.
_KEY_LIMIT: Final = 255


class Leg(NamedTuple):
    """One level: an exchange, a queue with arguments, the bindings between them, and the exchange behind."""

    exchange: str
    queue: str
    arguments: Mapping[str, Any]
    waits: str  # binding of the queue
    passes: str  # binding of the next exchange
    behind: str


def legs() -> Iterator[Leg]:
    """All levels, last one first, so that each finds the exchange behind it declared.

    Example:
        >>> first, *_, last = legs()
        >>> first.queue, first.arguments["x-message-ttl"], first.behind
        ('celery_delayed_0', 1000, 'celery_delayed_delivery')
        >>> last.exchange, last.passes[-3:], last.behind
        ('celeriac.delay.4', '0.#', 'celeriac.delay.3')
    """
    for level in range(LEVELS):
        behind = f"celery_delayed_{level - 1}" if level else DELIVERY
        yield _leg(f"celery_delayed_{level}", 1000 * 2**level, LEVELS - 1 - level, behind)
    for level in range(FINE_LEVELS):
        behind = f"celeriac.delay.{level - 1}" if level else f"celery_delayed_{LEVELS - 1}"
        yield _leg(f"celeriac.delay.{level}", 32 * 2**level, LEVELS + FINE_LEVELS - 1 - level, behind)


def _leg(name: str, ttl_ms: int, word: int, behind: str) -> Leg:
    arguments = {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-message-ttl": ttl_ms,
        "x-dead-letter-exchange": behind,
        "x-dead-letter-strategy": "at-least-once",
    }
    stars = "*." * word
    return Leg(name, name, arguments, f"{stars}1.#", f"{stars}0.#", behind)


def step(seconds: float) -> float:
    """What a delay is rounded up to a multiple of, in seconds.

    Example:
        >>> step(0.5), step(2.1), step(3600)
        (0.032, 0.064, 0.512)
    """
    return STEP * float(1 << _doublings(seconds))


def _doublings(seconds: float) -> int:
    """How many of our own levels, finest first, such a delay leaves out."""
    return min(FINE_LEVELS - 1, max(0, int(seconds * _PART / STEP).bit_length() - 1))


def route(seconds: float, suffix: str) -> tuple[str, str]:
    """The exchange and routing key that bring a message to `suffix` in `seconds` (above 0, at most
    `LONGEST`), not before, and at most `step(seconds)` later.

    Example:
        >>> route(5.01, "q")
        ('celeriac.delay.2', '0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.0.0.1.0.0.q')
        >>> route(2, "q")[0]
        'celery_delayed_1'
    """
    whole = int(seconds)
    skipped = _doublings(seconds)
    fine = math.ceil(round((seconds - whole) / (STEP * (1 << skipped)), 6)) << skipped
    if fine >= 2**FINE_LEVELS:
        whole, fine = whole + 1, 0
    digits = ".".join(f"{whole:0{LEVELS}b}{fine:0{FINE_LEVELS}b}")
    if fine:
        exchange = f"celeriac.delay.{fine.bit_length() - 1}"
    else:
        exchange = f"celery_delayed_{max(0, whole.bit_length() - 1)}"
    return exchange, f"{digits}.{suffix}"


def queue_key(queue: str) -> str:
    """The one word that stands for a queue at the end of a delayed message's key.

    Example:
        >>> queue_key("video.high")
        'celeriac-queue=video%2Ehigh'
    """
    word = f"celeriac-queue={_word(queue)}"
    if len(word) + len(_STARS) <= _KEY_LIMIT:
        return word
    return f"celeriac-queue~{blake2b(queue.encode(), digest_size=20).hexdigest()}"


def exchange_key(exchange: str) -> str:
    """The word that stands for an exchange; the message's own routing key follows it."""
    return f"celeriac-exchange={_word(exchange)}"


def pattern(suffix: str) -> str:
    """The binding that catches the messages for `suffix`, whatever their delay."""
    return _STARS + suffix


def _word(name: str) -> str:
    return quote(name, safe="-_@:").replace(".", "%2E").replace("~", "%7E")
