"""`autoretry_for`: certain exceptions of a body become retries by themselves.

1. `add_autoretry_behaviour`: wraps a task's `run` by its `autoretry_for`, `dont_autoretry_for`,
   `retry_kwargs`, `retry_backoff`, `retry_backoff_max` and `retry_jitter`.

Not here: how long a wait grows (`execution/retry.py`), what a retry is (`task.py`).
"""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

from celeriac.exceptions import Ignore, Reject, Retry
from celeriac.execution.retry import retry_countdown

if TYPE_CHECKING:
    from celeriac.app.task import Task

__all__ = ["add_autoretry_behaviour"]


def add_autoretry_behaviour(task: Task[..., Any], **options: Any) -> None:
    """Wrap `task.run` if the task (or `options`, which outrank it) has `autoretry_for`; once."""
    if "_orig_run" in task.__dict__:
        return
    rules = _Rules(task, options)
    if not rules.retried:
        return
    original = task.run
    task._orig_run = original

    if inspect.iscoroutinefunction(original):

        @wraps(original)
        async def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return await original(*args, **kwargs)
            except (Ignore, Reject, Retry):
                raise
            except rules.retried as exc:
                rules.try_again(exc)

    else:

        @wraps(original)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return original(*args, **kwargs)
            except (Ignore, Reject, Retry):
                raise
            except rules.retried as exc:
                rules.try_again(exc)

    task.run = run  # type: ignore[method-assign]


class _Rules:
    """The retry options of one task."""

    def __init__(self, task: Task[..., Any], options: dict[str, Any]) -> None:
        def option(name: str, default: Any) -> Any:
            return options.get(name, getattr(task, name, default))

        self.task = task
        self.retried = _classes(option("autoretry_for", ()))
        self.excluded = _classes(option("dont_autoretry_for", ()))
        self.kwargs: dict[str, Any] = dict(option("retry_kwargs", None) or {})
        self.backoff: float | bool = option("retry_backoff", False)
        self.maximum: float = option("retry_backoff_max", 600)
        self.jitter: bool = option("retry_jitter", True)

    def try_again(self, exc: BaseException) -> NoReturn:
        """Raise `Retry`, or `exc` itself when it is not to be tried again."""
        request = self.task.request
        if isinstance(exc, self.excluded) or request.get("retries_exhausted"):
            raise exc
        kwargs = dict(self.kwargs)
        if self.backoff:
            kwargs["countdown"] = retry_countdown(
                request.retries, backoff=self.backoff, maximum=self.maximum, jitter=self.jitter
            )
        raise self.task.retry(exc=exc, **kwargs)


def _classes(given: Any) -> tuple[type[BaseException], ...]:
    return (given,) if isinstance(given, type) else tuple(given or ())
