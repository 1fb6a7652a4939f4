"""Lanes: where bodies run. User code lives here and nowhere else in the worker.

1. `MainLane` (prefork, solo): one body at a time in the process's main thread, where a signal can interrupt a
   blocking call; coroutines run to their end on a loop of the lane's own.
2. `ThreadLane` (threads): a slot per thread.
3. `LoopLane` (asyncio): coroutines on one event loop in the main thread; plain functions in threads beside it.

Each lane takes deliveries from the courier (`put`), gives back what it has not started (`take_back`), posts a
settlement for each, and enforces soft limits itself. A hard limit is enforced by killing the child where the
child runs one body (the supervisor does it, by the ledger), and by giving up the slot where it runs many.

Not here: what a message means and what follows from an outcome (`request.py`).
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import logging
import mmap
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any

from celeriac import _state
from celeriac.brokers.base import Delivery, Settlement
from celeriac.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celeriac.execution.outcome import FAILED, Outcome
from celeriac.execution.run import invoke, invoke_async, outcome_of
from celeriac.worker.request import Job, Processor

if TYPE_CHECKING:
    from celeriac.worker.courier import Courier
    from celeriac.worker.ledger import Ledger

__all__ = ["Lane", "LoopLane", "MainLane", "ThreadLane"]

logger = logging.getLogger("celeriac.worker")

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

    def _post(self, settlement: Settlement, ended: float) -> None:
        assert self.courier is not None
        urgent = not self.inbox or ended - self._last_post > LINGER
        if urgent:
            self._last_post = ended
        self.courier.post(settlement, now=urgent)

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
        if self.ledger is not None:
            delivery = job.delivery
            soft = started + job.soft if job.soft else 0.0
            hard = started + job.hard if job.hard else 0.0
            self.ledger.start(
                slot, delivery.queue, delivery.tag, started, soft, hard, job.call.id.encode(), job.entry.name
            )

    def _close(self, slot: int, settlement: Settlement) -> None:
        if self.ledger is not None:
            if settlement.results or settlement.followups or settlement.verdict != "ack":
                self.ledger.end(slot)
            else:
                self.ledger.done(slot, settlement.queue, settlement.tag)

    def _measure(self, runtime: float) -> None:
        self.pace += WEIGHT * (runtime - self.pace)


class MainLane(Lane):
    """One body at a time, in the main thread."""

    def __init__(self, processor: Processor, slots: int, ledger: Ledger | None) -> None:
        super().__init__(processor, 1, ledger)
        self._tokens: SimpleQueue[None] = SimpleQueue()  # a token wakes the sleeping lane
        self._sleeping = False
        self._since = 0.0  # start of the running body, 0 between bodies
        self._in_body = False
        self._runner: asyncio.Runner | None = None

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
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, self._on_alarm)
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
            if self._runner is not None:
                self._runner.close()

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
        if job.early and not self.processor.acknowledge(job):
            self._since = 0.0
            return
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
        self._post(settlement, ended)

    def _invoke(self, job: Job) -> Outcome:
        entry = job.entry
        if entry.is_coroutine:
            return self._invoke_coroutine(job)
        if not job.soft:
            return invoke(job.task, entry.function, entry.before_start, job.context)
        self._in_body = True
        try:
            signal.setitimer(signal.ITIMER_REAL, job.soft)
            return invoke(job.task, entry.function, entry.before_start, job.context)
        except SoftTimeLimitExceeded as exc:  # it rang between the body's end and this line
            return outcome_of(exc)
        finally:
            self._in_body = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _invoke_coroutine(self, job: Job) -> Outcome:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(_limited(job), context=contextvars.copy_context())

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        if self._in_body:
            self._in_body = False
            raise SoftTimeLimitExceeded


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
                return slot.runner.run(_limited(job), context=contextvars.copy_context())
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
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(
                            ctypes.c_ulong(slot.thread.ident), ctypes.py_object(SoftTimeLimitExceeded)
                        )
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
        settlement = self.processor.finish(job, Outcome(FAILED, None, TimeLimitExceeded(job.hard)), job.hard or 0.0)
        self._close(slot.index, settlement)
        self._busy.pop(slot.index, None)
        if self.stopping:
            self._leave()
        else:
            with self._guard:
                self._live -= 1
            self._hire(slot.index)
        self._post(settlement, time.monotonic())


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
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._launch)

    def backlog(self) -> int:
        return len(self.inbox) + self.slots - len(self._free)

    def busy_for(self, now: float) -> float:
        return now - self._full_since if not self._free and self._full_since else 0.0

    def stop(self) -> None:
        self.stopping = True
        if self.courier is not None:
            self.courier.pause()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._check_done)

    def run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._main())
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
            task = self._loop.create_task(self._one(slot, delivery))
            self._tasks.add(task)
        if not self._free:
            self._full_since = time.monotonic()

    async def _one(self, slot: int, delivery: Delivery) -> None:
        started = time.monotonic()
        try:
            job = self._begin(delivery)
            if job is None:
                return
            assert self._loop is not None
            if job.early and not await self._loop.run_in_executor(None, self.processor.acknowledge, job):
                return
            self._open(slot, job, started)
            _state.running.set((job.task, job.context))
            outcome = await (_limited(job) if job.entry.is_coroutine else self._in_thread(job))
            ended = time.monotonic()
            settlement = self.processor.finish(job, outcome, ended - started)
            self._close(slot, settlement)
            self._measure(ended - started)
            self._count()
            self._post(settlement, ended)
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
        assert self._loop is not None
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=self.slots, thread_name_prefix="slot")
        context = contextvars.copy_context()
        ident: list[int] = []

        def body() -> Outcome:
            ident.append(threading.get_ident())
            try:
                return invoke(job.task, job.entry.function, job.entry.before_start, job.context)
            except SoftTimeLimitExceeded as exc:
                return outcome_of(exc)

        future = self._loop.run_in_executor(self._threads, context.run, body)
        soft = None
        if job.soft:
            soft = self._loop.call_later(job.soft, _interrupt, ident, future)
        try:
            return await asyncio.wait_for(asyncio.shield(future), job.hard or None)
        except asyncio.TimeoutError:
            return Outcome(FAILED, None, TimeLimitExceeded(job.hard))
        finally:
            if soft is not None:
                soft.cancel()


def _interrupt(ident: Sequence[int], future: asyncio.Future[Outcome]) -> None:
    if ident and not future.done():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident[0]), ctypes.py_object(SoftTimeLimitExceeded))


class _Interruptible(Awaitable[Any]):
    """Awaits a coroutine into which `SoftTimeLimitExceeded` can be thrown, where it may be caught."""

    def __init__(self, coroutine: Any) -> None:
        self.coroutine = coroutine
        self.interrupted = False

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[Any], Any] = self.coroutine.send
        value: Any = None
        while True:
            try:
                waited = step(value)
            except StopIteration as stop:
                return stop.value
            try:
                value = yield waited
                step = self.coroutine.send
            except asyncio.CancelledError as exc:
                step = self.coroutine.throw
                value = exc
                if self.interrupted:
                    self.interrupted = False
                    value = SoftTimeLimitExceeded()
                    task = asyncio.current_task()
                    if task is not None:
                        task.uncancel()
            except BaseException as exc:
                step, value = self.coroutine.throw, exc


async def _limited(job: Job) -> Outcome:
    """Run a coroutine body under its soft and hard limits."""
    if not job.soft and not job.hard:
        return await invoke_async(job.task, job.entry.function, job.entry.before_start, job.context)
    loop = asyncio.get_running_loop()
    wrapped = _Interruptible(invoke_async(job.task, job.entry.function, job.entry.before_start, job.context))

    async def body() -> Outcome:
        return await wrapped  # type: ignore[no-any-return]

    task = loop.create_task(body())

    def interrupt() -> None:
        wrapped.interrupted = True
        task.cancel()

    soft = loop.call_later(job.soft, interrupt) if job.soft else None
    try:
        done, _ = await asyncio.wait({task}, timeout=job.hard or None)
        if done:
            return task.result()
        task.cancel()
        return Outcome(FAILED, None, TimeLimitExceeded(job.hard))
    except asyncio.CancelledError:
        task.cancel()
        raise
    finally:
        if soft is not None:
            soft.cancel()
