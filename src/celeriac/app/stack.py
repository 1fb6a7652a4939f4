"""Which calls are running in this context.

1. `push`, `pop`: a call becomes current for a while (in-process calls; a worker sets `_state.running`
   itself).
2. `request_of`: the call of a task; `current_parent`: the call that makes the calls made here.

Contexts are those of `contextvars`: threads and coroutines do not see each other's calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from celeriac import _state
from celeriac.execution.call import Context

__all__ = ["Running", "current_parent", "pop", "push", "request_of"]

#: (task, request) of a call that is running.
Running = tuple[Any, Any]

#: What was running before each `push` of this context, innermost first: (running, the rest).
_outer: ContextVar[tuple[Any, Any] | None] = ContextVar("celeriac_outer", default=None)


def push(task: Any, request: Context) -> None:
    """Make `request` the current call, until `pop`."""
    _outer.set((_state.running.get(), _outer.get()))
    _state.running.set((task, request))


def pop() -> None:
    """Go back to the call that was current before."""
    outer = _outer.get()
    if outer is not None:
        _state.running.set(outer[0])
        _outer.set(outer[1])


def _all() -> Iterator[Running]:
    pair, outer = _state.running.get(), _outer.get()
    while True:
        if pair is not None:
            yield pair
        if outer is None:
            return
        pair, outer = outer


def request_of(task: Any) -> Context:
    """The innermost call of `task` in this context; an empty one outside of any."""
    pair = _state.running.get()
    if pair is None:
        return Context()
    if pair[0] is task:
        return pair[1]  # type: ignore[no-any-return]
    return next((request for other, request in _all() if other.name == task.name), Context())


def current_parent() -> Running | None:
    """What a worker is running in this context; in-process calls inside of it do not count."""
    if _state.running.get() is None:
        return None
    return next((pair for pair in _all() if not pair[1].called_directly), None)
