"""`LoopLane` (asyncio): coroutines on one event loop in the main thread; plain functions in threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from celeriac import _state
from celeriac.brokers.base import Delivery
from celeriac.exceptions import TimeLimitExceeded
from celeriac.execution.outcome import FAILED, Outcome
from celeriac.execution.run import invoke, outcome_of
from celeriac.worker.job import Job
from celeriac.worker.lanes.base import Lane
from celeriac.worker.lanes.limits import BodyLoop, Interrupt, run_limited
from celeriac.worker.request import Processor

if TYPE_CHECKING:
    from celeriac.worker.ledger import Ledger

__all__ = ["LoopLane"]


class LoopLane(Lane):
    """Coroutines on one event loop; plain functions run in threads beside it."""

    def __init__(self, processor: Processor, slots: int, ledger: Ledger | None) -> None:
        super().__init__(processor, slots, ledger)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._done: asyncio.Event | None = None
        self._free = deque(range(slots))
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads: ThreadPoolExecutor | None = None
        self._full_since = 0.0

    def put(self, deliveries: Sequence[Delivery]) -> None:
        self.inbox.extend(deliveries)
        self._ready.wait()
        self._call(self._launch)

    def _call(self, function: Any) -> None:
        """Call it on the loop; when that has ended, what is in the inbox goes back anyway."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function)

    def backlog(self) -> int:
        return len(self.inbox) + self.slots - len(self._free)

    def busy_for(self, now: float) -> float:
        return now - self._full_since if not self._free and self._full_since else 0.0

    def stop(self) -> None:
        self.stopping = True
        if self.courier is not None:
            self.courier.pause()
        self._call(self._check_done)

    def run(self) -> None:
        loop = BodyLoop()
        try:
            loop.run(self._main())
        finally:
            loop.close()
            if self._threads is not None:
                self._threads.shutdown(wait=False)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        self._ready.set()
        self._check_done()
        await self._done.wait()

    def _check_done(self) -> None:
        if self.stopping and not self._tasks and self._done is not None:
            self._done.set()

    def _launch(self) -> None:
        assert self._loop is not None
        while self._free and self.inbox and not self.stopping:
            try:
                delivery = self.inbox.popleft()
            except IndexError:  # the courier took it back
                break
            slot = self._free.popleft()
            if not self._free:
                self._full_since = time.monotonic()
            task = self._loop.create_task(self._one(slot, delivery))
            self._tasks.add(task)

    async def _one(self, slot: int, delivery: Delivery) -> None:
        started = time.monotonic()
        try:
            job = self._begin(delivery)
            if job is None:
                return
            assert self._loop is not None
            if job.early:
                if not await self._loop.run_in_executor(None, self.processor.acknowledge, job):
                    return
                started = time.monotonic()  # waiting for the broker is not run time
            self._open(slot, job, started)
            _state.running.set((job.task, job.context))
            try:
                outcome = await (run_limited(job) if job.entry.is_coroutine else self._in_thread(job))
            except GeneratorExit as exc:  # as in `run_limited`
                outcome = outcome_of(exc)
            ended = time.monotonic()
            settlement = self.processor.finish(job, outcome, ended - started)
            self._close(slot, settlement)
            self._measure(ended - started)
            self._count()
            self._post(settlement, ended, job.early)
        except BaseException as exc:  # what bodies raise is their outcome; this is a bug of ours
            assert self.courier is not None
            self.courier.fail("Lane", exc)
        finally:
            self._free.append(slot)
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)
            if self.inbox:
                self._launch()
            elif self.courier is not None:
                self.courier.poke()
            self._check_done()

    async def _in_thread(self, job: Job) -> Outcome:
        """A plain function must not block the loop. Its hard limit gives up the thread."""
        loop = self._loop
        assert loop is not None
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=self.slots, thread_name_prefix="slot")
        threads = self._threads
        interrupt = Interrupt()

        def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

        def body() -> Outcome:
            return invoke(job.task, job.entry.function, job.entry.before_start, job.context, finish)

        def armed() -> Outcome:
            if job.soft:
                loop.call_soon_threadsafe(ring_later)
            return interrupt.run(body)

        timers: list[asyncio.TimerHandle] = []

        def ring_later() -> None:
            timers.append(loop.call_later(job.soft or 0.0, interrupt.ring))

        context = contextvars.copy_context()
        future = loop.run_in_executor(threads, context.run, armed)
        try:
            return await asyncio.wait_for(asyncio.shield(future), job.hard or None)
        except TimeoutError:
            # The thread cannot be killed; it leaves with its pool, and the other slots get a full new one.
            threads.shutdown(wait=False)
            if self._threads is threads:
                self._threads = None
            return Outcome(FAILED, None, TimeLimitExceeded(job.hard))
        finally:
            for timer in timers:
                timer.cancel()
