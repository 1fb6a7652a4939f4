"""`MainLane` (prefork, solo): one body at a time in the process's main thread.

The main thread, because only there can a signal interrupt a blocking call: that is how a soft limit reaches
a body. Coroutines run to their end on a loop of the lane's own. A hard limit is the supervisor's affair: it
kills the child.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

from celeriac import _state
from celeriac.brokers.base import Delivery
from celeriac.exceptions import SoftTimeLimitExceeded
from celeriac.execution.outcome import Outcome
from celeriac.execution.run import invoke, outcome_of
from celeriac.worker.job import Job
from celeriac.worker.lanes.base import Lane
from celeriac.worker.lanes.limits import BodyLoop, run_limited
from celeriac.worker.request import Processor

if TYPE_CHECKING:
    from celeriac.worker.ledger import Ledger

__all__ = ["MainLane"]

#: Seconds that a coroutine's loop has to throw a soft limit into it, before the alarm does.
LATE = 0.1


class MainLane(Lane):
    """One body at a time, in the main thread."""

    def __init__(self, processor: Processor, slots: int, ledger: Ledger | None) -> None:
        super().__init__(processor, 1, ledger)
        self._tokens: SimpleQueue[None] = SimpleQueue()  # a token wakes the sleeping lane
        self._sleeping = False
        self._since = 0.0  # start of the running body, 0 between bodies
        self._in_body = False
        self._loop = BodyLoop()
        self._finish = self._loop.run

    def put(self, deliveries: Sequence[Delivery]) -> None:
        self.inbox.extend(deliveries)
        self._rouse()

    def _rouse(self) -> None:
        if self._sleeping:
            self._sleeping = False
            self._tokens.put(None)

    def backlog(self) -> int:
        return len(self.inbox) + (1 if self._since else 0)

    def busy_for(self, now: float) -> float:
        since = self._since
        return now - since if since else 0.0

    def stop(self) -> None:
        self.stopping = True
        if self.courier is not None:
            self.courier.pause()
        self._rouse()

    def run(self) -> None:
        try:
            while not self.stopping:
                try:
                    delivery = self.inbox.popleft()
                except IndexError:
                    self._sleep()
                    continue
                self._one(delivery)
                if self.must_exit:
                    self.stop()
        finally:
            self._loop.close()

    def _sleep(self) -> None:
        self._sleeping = True
        if self.inbox or self.stopping:
            self._sleeping = False  # a token sent meanwhile only costs one empty round
            return
        assert self.courier is not None
        self.courier.poke()
        self._tokens.get()

    def _one(self, delivery: Delivery) -> None:
        """The life of one delivery. Everything before and after the body is ours and cannot fail."""
        started = time.monotonic()
        self._since = started
        job = self._begin(delivery)
        if job is None:
            self._since = 0.0
            return
        if job.early:
            if not self.processor.acknowledge(job):
                self._since = 0.0
                return
            self._since = started = time.monotonic()  # waiting for the broker is not run time
        self._open(0, job, started)
        token = _state.running.set((job.task, job.context))
        outcome = self._invoke(job)
        ended = time.monotonic()
        settlement = self.processor.finish(job, outcome, ended - started)
        _state.running.reset(token)
        self._close(0, settlement)
        self.must_exit = outcome.fatal
        self._since = 0.0
        self._measure(ended - started)
        self._count()
        self._post(settlement, ended, job.early)

    def _invoke(self, job: Job) -> Outcome:
        if not job.soft or threading.current_thread() is not threading.main_thread():
            return self._run_body(job)
        signal.signal(signal.SIGALRM, self._on_alarm)  # every time: the last body may have changed it
        try:
            self._in_body = True
            # A coroutine's loop interrupts it, unless it keeps the loop from that.
            signal.setitimer(signal.ITIMER_REAL, job.soft + (LATE if job.entry.is_coroutine else 0.0))
            return self._run_body(job)
        except SoftTimeLimitExceeded as exc:  # it rang between the body's end and this line
            return outcome_of(exc)
        finally:
            self._in_body = False  # before anything is called: calls are where signals strike
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _run_body(self, job: Job) -> Outcome:
        entry = job.entry
        if entry.is_coroutine:
            return self._loop.run(run_limited(job, self._disarm if self._in_body else None))  # type: ignore[no-any-return]
        return invoke(job.task, entry.function, entry.before_start, job.context, self._finish)

    def _disarm(self) -> None:
        """The loop has interrupted its coroutine: the alarm need not."""
        self._in_body = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        if self._in_body:
            self._in_body = False
            raise SoftTimeLimitExceeded
