"""`ThreadLane` (threads): a slot per thread.

A soft limit raises inside the body's thread; a body past its hard limit fails, its thread is forgotten (a
thread cannot be killed), and its slot gets a new one, which first concludes what the old one ran.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from celeriac import _state
from celeriac.brokers.base import Delivery, Settlement
from celeriac.exceptions import TimeLimitExceeded
from celeriac.execution.outcome import FAILED, Outcome
from celeriac.execution.run import invoke
from celeriac.worker.job import Job
from celeriac.worker.lanes.base import Lane
from celeriac.worker.lanes.limits import BodyLoop, Interrupt, run_limited
from celeriac.worker.request import Processor

if TYPE_CHECKING:
    from celeriac.worker.ledger import Ledger

__all__ = ["ThreadLane"]

logger = logging.getLogger("celeriac.worker")

#: Seconds that a coroutine's loop has to end it at its hard limit, before its thread is given up.
GRACE = 0.2


class _Slot:
    """A thread of the `ThreadLane` and what it runs."""

    __slots__ = ("abandoned", "hard", "index", "interrupt", "job", "lock", "loop", "since", "soft")

    def __init__(self, index: int) -> None:
        self.index = index
        self.lock = threading.Lock()
        self.lock.acquire()
        self.job: Job | None = None  # under the lane's guard: a job that has a limit, while its body runs
        self.interrupt: Interrupt | None = None
        self.since = 0.0
        self.soft = 0.0
        self.hard = 0.0
        self.abandoned = False
        self.loop = BodyLoop()


class ThreadLane(Lane):
    """A slot per thread. A body past its hard limit fails, and its slot gets a new thread."""

    def __init__(self, processor: Processor, slots: int, ledger: Ledger | None) -> None:
        super().__init__(processor, slots, ledger)
        self._idle: deque[_Slot] = deque()
        self._busy: dict[int, _Slot] = {}
        self._live = 0
        self._all_done = threading.Event()
        self._guard = threading.Lock()
        self._book = threading.Lock()  # one thread at a time keeps the books

    def put(self, deliveries: Sequence[Delivery]) -> None:
        self.inbox.extend(deliveries)
        for _ in deliveries:
            try:
                self._idle.popleft().lock.release()
            except IndexError:
                return

    def backlog(self) -> int:
        return len(self.inbox) + len(self._busy)

    def busy_for(self, now: float) -> float:
        if len(self._busy) < self.slots:
            return 0.0
        return now - max((slot.since for slot in list(self._busy.values())), default=now)

    def run(self) -> None:
        for index in range(self.slots):
            self._hire(index)
        self._all_done.wait()

    def _hire(self, index: int, timed_out: Job | None = None) -> None:
        slot = _Slot(index)
        with self._guard:
            self._live += 1
        threading.Thread(target=self._work, args=(slot, timed_out), name=f"slot-{index}", daemon=True).start()

    def stop(self) -> None:
        self.stopping = True
        if self.courier is not None:
            self.courier.pause()
        while True:
            try:
                self._idle.popleft().lock.release()
            except IndexError:
                break

    def _work(self, slot: _Slot, timed_out: Job | None) -> None:
        try:
            if timed_out is not None:
                self._time_out(slot, timed_out)
            while not slot.abandoned and not self.stopping:
                try:
                    delivery = self.inbox.popleft()
                except IndexError:
                    self._rest(slot)
                    continue
                self._one(slot, delivery)
        except BaseException as exc:  # what bodies raise is their outcome; this is a bug of ours
            assert self.courier is not None
            self.courier.fail("Lane", exc)
        finally:
            slot.loop.close()
            if not slot.abandoned:
                self._leave()

    def _leave(self) -> None:
        with self._guard:
            self._live -= 1
            if not self._live:
                self._all_done.set()

    def _rest(self, slot: _Slot) -> None:
        self._idle.append(slot)
        if (self.inbox or self.stopping) and self._unlist(slot):
            return
        assert self.courier is not None
        self.courier.poke()
        slot.lock.acquire()

    def _unlist(self, slot: _Slot) -> bool:
        try:
            self._idle.remove(slot)
        except ValueError:  # somebody is about to release the lock: take that wake-up
            return False
        return True

    def _one(self, slot: _Slot, delivery: Delivery) -> None:
        slot.since = started = time.monotonic()
        self._busy[slot.index] = slot
        try:
            job = self._begin(delivery)
            if job is None:
                return
            if job.early:
                if not self.processor.acknowledge(job):
                    return
                slot.since = started = time.monotonic()  # waiting for the broker is not run time
            self._open(slot.index, job, started)
            token = _state.running.set((job.task, job.context))
            self._arm(slot, job, started)
            outcome = self._invoke(slot, job)
            with self._guard:
                slot.job = None
                if slot.abandoned:
                    return
            self._end(slot, job, outcome, started)
            _state.running.reset(token)
        finally:
            if not slot.abandoned:
                self._busy.pop(slot.index, None)

    def _arm(self, slot: _Slot, job: Job, started: float) -> None:
        """From now on `tick` watches over the body's limits."""
        if not job.soft and not job.hard:
            return
        assert self.courier is not None
        slot.soft = started + job.soft if job.soft else 0.0
        slot.hard = started + job.hard if job.hard else 0.0
        if slot.hard and job.entry.is_coroutine:
            slot.hard += GRACE
        slot.interrupt = Interrupt() if job.soft and not job.entry.is_coroutine else None
        slot.job = job
        self.courier.poke()

    def _invoke(self, slot: _Slot, job: Job) -> Outcome:
        entry = job.entry
        if entry.is_coroutine:
            return slot.loop.run(run_limited(job))  # type: ignore[no-any-return]

        def body() -> Outcome:
            return invoke(job.task, entry.function, entry.before_start, job.context, slot.loop.run)

        interrupt = slot.interrupt if slot.job is not None else None
        return body() if interrupt is None else interrupt.run(body)

    def _end(self, slot: _Slot, job: Job, outcome: Outcome, started: float) -> None:
        ended = time.monotonic()
        settlement = self.processor.finish(job, outcome, ended - started)
        self._measure(ended - started)
        self._book_end(slot, settlement, ended, job)

    def _book_end(self, slot: _Slot, settlement: Settlement, ended: float, job: Job) -> None:
        with self._book:
            self._close(slot.index, settlement)
            self._count()
            self._busy.pop(slot.index, None)
            self._post(settlement, ended, job.early)

    def _time_out(self, slot: _Slot, job: Job) -> None:
        """Conclude what the thread before this one could not finish in time."""
        token = _state.running.set((job.task, job.context))
        outcome = Outcome(FAILED, None, TimeLimitExceeded(job.hard))
        settlement = self.processor.finish(job, outcome, job.hard or 0.0)
        _state.running.reset(token)
        self._book_end(slot, settlement, time.monotonic(), job)

    def tick(self, now: float) -> float | None:
        nearest: float | None = None
        for slot in list(self._busy.values()):
            if slot.job is None:
                continue
            if slot.hard and now >= slot.hard:
                self._abandon(slot)
                continue
            if slot.soft and now >= slot.soft:
                slot.soft = 0.0
                if slot.interrupt is not None:  # a coroutine's loop does it itself
                    slot.interrupt.ring()
            for limit in (slot.soft, slot.hard):
                if limit and (nearest is None or limit < nearest):
                    nearest = limit
        return nearest

    def _abandon(self, slot: _Slot) -> None:
        """Forget the thread and give its slot, and the task that ran too long, to a new one."""
        with self._guard:
            job = slot.job
            if job is None:
                return
            slot.abandoned = True
            slot.job = None
            self._live -= 1
        logger.error("Hard time limit (%ss) exceeded for %s[%s]", job.hard, job.call.name, job.call.id)
        self._hire(slot.index, job)
