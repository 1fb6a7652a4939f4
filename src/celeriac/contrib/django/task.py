"""`DjangoTask`: a task that can be sent when the database transaction around the call is committed."""

from __future__ import annotations

from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import transaction  # type: ignore[import-untyped]

from celeriac.app.task import Task
from celeriac.result import AsyncResult
from celeriac.utils import uuid

__all__ = ["DjangoTask"]

P = ParamSpec("P")
R = TypeVar("R")


class DjangoTask(Task[P, R]):
    """The base class of tasks in a Django project.

    Outside a transaction the two methods send at once; when the transaction is rolled back, nothing is sent.
    """

    abstract = True

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """`delay`, when the current transaction is committed.

        Returns:
            The result; its id is final now, and its state stays PENDING until the task is sent and has run.
        """
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> AsyncResult[R]:
        """`apply_async`, with its arguments, when the current transaction is committed.

        Args:
            *args: as `apply_async`.
            **kwargs: as `apply_async`; `using` names the database whose transaction counts.

        Returns:
            As `delay_on_commit`.
        """
        using = kwargs.pop("using", None)
        task_id = args[2] if len(args) > 2 and args[2] else kwargs.get("task_id")
        if not task_id:
            task_id = uuid()
            args, kwargs = args[:2] + args[3:], {**kwargs, "task_id": task_id}
        transaction.on_commit(partial(self.apply_async, *args, **kwargs), using=using)
        return self.AsyncResult(task_id)
