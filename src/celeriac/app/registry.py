"""The tasks an application knows, by name.

1. `TaskRegistry`: a dictionary whose missing keys are `NotRegistered`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, NoReturn

from celeriac.exceptions import InvalidTaskError, NotRegistered

__all__ = ["TaskRegistry"]


class TaskRegistry(dict[str, Any]):
    """Tasks by name.

    Example:
        >>> TaskRegistry()["proj.add"]
        Traceback (most recent call last):
            ...
        celeriac.exceptions.NotRegistered: 'proj.add'
    """

    NotRegistered = NotRegistered

    def __missing__(self, name: str) -> NoReturn:
        raise NotRegistered(name)

    def register(self, task: Any) -> None:
        """Add `task` (an instance, or a class that is instantiated) under its own name."""
        if inspect.isclass(task):
            task = task()
        if not task.name:
            raise InvalidTaskError(
                f"The task class {type(task).__name__!r} has no name: set its attribute `name`, or let "
                "app.register_task give it one."
            )
        self[task.name] = task

    def unregister(self, name: Any) -> None:
        """Remove a task, given by name or itself; `NotRegistered` when it is not there."""
        try:
            self.pop(getattr(name, "name", name))
        except KeyError:
            raise NotRegistered(name) from None

    def nearest(self, name: str) -> str | None:
        """The registered name most like `name`, for error messages."""
        close = difflib.get_close_matches(name, self, n=1)
        return close[0] if close else None

    def regular(self) -> Mapping[str, Any]:
        return self.filter_types("regular")

    def periodic(self) -> Mapping[str, Any]:
        return self.filter_types("periodic")

    def filter_types(self, type: str) -> Mapping[str, Any]:
        """Tasks whose attribute `type` is `type`; tasks without one are `regular`."""
        return {name: task for name, task in self.items() if getattr(task, "type", "regular") == type}
