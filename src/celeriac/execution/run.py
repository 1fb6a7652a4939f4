"""The hot path: run one body and say how it ended. One screen.

1. `entry_point(task)`: the function to call, looked up once per task.
2. `invoke`: call it under its request (plain functions); `invoke_async`: the same for coroutines.
3. `outcome_of`: any exception → its `Outcome`.

Not here: what follows from the outcome (`conclude.py`), time limits and threads (`worker/lanes.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from celeriac import signals
from celeriac.exceptions import Ignore, Reject, Retry
from celeriac.execution.call import Context
from celeriac.execution.outcome import (
    FAILED,
    IGNORED,
    REJECTED,
    RETRIED,
    SUCCEEDED,
    Outcome,
    format_traceback,
)

__all__ = ["entry_point", "invoke", "invoke_async", "is_coroutine_task", "outcome_of", "overrides"]

_prerun = signals.task_prerun


def overrides(task: Any, method: str) -> Callable[..., Any] | None:
    """The task's own `method`, or None when it is the base class's, which does nothing."""
    from celeriac.app.task import Task

    if getattr(type(task), method) is getattr(Task, method) and method not in vars(task):
        return None
    bound: Callable[..., Any] = getattr(task, method)
    return bound


def entry_point(task: Any) -> Callable[..., Any]:
    """`task.run`, or `task.__call__` where a base class has its own (as Flask's and Django's recipes do)."""
    own = overrides(task, "__call__")
    return own if own is not None else task.run


def is_coroutine_task(task: Any) -> bool:
    """True when the body is a coroutine function as it stands.

    What it wraps does not count: a plain wrapper may run the coroutine itself, or hand it back (`invoke` then
    finishes it).
    """
    return inspect.iscoroutinefunction(task.run)


def outcome_of(exc: BaseException) -> Outcome:
    """The outcome of a body that raised `exc`."""
    if isinstance(exc, Retry):
        return Outcome(RETRIED, None, exc, format_traceback(exc, skip=1))
    if isinstance(exc, Ignore):
        return Outcome(IGNORED, None, exc)
    if isinstance(exc, Reject):
        return Outcome(REJECTED, None, exc)
    # SystemExit and its like end the task, not silently the process: the child is replaced afterwards.
    fatal = not isinstance(exc, Exception)
    return Outcome(FAILED, None, exc, format_traceback(exc, skip=1), fatal)


def invoke(
    task: Any,
    entry: Callable[..., Any],
    before_start: Callable[..., Any] | None,
    context: Context,
    finish: Callable[[Any], Any] | None = None,
) -> Outcome:
    """Run a plain body; the caller has made its request current. `finish` turns a coroutine that the body
    returns into its value."""
    try:
        if _prerun.receivers:
            _prerun.send(sender=task, task_id=context.id, task=task, args=context.args, kwargs=context.kwargs)
        if before_start is not None:
            before_start(context.id, context.args, context.kwargs)
        value = entry(*context.args, **context.kwargs)
        if type(value) is CoroutineType and finish is not None:
            value = finish(value)
        return Outcome(SUCCEEDED, value)
    except BaseException as exc:  # everything a body may raise is an outcome: the worker lives on
        return outcome_of(exc)


async def invoke_async(
    task: Any,
    entry: Callable[..., Any],
    before_start: Callable[..., Any] | None,
    context: Context,
) -> Outcome:
    """Run a coroutine body inside the lane's event loop; the caller has made its request current."""
    try:
        if _prerun.receivers:
            _prerun.send(sender=task, task_id=context.id, task=task, args=context.args, kwargs=context.kwargs)
        if before_start is not None:
            before_start(context.id, context.args, context.kwargs)
        return Outcome(SUCCEEDED, await entry(*context.args, **context.kwargs))
    except (
        BaseException
    ) as exc:  # as in `invoke`; the lane has already turned a time limit into its exception
        return outcome_of(exc)
