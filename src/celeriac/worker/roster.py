"""The roster: a byte per child of a node, in memory they share, that says who is idle.

One message wakes every idle child that listens. The first of them takes it; the others wait a moment before
they look, by their place among the idle ones, so that they do not crowd the processors just when the first
one runs.
"""

from __future__ import annotations

import mmap

__all__ = ["Roster"]

#: Seconds that each idle child before oneself is given.
PLACE = 0.0007
#: Seconds to wait at most.
LONGEST = 0.005
_SIZE = 4096


class Roster:
    """Made by the supervisor before anything is forked; children see the same page."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _SIZE)

    def idle(self, slot: int) -> None:
        self._page[slot % _SIZE] = 1

    def busy(self, slot: int) -> None:
        self._page[slot % _SIZE] = 0

    def patience(self, slot: int) -> float:
        """Seconds that the child of `slot` should leave to the idle ones before it."""
        return min(LONGEST, PLACE * self._page[: slot % _SIZE].count(1))
