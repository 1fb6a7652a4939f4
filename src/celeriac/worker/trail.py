"""The trail: what a consumer without a lease took, settled and dropped, written into its child's ledger.

1. `LedgerTrail`: the child's side, a word per step (`brokers.base.Trail`), and its claims.
2. `last_steps`: the reader's side, also after the child's death: the last step of each tag.
3. `claims`: what the child is about to decide on. Not steps: what is in doubt may be so for longer than the
   ring reaches back.

A word is a tag with the kind of step in the two bits above it. The ring is written and read as whole words,
and the count after them, so that a reader sees every step entire; the oldest are overwritten. A claim has a
place of its own while it lasts; its time is written before it.

Not here: what follows from it (`whereabouts.py`).
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from celeriac.brokers.base import CLAIM_TTL, TAG_BITS
from celeriac.worker.ledger import CLAIMS, TRAIL_SIZE, Ledger

if TYPE_CHECKING:
    from celeriac.worker.roster import Roster

__all__ = ["CONCLUDED", "COPYING", "DROPPED", "TOOK", "LedgerTrail", "claims", "last_steps"]

TOOK: Final = 0
CONCLUDED: Final = 1
DROPPED: Final = 2
COPYING: Final = 3

_TAG: Final = (1 << TAG_BITS) - 1
_CONCLUDED: Final = CONCLUDED << TAG_BITS
_DROPPED: Final = DROPPED << TAG_BITS
_COPYING: Final = COPYING << TAG_BITS
_CLAIMED: Final = 1 << TAG_BITS


class LedgerTrail:
    """One child's trail; used by its courier's thread."""

    def __init__(self, ledger: Ledger, roster: Roster | None = None) -> None:
        self.writing = ledger.writing
        self._words = ledger.trail
        self._steps = ledger.steps
        self._count = ledger.steps[0]
        self._roster = roster
        self._claims = ledger.claims
        self._claimed_at = ledger.claimed_at
        self._claimed: dict[int, int] = {}  # tag → place
        self._free = list(range(CLAIMS))

    def took(self, tags: Iterable[int]) -> None:
        self._write(tags, 0)

    def copying(self, tags: Iterable[int]) -> None:
        self._write(tags, _COPYING)

    def concluded(self, tags: Iterable[int]) -> None:
        self._write(tags, _CONCLUDED)

    def dropped(self, tags: Iterable[int]) -> None:
        self._write(tags, _DROPPED)

    def claim(self, tags: Iterable[int]) -> None:
        now = time.monotonic()
        for tag in tags:
            at = self._claimed.get(tag)
            if at is None:
                if not self._free:  # nobody sees these
                    return
                at = self._claimed[tag] = self._free.pop()
            self._claimed_at[at] = now
            self._claims[at] = tag | _CLAIMED

    def disclaim(self, tags: Iterable[int]) -> None:
        for tag in tags:
            at = self._claimed.pop(tag, None)
            if at is not None:
                self._claims[at] = 0
                self._free.append(at)

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


def claims(ledger: Ledger, asked: Container[int], *, alive: bool = True) -> list[int]:
    """Which of `asked` the child claims now; not `alive`: when it died."""
    since = time.monotonic() - CLAIM_TTL if alive else 0.0
    made = zip(ledger.claims.tolist(), ledger.claimed_at.tolist(), strict=True)
    return [word & _TAG for word, at in made if word and at > since and word & _TAG in asked]
