"""`ThreadLane` (threads): a slot per thread.

A soft limit raises inside the body's thread; a body past its hard limit fails, its thread is forgotten (a
thread cannot be killed), and its slot gets a new one.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from celeriac import _state
from celeriac.brokers.base import Delivery
from celeriac.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celeriac.execution.outcome import FAILED, Outcome
from celeriac.execution.run import invoke, outcome_of
from celeriac.worker.job import Job
from celeriac.worker.lanes.base import Lane
from celeriac.worker.lanes.limits import interrupt_thread, run_limited
from celeriac.worker.request import Processor

if TYPE_CHECKING:
    from celeriac.worker.ledger import Ledger

__all__ = ["ThreadLane"]

logger = logging.getLogger("celeriac.worker")


class _Slot:
    """A thread of the `ThreadLane` and what it runs."""

    __slots__ = ("abandoned", "hard", "index", "job", "lock", "runner", "since", "soft", "thread")

    def __init__(self, index: int) -> None:
        self.index = index
        self.lock = threading.Lock()
        self.lock.acquire()
        self.job: Job | None = None
        self.since = 0.0
        self.soft = 0.0
        self.hard = 0.0
        self.abandoned = False
        self.thread: threading.Thread | None = None
        self.runner: asyncio.Runner | None = None


class ThreadLane(Lane):
    """A slot per thread. A body past its hard limit fails, and its slot gets a new thread."""

    def __init__(self, processor: Processor, slots: int, ledger: Ledger | None) -> None:
        super().__init__(processor, slots, ledger)
        self._idle: deque[_Slot] = deque()
        self._busy: dict[int, _Slot] = {}
        self._live = 0
        self._all_done = threading.Event()
        self._guard = threading.Lock()

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

    def _hire(self, index: int) -> None:
        slot = _Slot(index)
        slot.thread = threading.Thread(target=self._work, args=(slot,), name=f"slot-{index}", daemon=True)
        with self._guard:
            self._live += 1
        slot.thread.start()

    def stop(self) -> None:
        self.stopping = True
        if self.courier is not None:
            self.courier.pause()
        while True:
            try:
                self._idle.popleft().lock.release()
            except IndexError:
                break

    def _work(self, slot: _Slot) -> None:
        try:
            while not slot.abandoned and not self.stopping:
                try:
                    delivery = self.inbox.popleft()
                except IndexError:
                    self._rest(slot)
                    continue
                self._one(slot, delivery)
        finally:
            if slot.runner is not None:
                slot.runner.close()
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
        started = time.monotonic()
        slot.since = started
        self._busy[slot.index] = slot
        try:
            job = self._begin(delivery)
            if job is None or (job.early and not self.processor.acknowledge(job)):
                return
            slot.soft = started + job.soft if job.soft else 0.0
            slot.hard = started + job.hard if job.hard else 0.0
            self._open(slot.index, job, started)
            token = _state.running.set((job.task, job.context))
            if slot.hard or slot.soft:
                assert self.courier is not None
                slot.job = job
                self.courier.poke()
            outcome = self._invoke(slot, job)
            with self._guard:
                slot.job = None
                if slot.abandoned:
                    return
            slot.soft = slot.hard = 0.0
            ended = time.monotonic()
            settlement = self.processor.finish(job, outcome, ended - started)
            _state.running.reset(token)
            self._close(slot.index, settlement)
            self._measure(ended - started)
            self._count()
            self._busy.pop(slot.index, None)
            self._post(settlement, ended)
        except SoftTimeLimitExceeded:  # rang a moment after the body had ended
            logger.debug("A soft time limit rang after the body of slot %d had ended.", slot.index)
        finally:
            if not slot.abandoned:
                self._busy.pop(slot.index, None)

    def _invoke(self, slot: _Slot, job: Job) -> Outcome:
        try:
            if job.entry.is_coroutine:
                if slot.runner is None:
                    slot.runner = asyncio.Runner()
                return slot.runner.run(run_limited(job), context=contextvars.copy_context())
            return invoke(job.task, job.entry.function, job.entry.before_start, job.context)
        except SoftTimeLimitExceeded as exc:
            return outcome_of(exc)

    def tick(self, now: float) -> float | None:
        nearest: float | None = None
        for slot in list(self._busy.values()):
            if slot.job is None:
                continue
            if slot.hard and now >= slot.hard:
                self._abandon(slot)
                continue
            if slot.soft and now >= slot.soft and not slot.job.entry.is_coroutine:
                slot.soft = 0.0
                with self._guard:  # the body cannot end between the look and the blow
                    if slot.job is not None and slot.thread is not None and slot.thread.ident is not None:
                        interrupt_thread(slot.thread.ident)
            for limit in (slot.soft, slot.hard):
                if limit and (nearest is None or limit < nearest):
                    nearest = limit
        return nearest

    def _abandon(self, slot: _Slot) -> None:
        """Fail the body, forget its thread (a thread cannot be killed), give the slot to a new one."""
        with self._guard:
            job = slot.job
            if job is None:
                return
            slot.abandoned = True
            slot.job = None
        logger.error("Hard time limit (%ss) exceeded for %s[%s]", job.hard, job.call.name, job.call.id)
        settlement = self.processor.finish(
            job, Outcome(FAILED, None, TimeLimitExceeded(job.hard)), job.hard or 0.0
        )
        self._close(slot.index, settlement)
        self._busy.pop(slot.index, None)
        if self.stopping:
            self._leave()
        else:
            with self._guard:
                self._live -= 1
            self._hire(slot.index)
        self._post(settlement, time.monotonic())
