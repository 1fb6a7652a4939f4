"""A delivery that is to run, and what the worker knows of its task.

1. `Entry`: a task's function, policy, limits and handlers, looked up once (`entry_of`).
2. `Job`: a delivery, decoded, with its entry and its request; `Stranger`: one whose task is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from celeriac.brokers.base import Delivery
from celeriac.execution.call import Context
from celeriac.execution.conclude import Policy
from celeriac.execution.run import entry_point, is_coroutine_task, overrides
from celeriac.wire.protocol import Call

__all__ = ["Entry", "Job", "Stranger", "entry_of"]

Handler = Callable[..., Any] | None


class Entry(NamedTuple):
    """What the worker needs of a task, looked up once."""

    task: Any
    function: Callable[..., Any]
    is_coroutine: bool
    name: bytes
    policy: Policy
    early: bool
    hard: float | None
    soft: float | None
    track_started: bool
    throws: tuple[type[BaseException], ...]
    before_start: Handler
    on_success: Handler
    on_failure: Handler
    on_retry: Handler
    after_return: Handler


def entry_of(task: Any, *, stores: bool, hard: float | None, soft: float | None) -> Entry:
    """Look everything up.

    Args:
        stores: whether there is a result store.
        hard, soft: the node's default limits, seconds.
    """
    both = task.acks_on_failure_or_timeout
    throws = task.throws or ()
    return Entry(
        task,
        entry_point(task),
        is_coroutine_task(task),
        task.name.encode()[:127],
        Policy(
            bool(task.ignore_result) or not stores,
            bool(task.store_errors_even_if_ignored) and stores,
            bool(_first(task.acks_on_failure, both)),
            bool(_first(task.acks_on_timeout, both)),
        ),
        not task.acks_late,
        _first(task.time_limit, hard),
        _first(task.soft_time_limit, soft),
        bool(task.track_started),
        throws if isinstance(throws, tuple) else (throws,),
        overrides(task, "before_start"),
        overrides(task, "on_success"),
        overrides(task, "on_failure"),
        overrides(task, "on_retry"),
        overrides(task, "after_return"),
    )


def _first(*values: Any) -> Any:
    """The first that is not None."""
    return next((value for value in values if value is not None), None)


class Job:
    """A delivery that is to run."""

    __slots__ = ("call", "context", "delivery", "early", "entry", "hard", "soft", "task")

    def __init__(self, delivery: Delivery, call: Call, entry: Entry, context: Context) -> None:
        self.delivery = delivery
        self.call = call
        self.entry = entry
        self.task = entry.task
        self.context = context
        self.hard = call.hard or entry.hard
        self.soft = call.soft or entry.soft
        self.early = entry.early


class Stranger(NamedTuple):
    """A delivery that will not run, as nobody knows its task."""

    delivery: Delivery
    call: Call
    context: Context
