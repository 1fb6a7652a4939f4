"""How long to wait before a task is tried again. Pure: chance is an argument.

1. `retry_countdown`: exponential backoff with a cap and full jitter (Celery's `retry_backoff…` options).
"""

from __future__ import annotations

import random as _random
from collections.abc import Callable

__all__ = ["retry_countdown"]

#: No exponent beyond this: 2 ** 63 seconds is longer than any maximum a person sets.
_MAX_EXPONENT = 63


def retry_countdown(
    retries: int,
    *,
    backoff: float = 1,
    maximum: float = 600,
    jitter: bool = True,
    random: Callable[[float, float], float] = _random.uniform,
) -> float:
    """Seconds to wait before the next try.

    Args:
        retries: how often the task has been retried already; 0 for the first failure.
        backoff: the first wait, in seconds; it doubles with every retry. Less than 1 (`True` included) is 1.
        maximum: never longer than this many seconds.
        jitter: draw evenly between 0 and that wait, so that tasks that failed together do not return
            together.
        random: `random(low, high)` draws evenly from [low, high]; given in tests.

    Example:
        >>> [retry_countdown(n, backoff=2, maximum=10, jitter=False) for n in range(4)]
        [2.0, 4.0, 8.0, 10.0]
    """
    first = max(1.0, float(backoff))
    wait = min(float(maximum), first * 2.0 ** min(max(retries, 0), _MAX_EXPONENT))
    wait = max(0.0, wait)
    return random(0.0, wait) if jitter else wait
