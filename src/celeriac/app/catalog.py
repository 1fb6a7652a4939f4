"""The tasks of one app, from declaration to registration.

1. `Catalog.declare`: a decorated function; it waits until the app is finalised.
2. `Catalog.adopt`: a function declared elsewhere (`shared_task`, another app, the built-in tasks).
3. `Catalog.finalize`: registers and binds everything that waits.

Not here: how a function becomes a task (`declaring.py`), what binding does (`task.py`).
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from celeriac import _state, plugins
from celeriac.app import declaring
from celeriac.app.declaring import SharedTask
from celeriac.app.registry import TaskRegistry
from celeriac.app.task import Task
from celeriac.exceptions import DuplicateTaskNameWarning

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["Catalog"]

AnyTask = Task[..., Any]

#: Options of `@app.task` that say how it is declared, not what it is.
_HOW = frozenset({"shared", "lazy", "filter"})


class Catalog:
    """The tasks of `app`; everything that changes it holds the app's lock.

    Args:
        registry: a task registry, its class, its path, or None.
        task_cls: base class of the tasks, its path, or None.
    """

    def __init__(self, app: Celeriac, registry: Any, task_cls: Any) -> None:
        self.app = app
        self.registry = _registry(registry)
        self.finalized = False
        self._given_base = task_cls
        self._base: type[AnyTask] | None = None
        self._pending: deque[AnyTask] = deque()

    @property
    def base(self) -> type[AnyTask]:
        """Base class of the tasks: a subclass that knows its app."""
        if self._base is None:
            base = self._given_base or Task
            base = plugins.load_class(base) if isinstance(base, str) else base
            self._base = type(base.__name__, (base,), {"_app": self.app, "__module__": base.__module__})
        return self._base

    @base.setter
    def base(self, base: type[AnyTask]) -> None:
        previous, self._base = self._base, base
        for task in self._pending:
            if type(task) is previous:
                task.__class__ = base

    def prefer_base(self, base: Any) -> None:
        """Make `base` (a class or its path) the base class of the tasks, unless the app was given one."""
        self._given_base = self._given_base or base

    def declare(self, fun: Callable[..., Any], options: Mapping[str, Any], *, lazy: bool) -> AnyTask:
        """The task of a decorated function; the one that has its name already, if there is one."""
        name = self._name(fun, options)
        with self.app.lock:
            known = self.registry.get(name) or next((t for t in self._pending if t.name == name), None)
            if known is not None:
                _warn_if_other(known, fun, name)
                return known
            task = self._made(fun, options)
            if lazy and not self.finalized:
                self._pending.append(task)
            else:
                self.register(task)
            return task

    def adopt(
        self, fun: Callable[..., Any], options: Mapping[str, Any], declared: SharedTask | None = None
    ) -> AnyTask:
        """Make and register a task of a function declared elsewhere; one that is there already stays."""
        with self.app.lock:
            known: AnyTask | None = self.registry.get(self._name(fun, options))
            if known is not None:
                return known
            task = self._made(fun, options)
            if declared is not None:
                task.__declared__ = declared
            self.register(task)
            return task

    def register(self, task: AnyTask) -> None:
        """Make `task` known by its name, and a task of this app."""
        with self.app.lock:
            self.registry[task.name] = task
            task.bind(self.app)

    def finalize(self, *, auto: bool) -> None:
        """Register what waits; see `Celeriac.finalize`."""
        with self.app.lock:
            if self.finalized:
                return
            if auto and not self.app.autofinalize:
                raise RuntimeError(
                    "The app has autofinalize=False: call app.finalize() before its tasks are used."
                )
            from celeriac.app.builtins import add_builtins

            self.app.conf.settle()
            self.finalized = True
            while self._pending:
                self.register(self._pending.popleft())
            add_builtins(self.app)
            _state.announce_app_finalized(self.app)
            self.app.on_after_finalize.send(sender=self.app)

    def _name(self, fun: Callable[..., Any], options: Mapping[str, Any]) -> str:
        name: str = options.get("name") or self.app.gen_task_name(declaring.name_of(fun), fun.__module__)
        return name

    def _made(self, fun: Callable[..., Any], options: Mapping[str, Any]) -> AnyTask:
        chosen = {key: value for key, value in options.items() if key not in _HOW}
        return declaring.task_from_function(self.app, fun, chosen)


def _registry(tasks: Any) -> TaskRegistry:
    if tasks is None:
        return TaskRegistry()
    if isinstance(tasks, str):
        tasks = plugins.load_class(tasks)
    if isinstance(tasks, type):
        tasks = tasks()
    return tasks if isinstance(tasks, TaskRegistry) else TaskRegistry(tasks)


def _warn_if_other(known: AnyTask, fun: Callable[..., Any], name: str) -> None:
    """Say so when two functions claim one name; the same one again (a reloaded module) is nothing to say."""
    before = getattr(known, "__wrapped__", None)
    place = (fun.__module__, getattr(fun, "__qualname__", ""))
    if (getattr(before, "__module__", None), getattr(before, "__qualname__", "")) != place:
        warnings.warn(
            f"There is a task {name!r} already, from {getattr(before, '__module__', '?')}; the function in "
            f"{fun.__module__} was ignored. Give one of them another name: @app.task(name=…).",
            DuplicateTaskNameWarning,
            stacklevel=5,
        )
