"""`EagerResult`: the result of a call that was run here and now."""

from __future__ import annotations

from typing import Any, TypeVar

from celeriac import states
from celeriac.result.members import value_of
from celeriac.result.one import AsyncResult
from celeriac.result.waiting import refuse_inside_task
from celeriac.wire.results import ResultMeta

__all__ = ["EagerResult"]

R_co = TypeVar("R_co", covariant=True)


class EagerResult(AsyncResult[R_co]):
    """The result of a call that was run here and now; nothing is stored and nothing waits.

    Example:
        >>> EagerResult("some-id", 4, "SUCCESS").get()
        4
    """

    def __init__(
        self, id: str, ret_value: Any, state: str, traceback: str | None = None, name: str | None = None
    ) -> None:
        self.id = id
        self.app: Any = None
        self._task_name = name
        self._cache = ResultMeta(state, ret_value, traceback, task_id=id)

    def get(  # type: ignore[override]
        self,
        timeout: float | None = None,
        propagate: bool = True,
        disable_sync_subtasks: bool = True,
        **kwargs: Any,
    ) -> R_co:
        """Return the value, or raise what the task raised, or a task before it in its chain (unless
        `follow_parents` is among `kwargs` and false); None when it did not come to an end."""
        if disable_sync_subtasks:
            refuse_inside_task()
        follows = propagate and kwargs.get("follow_parents", True)
        parents: list[Any] = [self.parent] if follows and self.parent is not None else []
        while parents and parents[-1].parent is not None:
            parents.append(parents[-1].parent)
        for parent in reversed(parents):
            parent.maybe_throw()
        self.maybe_throw(propagate=propagate)
        return value_of(self)  # type: ignore[no-any-return]

    wait = get  # type: ignore[assignment]

    @property
    def supports_native_join(self) -> bool:
        """There is nothing to wait for."""
        return False

    def ready(self) -> bool:
        return True

    def exists(self) -> bool:
        return True

    def forget(self) -> None:
        """Nothing is stored."""

    def watch(self, timeout: float | None = None, **kwargs: Any) -> R_co:
        """There is nothing to watch: return the value."""
        return self.get()

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """It has run already; from now on its state is REVOKED, as in Celery."""
        assert self._cache is not None
        self._cache = self._cache._replace(status=states.REVOKED)

    def throw(self, *args: Any, **kwargs: Any) -> Any:
        """Raise what the task raised."""
        exc = self.result
        raise exc if isinstance(exc, BaseException) else Exception(exc)

    def __reduce__(self) -> tuple[Any, ...]:
        meta = self._meta()
        return EagerResult, (self.id, meta.result, meta.status, meta.traceback, self._task_name)

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"
