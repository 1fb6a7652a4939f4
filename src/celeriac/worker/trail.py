"""The trail: what a consumer without a lease took, settled and dropped, written into its child's ledger.

1. `LedgerTrail`: the child's side, a word per step (`brokers.base.Trail`).
2. `last_steps`: the reader's side, also after the child's death: the last step of each tag.

A word is a tag with the kind of step in the two bits above it. The ring is written and read as whole words,
and the count after them, so that a reader sees every step entire; the oldest are overwritten.

Not here: what follows from it (`whereabouts.py`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from celeriac.brokers.base import TAG_BITS
from celeriac.worker.ledger import TRAIL_SIZE, Ledger

if TYPE_CHECKING:
    from celeriac.worker.roster import Roster

__all__ = ["CONCLUDED", "COPYING", "DROPPED", "TOOK", "LedgerTrail", "last_steps"]

TOOK: Final = 0
CONCLUDED: Final = 1
DROPPED: Final = 2
COPYING: Final = 3

_TAG: Final = (1 << TAG_BITS) - 1
_CONCLUDED: Final = CONCLUDED << TAG_BITS
_DROPPED: Final = DROPPED << TAG_BITS
_COPYING: Final = COPYING << TAG_BITS


class LedgerTrail:
    """One child's trail; used by its courier's thread."""

    def __init__(self, ledger: Ledger, roster: Roster | None = None) -> None:
        self.writing = ledger.writing
        self._words = ledger.trail
        self._steps = ledger.steps
        self._count = ledger.steps[0]
        self._roster = roster

    def took(self, tags: Iterable[int]) -> None:
        self._write(tags, 0)

    def copying(self, tags: Iterable[int]) -> None:
        self._write(tags, _COPYING)

    def concluded(self, tags: Iterable[int]) -> None:
        self._write(tags, _CONCLUDED)

    def dropped(self, tags: Iterable[int]) -> None:
        self._write(tags, _DROPPED)

    def alone(self) -> bool:
        return self._roster is None or self._roster.take_turn()

    def free(self) -> None:
        if self._roster is not None:
            self._roster.give_turn()

    def _write(self, tags: Iterable[int], kind: int) -> None:
        steps = array("Q", [tag | kind for tag in tags] if kind else tags)
        if len(steps) > TRAIL_SIZE:
            steps = steps[-TRAIL_SIZE:]
        begin = self._count % TRAIL_SIZE
        end = begin + len(steps)
        if end <= TRAIL_SIZE:
            self._words[begin:end] = steps
        else:
            room = TRAIL_SIZE - begin
            self._words[begin:] = steps[:room]
            self._words[: end - TRAIL_SIZE] = steps[room:]
        self._count = self._steps[0] = self._count + len(steps)


def last_steps(ledger: Ledger) -> Mapping[int, int]:
    """Tag → kind of its last step, oldest first by that step."""
    count = ledger.steps[0]
    words = ledger.trail.tolist()
    at = count % TRAIL_SIZE
    found: dict[int, int] = {}
    for word in words[at:] + words[:at] if count >= TRAIL_SIZE else words[:at]:
        tag = word & _TAG
        found.pop(tag, None)
        found[tag] = word >> TAG_BITS
    return found
