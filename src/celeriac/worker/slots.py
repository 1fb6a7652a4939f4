"""Which processes a node wants to have started, and when.

1. `Slots`: of the pool and of helpers. A child that has ended is wanted again at once, with growing pauses
   when children die before they have taken a lease.

Not here: how a process is started (`template.py`, `supervisor.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from celeriac.worker.children import Child

__all__ = ["Slots"]

#: Seconds that the heart gets to give back what a dead child ran before its successor starts.
HANDOVER = 0.1
#: Seconds after which a child has shown that it can live.
LIVED = 5.0
#: Seconds by which the pause grows with each child that dies early, and the longest.
PAUSE, LONGEST = 0.5, 30.0


class Slots:
    """Times are those of `time.monotonic`.

    Args:
        concurrency: of the pool; twice as many may die early before there is a pause.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._due: dict[tuple[str, int], float] = {}  # (role, slot) → when to start it
        self._failures = 0

    def __bool__(self) -> bool:
        """Whether something is still to be started."""
        return bool(self._due)

    def want(self, role: str, slot: int, at: float = 0.0) -> None:
        """Have it started at `at`, which may be over."""
        self._due[role, slot] = at

    def started(self, role: str, slot: int) -> None:
        del self._due[role, slot]

    def due(self, now: float) -> Sequence[tuple[str, int]]:
        """(role, slot) of those to be started now."""
        return [place for place, at in self._due.items() if now >= at]

    def next_due(self, latest: float) -> float:
        """When the next one is to be started; `latest` when there is none."""
        return min(self._due.values(), default=latest)

    def when_again(self, child: Child, now: float) -> float:
        """When the successor of a dead child starts.

        At once (a moment later when it was running: then the new child finds that in the queue again); with a
        growing pause when children die early.
        """
        busy = child.ledger is not None and child.ledger.busy()
        if child.ledger is not None and (child.ledger.processed or busy or now - child.born > LIVED):
            self._failures = 0
            return now + (HANDOVER if busy else 0.0)
        self._failures += 1
        patient = self._failures > self._concurrency * 2
        return now + (min(PAUSE * self._failures, LONGEST) if patient else 0.0)

    def grow(self, children: Iterable[Child]) -> None:
        """Want one more child beside `children`."""
        self.want("child", max([*self._waiting(), *(child.slot for child in children)], default=-1) + 1)

    def shrink(self, children: Sequence[Child]) -> Sequence[Child]:
        """Want one child less, unless it is the last; those of `children` that have to go."""
        kept = sorted(self._waiting() | {child.slot for child in children if not child.retiring})
        if len(kept) < 2:
            return ()
        self._due.pop(("child", kept[-1]), None)
        return [child for child in children if child.slot == kept[-1]]

    def _waiting(self) -> set[int]:
        return {slot for role, slot in self._due if role == "child"}
