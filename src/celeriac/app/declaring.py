"""How a function becomes a task.

1. `task_from_function`: one function, its options, an app → a `Task`.
2. `SharedTask`: a task declared without an app; it stands for its copy in whichever app is current.
3. `Decorator`, `BoundDecorator`: what `@app.task(…)` is, for type checkers.
4. `gen_task_name`: a task's name from its function and module.

Not here: when a task is bound and registered (`base.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from functools import update_wrapper
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from celeriac import _state
from celeriac.app.task import AsyncTask, Task
from celeriac.local import Proxy

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = [
    "BoundDecorator",
    "Decorator",
    "SharedTask",
    "gen_task_name",
    "name_of",
    "only_function",
    "shared_task",
    "task_from_function",
]

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """`@app.task(…)`: the task has the function's own parameters and result."""

    @overload
    def __call__(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...

    @overload
    def __call__(self, fun: Callable[P, R], /) -> Task[P, R]: ...


class BoundDecorator(Protocol):
    """`@app.task(bind=True, …)`: the function's first parameter is the task itself."""

    @overload
    def __call__(self, fun: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...

    @overload
    def __call__(self, fun: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...


def task_from_function(app: Celeriac, fun: Callable[..., Any], options: dict[str, Any]) -> Task[..., Any]:
    """A new task of `app` whose body is `fun`. It is neither bound nor registered yet.

    Args:
        options: those of `@app.task`: `name`, `base`, `bind`, `pydantic…`, and attributes of the task.
    """
    rest = dict(options)
    base = rest.pop("base", None) or app.Task
    task: Task[..., Any] = base()
    bind = rest.pop("bind", False)
    name = rest.pop("name", None) or app.gen_task_name(name_of(fun), fun.__module__)
    update_wrapper(task, fun)
    task._app = app
    task.name = name
    task._function = fun
    task._takes_self = bind
    body: Callable[..., Any] = fun
    if rest.pop("pydantic", False):
        from celeriac.app.pydantic import Codec

        task._codec = Codec(
            fun,
            name,
            strict=rest.pop("pydantic_strict", False),
            context=rest.pop("pydantic_context", None),
            dump_kwargs=rest.pop("pydantic_dump_kwargs", None),
            bound=bind,
        )
        body = task._codec.body
    task.run = MethodType(body, task) if bind else body  # type: ignore[method-assign]
    for attribute, value in rest.items():
        setattr(task, attribute, value)
    return task


def name_of(fun: Callable[..., Any]) -> str:
    """The name of a function, or of the class of a callable object."""
    return getattr(fun, "__name__", None) or type(fun).__name__


def gen_task_name(app: Celeriac, name: str, module: str | None) -> str:
    """``module.name``; for a module that was run as a script the app's name stands for the module."""
    module = module or "__main__"
    if module == "__main__" and app.main:
        return f"{app.main}.{name}"
    found = sys.modules.get(module)
    return f"{found.__name__ if found is not None else module}.{name}"


class SharedTask(Proxy):
    """What `@shared_task` returns: stands for its task in the current app."""

    __slots__ = ("_fun", "_known", "_name")

    def __init__(self, fun: Callable[..., Any], name: str | None) -> None:
        super().__init__(self._find)
        object.__setattr__(self, "_fun", fun)
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_known", (None, None))

    @property
    def __declared__(self) -> SharedTask:
        """Signals compare senders by this: all apps' copies of one declaration are one sender."""
        return self

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        fun: Callable[..., Any] = object.__getattribute__(self, "_fun")
        return fun

    def _find(self) -> Any:
        app = _state.get_current_app()
        known_app, task = object.__getattribute__(self, "_known")
        if known_app is not app:
            name = self._name or app.gen_task_name(name_of(self._fun), self._fun.__module__)
            task = app.tasks[name]
            object.__setattr__(self, "_known", (app, task))
        return task

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        return self._find().delay(*args, **kwargs)

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        return self._find().apply_async(*args, **kwargs)


@overload
def shared_task(fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...


@overload
def shared_task(fun: Callable[P, R], /) -> Task[P, R]: ...


@overload
def shared_task(*, bind: Any, **options: Any) -> BoundDecorator: ...


@overload
def shared_task(**options: Any) -> Decorator: ...


def shared_task(*args: Any, **options: Any) -> Any:
    """Declare a task that belongs to every app; calls go through the current one.

    For libraries and Django apps, which do not know the project's app. Options are those of `app.task`.

    Example:
        >>> from celeriac import shared_task
        >>> @shared_task(name="example.double")
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> double(4)
        8
    """

    def declare(fun: Callable[..., Any]) -> Any:
        shared = SharedTask(fun, options.get("name"))
        _state.connect_on_app_finalize(lambda app: app.adopt(fun, options, shared))
        return shared

    if not args:
        return declare
    return declare(only_function(args, "shared_task"))


def only_function(args: tuple[Any, ...], decorator: str) -> Callable[..., Any]:
    """The one function a decorator was given; `TypeError` says what it was given instead."""
    if len(args) != 1:
        raise TypeError(f"@{decorator} takes one function, not {len(args)} arguments")
    if not callable(args[0]):
        raise TypeError(
            f"@{decorator} takes a function, not {args[0]!r}; options are given by keyword: "
            f"@{decorator}(name={args[0]!r})"
        )
    return args[0]  # type: ignore[no-any-return]
