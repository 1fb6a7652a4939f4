"""When a suspect may run: alone on its node, after what runs in this process has ended.

1. `Turns.is_due`: time to look for suspects. `Turns.grants`: whether the one that waits may be taken now.
2. `Turns.lets`: whether ordinary messages may be handed out meanwhile.

No connection in it. Not here: looking and taking (`intake.py`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Container
from typing import Final

from celeriac.brokers.base import QUARANTINE, Place, Trail

__all__ = ["Turns"]

#: Seconds between looks into the queues of suspects, about.
LOOK: Final = 1.5
#: Seconds for which nothing is handed out, so that a suspect that waits may run alone.
QUIET: Final = 0.1
#: Such pauses in vain, after which a suspect is taken beside others.
VAIN: Final = 5
_monotonic = time.monotonic


class Turns:
    """One consumer's. `now` is `time.monotonic` in seconds; `busy`: something is handed out here."""

    def __init__(self, trail: Trail | None) -> None:
        self._trail = trail
        self._look_at = _monotonic() + random.uniform(0.0, LOOK)
        self._alone_until = 0.0  # a suspect was handed out
        self._suspect: Place | None = None
        self._quiet_until = 0.0
        self._vain = 0

    def is_time(self, now: float) -> bool:
        return now >= self._look_at

    def is_due(self, now: float, *, busy: bool) -> bool:
        """Whether to look for suspects now."""
        if now < self._quiet_until:
            return not busy
        return now >= self._look_at

    def looked(self, now: float) -> None:
        """Look again in a while."""
        self._look_at = now + LOOK * random.uniform(0.7, 1.3)

    def hurry(self) -> None:
        """Look again at once: there may be more."""
        self._look_at = 0.0

    def none_waits(self) -> None:
        self._vain = 0

    def grants(self, now: float, *, busy: bool) -> bool:
        """Whether a suspect that waits may be taken now. True reserves the node's turn until `free`."""
        if busy and self._vain < VAIN:  # let them end, and look again
            self._vain += 1
            self._quiet_until = now + QUIET
            return False
        self._vain, self._quiet_until = 0, 0.0
        if self._trail is not None and not self._trail.alone():
            self._look_at = now + QUARANTINE / 4
            return False
        return True

    def free(self) -> None:
        """The turn was not needed, or is over."""
        if self._trail is not None:
            self._trail.free()

    def lets(self, now: float, *, busy: bool) -> bool:
        """Whether ordinary messages may be handed out."""
        return now >= self._alone_until and not (busy and now < self._quiet_until)

    def handed_out(self, suspect: Place) -> None:
        self._suspect, self._alone_until = suspect, _monotonic() + QUARANTINE

    def settled(self, held: Container[Place]) -> None:
        """`held` is what is still handed out."""
        if self._suspect is not None and self._suspect not in held:
            self._suspect, self._alone_until = None, 0.0
            self.free()

    def lose(self) -> None:
        """The server has taken back what was handed out."""
        self._suspect = None

    def next_event(self, now: float) -> float:
        """Seconds until another answer is to be expected here."""
        soon = max(0.001, self._look_at - now)
        for until in (self._alone_until, self._quiet_until):
            if until > now:
                soon = min(soon, until - now + 0.001)
        return soon
