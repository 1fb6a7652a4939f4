"""The roster: a byte per child of a node, in memory they share, that says who is idle.

One message wakes every idle child that listens. The first of them takes it; the others wait a moment before
they look, by their place among the idle ones, so that they do not crowd the processors just when the first
one runs.

And a word that says whose turn it is to run a suspect (brokers without leases): one child of a node at a
time, so that a message which kills the whole node again is the only suspect that dies with it.
"""

from __future__ import annotations

import mmap
import time

from celeriac.brokers.base import QUARANTINE

__all__ = ["Roster"]

#: Seconds that each idle child before oneself is given.
PLACE = 0.0007
#: Seconds to wait at most.
LONGEST = 0.005
_SIZE = 4096


class Roster:
    """Made by the supervisor before anything is forked; children see the same page."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _SIZE + 8)
        self._turn = memoryview(self._page)[_SIZE:].cast("d")  # since when (monotonic); 0: nobody's
        self._mine = 0.0

    def idle(self, slot: int) -> None:
        self._page[slot % _SIZE] = 1

    def busy(self, slot: int) -> None:
        self._page[slot % _SIZE] = 0

    def patience(self, slot: int) -> float:
        """Seconds that the child of `slot` should leave to the idle ones before it."""
        return min(LONGEST, PLACE * self._page[: slot % _SIZE].count(1))

    def take_turn(self) -> bool:
        """True when no other child has the turn to run a suspect, or had it for long enough."""
        now = time.monotonic()
        if now - self._turn[0] < QUARANTINE:
            return False
        self._mine = self._turn[0] = (
            now  # two at the very same moment both run: rare, and no more than unkind
        )
        return True

    def give_turn(self) -> None:
        if self._turn[0] == self._mine:
            self._turn[0] = 0.0
