"""Coroutine bodies and limits, for every lane.

1. `run_limited`: a coroutine body with its soft and hard limit; gives an `Outcome`.
2. `Interruptible`: awaits a coroutine into which `SoftTimeLimitExceeded` can be thrown; it may catch it.
3. `Interrupt`: the soft limit of a plain body that runs in a thread.
4. `BodyLoop`: an event loop that bodies can neither stop nor keep from being closed.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from celeriac.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celeriac.execution.outcome import FAILED, Outcome
from celeriac.execution.run import invoke_async, outcome_of
from celeriac.worker.job import Job

__all__ = ["BodyLoop", "Interrupt", "Interruptible", "run_limited"]

logger = logging.getLogger("celeriac.worker")

#: Seconds that coroutines which outlived their calls get to end, when their loop is closed.
PATIENCE = 1.0


class Interrupt:
    """Lets another thread raise `SoftTimeLimitExceeded` in a body: while it runs, and at no other time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ident: int | None = None
        self._rung = False

    def run(self, body: Callable[[], Outcome]) -> Outcome:
        """Run `body` in this thread. When this returns, nothing can be raised here any more."""
        try:
            self._ident = threading.get_ident()
            outcome = body()
        except SoftTimeLimitExceeded as exc:  # it rang between the body's end and this line
            outcome = outcome_of(exc)
        while True:
            try:
                self._disarm()
            except SoftTimeLimitExceeded:  # it rang after the body's end: too late to count
                continue
            return outcome

    def ring(self) -> None:
        """Raise it at the body's next bytecode, if the body still runs."""
        with self._lock:
            if self._ident is not None:
                self._rung = True
                _raise_in(self._ident, SoftTimeLimitExceeded)

    def _disarm(self) -> None:
        with self._lock:
            self._ident = None
            rung, self._rung = self._rung, False
        if rung:
            _take_back()


class _TakenBack(BaseException):
    """Stands in for an exception that was raised in this thread and not delivered."""


def _take_back() -> None:
    """Nothing is pending in this thread when this returns.

    Another exception replaces what is pending, and is let out here. Clearing it (a null pointer) would leave
    CPython 3.11's flag up that something is pending, for ever: every loop of every thread is slower then, and
    the next function that is traced or profiled never begins.
    """
    try:
        _raise_in(threading.get_ident(), _TakenBack)
        while True:
            pass
    except _TakenBack:
        return


def _raise_in(ident: int, kind: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(kind))


class BodyLoop:
    """The event loop of a thread that runs bodies; made on first use."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run `coroutine` to its end, in a copy of the calling context."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        task = self._loop.create_task(coroutine, context=contextvars.copy_context())
        while True:
            try:
                return self._loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt):
                # asyncio lets these out of the loop when any task raises them; whoever awaits that task gets
                # them too, and that is where they count.
                if task.done():
                    raise
            except BaseException:
                task.cancel()
                raise

    def close(self) -> None:
        """End what still runs, with bounded patience: a body may refuse to be cancelled."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            loop.run_until_complete(_wind_up(loop))
        except BaseException as exc:  # raised by leftovers of bodies; the thread ends all the same
            logger.warning("Coroutines that outlived their tasks ended with %r.", exc)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=PATIENCE)
    await asyncio.wait_for(loop.shutdown_asyncgens(), PATIENCE)


class Interruptible(Awaitable[Any]):
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
            except GeneratorExit:
                self.coroutine.close()
                raise
            except BaseException as exc:
                step, value = self.coroutine.throw, exc


async def run_limited(job: Job, rang: Callable[[], None] | None = None) -> Outcome:
    """Run a coroutine body under its soft and hard limits; the outermost coroutine of its task.

    Args:
        rang: called when the soft limit is thrown into the body.
    """
    try:
        return await _run_limited(job, rang)
    except GeneratorExit as exc:  # thrown into a coroutine it passes by those inside, which only get closed
        return outcome_of(exc)


async def _run_limited(job: Job, rang: Callable[[], None] | None) -> Outcome:
    if not job.soft and not job.hard:
        return await invoke_async(job.task, job.entry.function, job.entry.before_start, job.context)
    loop = asyncio.get_running_loop()
    wrapped = Interruptible(invoke_async(job.task, job.entry.function, job.entry.before_start, job.context))
    soft: list[asyncio.TimerHandle] = []

    async def body() -> Outcome:
        if job.soft:  # armed here, so that it cannot strike before there is a body
            soft.append(loop.call_later(job.soft, interrupt))
        return await wrapped  # type: ignore[no-any-return]

    task = loop.create_task(body())

    def interrupt() -> None:
        wrapped.interrupted = True
        task.cancel()
        if rang is not None:
            rang()

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
        for timer in soft:
            timer.cancel()
