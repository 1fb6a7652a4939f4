"""Delays kept by RabbitMQ: queues whose messages expire into the next one.

1. A delay is counted in steps of 16 ms and written with nine digits to the base of 16. Each digit but 0 is
   one wait: in the quorum queue `celeriac.wait.<level>.<digit>`, whose time to live is the digit's worth.
   `route`: the exchange and key for a delay. `levels`: where that leads through; `waits`: a level's queues.
2. For each level a topic exchange, `celeriac.wait.<level>`, sends on by that level's word of the key: to one
   of its queues, or for 0 to the exchange of the next lower level. Behind the last stands `celeriac.due`.
   A message is never early: time is rounded up, and every hop only adds.
3. Who gets it in the end: a queue is bound by its own word (`queue_key`), an exchange by its own
   (`exchange_key`). Patterns say how many words there are, so that no longer key of somebody else matches.

Few digits instead of Celery's 28 bits: the server's work for a delayed message is mostly the matching of
routing keys, once for each exchange that it passes (decision 0016).

Pure. The times are the sender's: RabbitMQ has no clock that could be asked. Not here: Celery's own levels
(`celery_delays.py`), declaring (`topology.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from urllib.parse import quote

__all__ = [
    "DUE",
    "ENTRY",
    "LEVELS",
    "LONGEST",
    "STEP",
    "Wait",
    "exchange_key",
    "levels",
    "pattern",
    "queue_key",
    "route",
    "seal",
    "step",
    "waits",
    "ways",
]

LEVELS: Final = 9
_BASE: Final = 16
#: Milliseconds, and seconds, of the finest step.
_STEP_MS: Final = 16
STEP: Final = _STEP_MS / 1000
#: A delay is rounded up to a multiple of so many steps at most (0.256 s) …
_COARSEST: Final = _BASE
#: … which is at most this part of itself.
_PART: Final = 1 / 32
#: Seconds that one journey can take (8.5 years); who has to wait longer is sent on a second one.
LONGEST: Final = 2**28 - 2
#: Where messages go when their time has come.
DUE: Final = "celeriac.due"
#: An exchange that is declared last: when it is there, all exchanges are. Nothing goes through it.
ENTRY: Final = "celeriac.wait"
_STARS: Final = "*." * LEVELS
#: Bytes that a routing key has.
_KEY_LIMIT: Final = 255


class Wait(NamedTuple):
    """One queue: the exchange that feeds it, by which pattern, and its arguments."""

    exchange: str
    queue: str
    pattern: str
    arguments: Mapping[str, Any]


def _exchange(level: int) -> str:
    return f"{ENTRY}.{level}"


def _behind(level: int) -> str:
    return _exchange(level - 1) if level else DUE


def _pattern(level: int, digit: str) -> str:
    """The finest digit is the first word: the levels that most messages pass are matched soonest."""
    return f"{'*.' * level}{digit}.#"


def ways() -> Iterator[tuple[str, str, str]]:
    """The exchange of each level, lowest first, the one behind it, and the pattern of what passes through.

    Example:
        >>> list(ways())[:2]
        [('celeriac.wait.0', 'celeriac.due', '0.#'), ('celeriac.wait.1', 'celeriac.wait.0', '*.0.#')]
    """
    for level in range(LEVELS):
        yield _exchange(level), _behind(level), _pattern(level, "0")


def levels(key: str) -> list[int]:
    """Where a message with the routing key `key` waits.

    Example:
        >>> levels(route(60, "q")[1])
        [1, 2]
    """
    return [level for level, digit in enumerate(key[: 2 * LEVELS : 2]) if digit != "0"]


def waits(level: int) -> Iterator[Wait]:
    """The queues of a level.

    Example:
        >>> [(wait.queue, wait.arguments["x-message-ttl"]) for wait in waits(1)][:2]
        [('celeriac.wait.1.1', 256), ('celeriac.wait.1.2', 512)]
    """
    return (_wait(level, digit) for digit in range(1, _BASE))


def seal(level: int) -> Wait:
    """A queue that nothing goes through. It is declared last: when it is there, the level is."""
    return _wait(level, 0)


def _wait(level: int, digit: int) -> Wait:
    arguments = {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-message-ttl": max(1, digit) * _STEP_MS * _BASE**level,
        "x-dead-letter-exchange": _behind(level),
        "x-dead-letter-strategy": "at-least-once",
    }
    return Wait(_exchange(level), f"{_exchange(level)}.{digit:x}", _pattern(level, f"{digit:x}"), arguments)


def step(seconds: float) -> float:
    """What a delay is rounded up to a multiple of, in seconds.

    Example:
        >>> step(0.5), step(2.1), step(3600)
        (0.016, 0.064, 0.256)
    """
    return STEP * _coarseness(seconds)


def _coarseness(seconds: float) -> int:
    steps = min(_COARSEST, max(1, int(seconds * _PART / STEP)))
    return 1 << (steps.bit_length() - 1)


def route(seconds: float, suffix: str) -> tuple[str, str]:
    """The exchange and routing key that bring a message to `suffix` in `seconds` (above 0, at most
    `LONGEST`), not before, and at most `step(seconds)` later.

    Example:
        >>> route(4.9, "q")
        ('celeriac.wait.2', '8.3.1.0.0.0.0.0.0.q')
    """
    multiple = _coarseness(seconds)
    steps = max(1, math.ceil(round(seconds / (STEP * multiple), 6))) * multiple
    digits = f"{steps:0{LEVELS}x}"[::-1]
    level = (steps.bit_length() - 1) // 4
    return _exchange(level), f"{'.'.join(digits)}.{suffix}"


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
