"""`apply`: a call that is run here and now, as a worker would run it.

1. `apply`: request, `before_start`, body, retries, handlers, signals, links; no message, no worker.
2. `follow_failure`: the errbacks of a call that failed.
3. `round_trip`: the arguments as a worker would get them (for `task_always_eager`).

Not here: running a body (`execution/run.py`), chains and chords (`here.py`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from celeriac import _state, signals, states
from celeriac.app.followups import takes_failure
from celeriac.app.ids import new_id
from celeriac.app.stack import current_parent
from celeriac.canvas import group, maybe_signature
from celeriac.exceptions import Retry
from celeriac.execution.call import Context
from celeriac.execution.outcome import (
    FAILED,
    IGNORED,
    REJECTED,
    RETRIED,
    SUCCEEDED,
    Outcome,
    Replaced,
    error_info,
)
from celeriac.execution.run import entry_point, invoke, overrides
from celeriac.result import EagerResult
from celeriac.wire import serialization

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.app.task import Task

__all__ = ["apply", "follow_failure", "round_trip"]

logger = logging.getLogger(__name__)

_STATES = {
    SUCCEEDED: states.SUCCESS,
    FAILED: states.FAILURE,
    RETRIED: states.RETRY,
    IGNORED: states.IGNORED,
    REJECTED: states.REJECTED,
}


def apply(
    task: Task[..., Any],
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    task_id: str | None,
    retries: int,
    throw: bool | None,
    options: Mapping[str, Any],
) -> EagerResult[Any]:
    """Run one call of `task`; see `Task.apply`."""
    app = task.app
    app.finalize(auto=True)
    if throw is None:
        throw = app.conf.task_eager_propagates
    task_id = task_id or new_id()
    context = _context(task, args, kwargs, task_id, retries, options)
    outcome = _run(task, context)
    if outcome.fatal and outcome.exc is not None:
        raise outcome.exc  # SystemExit and KeyboardInterrupt mean this process
    state = _STATES[outcome.kind]
    if isinstance(outcome.exc, Replaced):
        if outcome.exc.result is not None:
            return outcome.exc.result  # type: ignore[no-any-return]
        if outcome.exc.sig is not None:
            outcome.exc.sig.delay()
    if outcome.kind == SUCCEEDED:
        _follow(task, context, outcome.value, throw)
    _tell(task, context, outcome, state)
    if isinstance(outcome.exc, Retry) and outcome.exc.sig is not None:
        return outcome.exc.sig.apply(throw=throw)  # type: ignore[no-any-return]
    if outcome.kind == FAILED:
        follow_failure(app, context, outcome)
        if throw and outcome.exc is not None:
            raise outcome.exc
    value = outcome.value if outcome.kind == SUCCEEDED else outcome.exc
    if task.store_eager_result and not context.ignore_result:
        app.store_state(task, task_id, state, value, context, traceback=outcome.traceback)
    return EagerResult(task_id, value, state, traceback=outcome.traceback, name=task.name)


def round_trip(
    task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None, serializer: str | None
) -> tuple[Any, Any]:
    """`args` and `kwargs` after a journey through the serializer, so that tests see what a worker would."""
    content_type, encoding, body = serialization.dumps(
        (args, dict(kwargs or {})), serializer or task.serializer
    )
    arrived = serialization.loads(body, content_type, encoding, frozenset({content_type}))
    return arrived[0], arrived[1]


def _context(
    task: Task[..., Any],
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    task_id: str,
    retries: int,
    options: Mapping[str, Any],
) -> Context:
    get = options.get
    parent = current_parent()
    request = parent[1] if parent is not None else None
    ignored = get("ignore_result")
    return Context(
        id=task_id,
        task=task.name,
        args=tuple(args or ()),
        kwargs=dict(kwargs or {}),
        retries=retries,
        is_eager=True,
        called_directly=False,
        hostname=socket.gethostname(),
        logfile=get("logfile"),
        loglevel=get("loglevel") or 0,
        callbacks=_listed(get("link")),
        errbacks=_listed(get("link_error")),
        chain=get("chain"),
        chord=get("chord"),
        group=get("group_id"),
        group_index=get("group_index"),
        root_id=get("root_id") or (request.root_id or request.id if request is not None else task_id),
        parent_id=get("parent_id") or (request.id if request is not None else None),
        headers=get("headers"),
        shadow=get("shadow"),
        eta=get("eta"),
        expires=get("expires"),
        timelimit=(get("time_limit"), get("soft_time_limit")),
        ignore_result=task.ignore_result if ignored is None else ignored,
        replaced_task_nesting=get("replaced_task_nesting", 0),
        stamped_headers=get("stamped_headers"),
        stamps=get("stamps") or {name: get(name) for name in get("stamped_headers") or ()},
        correlation_id=task_id,
        reply_to=get("reply_to"),
        delivery_info={
            "is_eager": True,
            "exchange": get("exchange"),
            "routing_key": get("routing_key"),
            "priority": get("priority"),
        },
    )


def _listed(value: Any) -> list[Any] | None:
    if value is None:
        return None
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _run(task: Task[..., Any], context: Context) -> Outcome:
    token = _state.running.set((task, context))
    try:
        return invoke(task, entry_point(task), overrides(task, "before_start"), context, _complete)
    finally:
        _state.running.reset(token)


def _complete(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The value of a coroutine; in a thread of its own when this one is busy with a loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    import contextvars

    outcome: list[Any] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.append((context.run(asyncio.run, coroutine), None))
        except BaseException as exc:  # carried over to the thread that waits
            outcome.append((None, exc))

    thread = threading.Thread(target=run, name="celeriac-eager")
    thread.start()
    thread.join()
    value, exc = outcome[0]
    if exc is not None:
        raise exc
    return value


def _follow(task: Task[..., Any], context: Context, value: Any, throw: bool) -> None:
    """Links and the rest of the chain, with the result."""
    app = task.app
    common = {"parent_id": context.id, "root_id": context.root_id, "throw": throw}
    for link in context.callbacks or ():
        maybe_signature(link, app).apply((value,), **common)
    if context.chain:
        *rest, step = context.chain
        maybe_signature(step, app).apply((value,), chain=rest, **common)


def follow_failure(app: Celeriac, context: Context, outcome: Outcome) -> None:
    """Errbacks of a call that failed; of groups among them each member is one."""
    waiting = [maybe_signature(link, app) for link in context.errbacks or ()]
    while waiting:
        errback = waiting.pop(0)
        if isinstance(errback, group):
            waiting[:0] = [maybe_signature(task, app) for task in errback.tasks]
        elif takes_failure(app, errback):
            errback(context, outcome.exc, outcome.traceback)
        else:
            errback.apply((context.id,), parent_id=context.id, root_id=context.root_id)


def _tell(task: Task[..., Any], context: Context, outcome: Outcome, state: str) -> None:
    """Handlers and signals."""
    call = (context.id, context.args, context.kwargs)
    exc = outcome.exc
    info = error_info(outcome)
    value = outcome.value if exc is None else exc
    if outcome.kind == SUCCEEDED:
        _guard(task.on_success, value, *call)
        signals.task_success.send(sender=task, result=value)
    elif outcome.kind == RETRIED:
        _guard(task.on_retry, getattr(exc, "exc", None) or exc, *call, info)
        signals.task_retry.send(sender=task, request=context, reason=exc, einfo=info)
    elif outcome.kind == FAILED:
        _guard(task.on_failure, exc, *call, info)
        signals.task_failure.send(
            sender=task,
            task_id=context.id,
            exception=exc,
            args=context.args,
            kwargs=context.kwargs,
            traceback=exc.__traceback__ if exc is not None else None,
            einfo=info,
        )
    _guard(task.after_return, state, value, *call, info)
    signals.task_postrun.send(
        sender=task,
        task_id=context.id,
        task=task,
        args=context.args,
        kwargs=context.kwargs,
        retval=value,
        state=state,
    )


def _guard(handler: Callable[..., Any], *args: Any) -> None:
    """Run a handler as a worker does: what it raises is logged and ends nothing."""
    try:
        handler(*args)
    except Exception:
        logger.exception("The handler %s of a task raised.", getattr(handler, "__qualname__", handler))
