"""Coroutine bodies under limits, for every lane.

1. `run_limited`: a coroutine body with its soft and hard limit; gives an `Outcome`.
2. `Interruptible`: awaits a coroutine into which `SoftTimeLimitExceeded` can be thrown; it may catch it.
3. `interrupt_thread`: raises `SoftTimeLimitExceeded` in another thread.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from celeriac.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celeriac.execution.outcome import FAILED, Outcome
from celeriac.execution.run import invoke_async
from celeriac.worker.job import Job

__all__ = ["Interruptible", "interrupt_thread", "run_limited"]


def interrupt_thread(ident: int) -> None:
    """Raise `SoftTimeLimitExceeded` in the thread `ident`, at its next bytecode."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SoftTimeLimitExceeded))


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
            except BaseException as exc:
                step, value = self.coroutine.throw, exc


async def run_limited(job: Job) -> Outcome:
    """Run a coroutine body under its soft and hard limits."""
    if not job.soft and not job.hard:
        return await invoke_async(job.task, job.entry.function, job.entry.before_start, job.context)
    loop = asyncio.get_running_loop()
    wrapped = Interruptible(invoke_async(job.task, job.entry.function, job.entry.before_start, job.context))

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
