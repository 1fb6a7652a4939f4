"""The time in which a store cannot be reached: how long to pause, and what the log hears of it.

1. `Outage.pause`: seconds before the next try, growing, with jitter: a fleet must not come back as one.
2. One line when it begins, further ones at growing intervals, one when it is over.
3. `patience`: for how long the settings let a worker wait for a lost broker.

Not here: noticing it, and trying again (`courier.py`, `heart.py`, `child.py`).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Outage", "patience"]

logger = logging.getLogger("celeriac.worker")

#: Seconds of pause: the first and the longest. The longest bounds how late a store's return is noticed.
PAUSE: Final = (0.1, 2.0)
#: Seconds between two lines of the log: after the first and at most.
SAY: Final = (5.0, 300.0)


class Outage:
    """Used by one thread.

    Args:
        what: how the lines of the log begin.
        tell: called with True when it begins and with False when it is over.

    Attributes:
        since: when it began (`time.monotonic`); None: there is none.

    Example:
        >>> outage = Outage("Broker lost")
        >>> outage.over()                       # nothing to say
        >>> outage.since is None
        True
    """

    def __init__(self, what: str, tell: Callable[[bool], None] | None = None) -> None:
        self.what = what
        self.since: float | None = None
        self._tell = tell
        self._say_at = 0.0
        self._interval = SAY[0]
        self._pause = PAUSE[0]
        self._tries = 0

    def failed(self, why: Exception) -> None:
        """One more try has failed."""
        now = time.monotonic()
        self._tries += 1
        if self.since is None:
            self.since, self._interval, self._pause, self._tries = now, SAY[0], PAUSE[0], 1
            if self._tell is not None:
                self._tell(True)
            logger.error("%s: %s; trying again until it is back.", self.what, why)
        elif now >= self._say_at:
            self._interval = min(2 * self._interval, SAY[1])
            logger.error("%s for %.0f s (%d tries): %s", self.what, now - self.since, self._tries, why)
        else:
            return
        self._say_at = now + self._interval

    def pause(self) -> float:
        """Seconds until the next try: doubled from 0.1 to 2, with jitter of half."""
        pause, self._pause = self._pause, min(self._pause * 2, PAUSE[1])
        return pause * random.uniform(0.5, 1.0)

    def over(self) -> None:
        """A try has succeeded; cheap when there was no outage."""
        if self.since is None:
            return
        lasted, self.since = time.monotonic() - self.since, None
        if self._tell is not None:
            self._tell(False)
        logger.warning("%s for %.1f s; it is back.", self.what, lasted)


def patience(retry: bool, most: int | None) -> float:
    """Seconds for which a broker may be lost before the worker ends; infinity: it never does.

    Args:
        retry: the setting `broker_connection_retry`.
        most: `broker_connection_max_retries`; None or 0: any number. Celery's worker pauses for 2 s, 4 s, …
            30 s between its tries. Ours tries more often, and ends when that one would.

    Example:
        >>> patience(True, None), patience(True, 3), patience(True, 100), patience(False, 3)
        (inf, 12.0, 2790.0, 0.0)
    """
    if not retry:
        return 0.0
    return float(sum(min(2 * turn, 30) for turn in range(1, most + 1))) if most else float("inf")
