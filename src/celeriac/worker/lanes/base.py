"""What every lane has, and what the courier and the child see of it.

1. `Lane`: the inbox, the measured pace, the marks in the ledger, the limits of a child's life.
2. `resident_kib`: for `max_memory_per_child`.

Not here: how bodies run (`main.py`, `threads.py`, `loop.py`).
"""

from __future__ import annotations

import mmap
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from celeriac import failpoints
from celeriac.brokers.base import ACK, Delivery, Settlement
from celeriac.worker.job import Job
from celeriac.worker.request import Processor

if TYPE_CHECKING:
    from celeriac.worker.courier import Courier
    from celeriac.worker.ledger import Ledger

__all__ = ["Lane", "resident_kib"]

#: Seconds for which a finished settlement may wait for company while the lane has more to do.
LINGER = 0.005
#: How much one run time changes the measured pace.
WEIGHT = 0.2


def resident_kib() -> int:
    """Resident memory of this process in KiB (its peak, where the system tells nothing better)."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE // 1024
    except OSError:
        import resource  # absent on Windows, where the limit is not offered

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak


class Lane(ABC):
    """What the courier and the child see of a lane.

    Attributes:
        slots: bodies that can run at once.
        pace: measured seconds per body.
    """

    def __init__(self, processor: Processor, slots: int, ledger: Ledger | None) -> None:
        self.processor = processor
        self.slots = slots
        self.ledger = ledger
        self.inbox: deque[Delivery] = deque()
        self.courier: Courier | None = None
        self.pace = 0.005
        self.processed = 0
        self.stopping = False
        self.max_tasks: int | None = None
        self.max_memory: int | None = None  # KiB
        self.must_exit = False  # a body asked the process to exit
        self._last_post = 0.0

    # -- the courier's side

    @abstractmethod
    def put(self, deliveries: Sequence[Delivery]) -> None: ...

    @abstractmethod
    def backlog(self) -> int:
        """Deliveries here: waiting and running."""

    @abstractmethod
    def busy_for(self, now: float) -> float:
        """Seconds for which every slot has been busy with the body it runs; 0 when one is free."""

    def waiting(self) -> int:
        return len(self.inbox)

    def take_back(self) -> list[Delivery]:
        """Remove and return what has not been started."""
        taken = []
        while True:
            try:
                taken.append(self.inbox.pop())
            except IndexError:
                return taken

    def tick(self, now: float) -> float | None:
        """Enforce limits that are due; return when the next one is (monotonic), None when there is none."""
        return None

    # -- the child's side

    @abstractmethod
    def run(self) -> None:
        """Run bodies in the calling (main) thread until stopped and all started ones have ended."""

    @abstractmethod
    def stop(self) -> None:
        """Start nothing more; callable from any thread and from signal handlers."""

    # -- shared

    def _post(self, settlement: Settlement, ended: float, early: bool = False) -> None:
        """Hand over an end; `early`: its delivery was acknowledged before the body ran."""
        assert self.courier is not None
        urgent = not self.inbox or ended - self._last_post > LINGER
        if urgent:
            self._last_post = ended
        self.courier.post(settlement, now=urgent, held=not early)

    def _count(self) -> None:
        self.processed += 1
        if self.ledger is not None:
            self.ledger.count(self.processed)
        if (self.max_tasks is not None and self.processed >= self.max_tasks) or (
            self.max_memory is not None and resident_kib() > self.max_memory
        ):
            self.stop()

    def _begin(self, delivery: Delivery) -> Job | None:
        """Decode and decide; None when there is nothing to run (the end is posted already)."""
        job = self.processor.begin(delivery)
        if isinstance(job, Settlement):
            self._post(job, time.monotonic())
            return None
        return job

    def _open(self, slot: int, job: Job, started: float) -> None:
        if failpoints.on:
            failpoints.hit("start.before")
        if self.ledger is not None:
            delivery = job.delivery
            soft = started + job.soft if job.soft else 0.0
            hard = started + job.hard if job.hard else 0.0
            self.ledger.start(
                slot, delivery.queue, delivery.tag, started, soft, hard, job.call.id.encode(), job.entry.name,
                job.early,
            )  # fmt: skip
        if failpoints.on:
            failpoints.hit("start.after")

    def _close(self, slot: int, settlement: Settlement) -> None:
        if failpoints.on:
            failpoints.hit("outcome.concluded")
        if self.ledger is not None:
            if settlement.results or settlement.followups or settlement.owed or settlement.verdict != ACK:
                self.ledger.end(slot)
            else:
                self.ledger.done(slot, settlement.queue, settlement.tag)
        if failpoints.on:
            failpoints.hit("outcome.noted")

    def _measure(self, runtime: float) -> None:
        self.pace += WEIGHT * (runtime - self.pace)
