"""Leaf: which app and which task are current. Imports nothing of ours.

1. The current app (a process-wide default, and a context-local override).
2. The stack of running tasks: (task, request) pairs, context-local, so threads and coroutines do not mix.
3. All apps and the callbacks of `shared_task`, which run for every app when it is finalised.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

#: The running task and its request, innermost; None outside tasks. Lanes set it and reset it by token.
running: ContextVar[tuple[Any, Any] | None] = ContextVar("celeriac_running", default=None)

_default_app: Celeriac | None = None
_current_app: ContextVar[Celeriac | None] = ContextVar("celeriac_current_app", default=None)
_apps: weakref.WeakSet[Celeriac] = weakref.WeakSet()
_on_finalize: list[Callable[[Celeriac], Any]] = []


def register_app(app: Celeriac) -> None:
    _apps.add(app)


def deregister_app(app: Celeriac) -> None:
    _apps.discard(app)


def all_apps() -> list[Celeriac]:
    return list(_apps)


def set_default_app(app: Celeriac) -> None:
    global _default_app
    _default_app = app


def set_current_app(app: Celeriac) -> None:
    """Make `app` current in this context, and everywhere when nothing else is yet."""
    global _default_app
    _current_app.set(app)
    if _default_app is None:
        _default_app = app


def get_current_app() -> Celeriac:
    """The current app; one with the embedded defaults is made when there is none."""
    app = _current_app.get() or _default_app
    if app is None:
        from celeriac.app.base import Celeriac

        app = Celeriac("default", set_as_current=False)
        set_default_app(app)
    return app


def connect_on_app_finalize(callback: Callable[[Celeriac], Any]) -> Callable[[Celeriac], Any]:
    """Run `callback(app)` for every app when it is finalised (and now for those that are)."""
    _on_finalize.append(callback)
    for app in all_apps():
        if app.finalized:
            callback(app)
    return callback


def announce_app_finalized(app: Celeriac) -> None:
    for callback in _on_finalize:
        callback(app)


def get_current_task() -> Any:
    """The task that is running in this context, or None."""
    pair = running.get()
    return pair[0] if pair else None
