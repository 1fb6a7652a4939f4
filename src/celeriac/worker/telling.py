"""Telling the world how a call ended: the task's own handlers, signals, logs.

What handlers and receivers raise is logged and ends nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celeriac import signals, states
from celeriac.exceptions import CeleriacError
from celeriac.execution.conclude import Conclusion
from celeriac.execution.outcome import Outcome, error_info
from celeriac.wire import protocol
from celeriac.worker.job import Job

__all__ = ["fields_of", "guard", "tell"]

logger = logging.getLogger("celeriac.worker")

#: States of calls that have not returned: `after_return` is not for them.
_NO_RETURN = frozenset({states.IGNORED, states.RETRY, states.REJECTED})


def tell(job: Job, conclusion: Conclusion, outcome: Outcome, runtime: float) -> None:
    """Handlers, signals and logs; what they raise is logged."""
    entry, call = job.entry, job.call
    value = conclusion.value
    args, kwargs = call.args, call.kwargs
    if conclusion.state == states.SUCCESS:
        if entry.on_success is not None:
            guard(entry.on_success, value, call.id, args, kwargs)
        if signals.task_success.receivers:
            guard(signals.task_success.send, entry.task, result=value)
        if logger.isEnabledFor(logging.INFO):
            logger.info(
                "Task %s[%s] succeeded in %ss: %s",
                call.name, call.id, round(runtime, 6), protocol.saferepr(value, 120), extra=fields_of(job),
            )  # fmt: skip
    else:
        _tell_failure(job, conclusion, outcome, runtime)
    if entry.after_return is not None and conclusion.state not in _NO_RETURN:
        guard(entry.after_return, conclusion.state, value, call.id, args, kwargs, error_info(outcome))
    if signals.task_postrun.receivers:
        guard(
            signals.task_postrun.send, entry.task, task_id=call.id, task=entry.task, args=args, kwargs=kwargs,
            retval=value, state=conclusion.state,
        )  # fmt: skip


def _tell_failure(job: Job, conclusion: Conclusion, outcome: Outcome, runtime: float) -> None:
    entry, call = job.entry, job.call
    exc, info = outcome.exc, error_info(outcome)
    name = (call.name, call.id)
    if conclusion.state == states.IGNORED:
        logger.info("Task %s[%s] ignored", *name, extra=fields_of(job))
        return
    if conclusion.state == states.RETRY:
        cause = getattr(exc, "exc", None) or exc
        if entry.on_retry is not None:
            guard(entry.on_retry, cause, call.id, call.args, call.kwargs, info)
        if signals.task_retry.receivers:
            guard(signals.task_retry.send, entry.task, request=job.context, reason=exc, einfo=info)
        logger.info("Task %s[%s] retry: %s", *name, _text(exc), extra=fields_of(job))
        return
    if conclusion.state == states.REJECTED or conclusion.reason.startswith("rejected"):
        if signals.task_rejected.receivers:
            guard(signals.task_rejected.send, entry.task, message=job.delivery.message, exc=exc)
        logger.warning("Task %s[%s] rejected: %s", *name, _text(exc), extra=fields_of(job))
        return
    if entry.on_failure is not None:
        guard(entry.on_failure, exc, call.id, call.args, call.kwargs, info)
    if signals.task_failure.receivers:
        guard(
            signals.task_failure.send, entry.task, task_id=call.id, exception=exc, args=call.args,
            kwargs=call.kwargs, traceback=exc.__traceback__ if exc else None, einfo=info,
        )  # fmt: skip
    if exc is not None and entry.throws and isinstance(exc, entry.throws):
        logger.info("Task %s[%s] raised expected: %s", *name, _text(exc), extra=fields_of(job))
    else:
        extra = {**fields_of(job), "traceback": outcome.traceback}
        logger.error("Task %s[%s] raised unexpected: %s", *name, _text(exc), extra=extra)


def guard(handler: Callable[..., Any], /, *args: Any, **named: Any) -> None:
    """Run a task's own handler; what it raises ends nothing, not even SystemExit."""
    try:
        handler(*args, **named)
    except BaseException:
        logger.exception("The handler %s of a task raised.", getattr(handler, "__qualname__", handler))


def _text(exc: BaseException | None) -> str:
    return protocol.saferepr(exc, 1000) if not isinstance(exc, CeleriacError) else str(exc)


def fields_of(job: Job) -> dict[str, Any]:
    return {"task_id": job.call.id, "task_name": job.call.name, "queue": job.delivery.queue}
