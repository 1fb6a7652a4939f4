"""What becomes of calls, step by step: every state of one call or of many, as it is stored.

1. `Update`: one state of one call.
2. `Stream`: updates, for ``for`` and for ``async for``.

Not here: being told of documents (`waiting.py`, `hub.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, NamedTuple

from celeriac import states
from celeriac.execution.progress import Progress
from celeriac.result.base import exception_of, read_document
from celeriac.result.hub import arrivals_async
from celeriac.result.waiting import arrivals
from celeriac.wire.results import ResultMeta

if TYPE_CHECKING:
    from celeriac.backends.base import ResultBackend
    from celeriac.result.state import CallState

__all__ = ["Stream", "Update"]


class Update(NamedTuple):
    """A state of one call.

    Attributes:
        id: the task's id.
        state: one of `celeriac.states`, ``PROGRESS``, or one of the task's own.
        result: what was stored with it: the value, the exception, or what a custom state carries.
        progress: how far the task is, when the state says so.
    """

    id: str
    state: str
    result: Any = None
    progress: Progress | None = None

    @property
    def ready(self) -> bool:
        """True when it is the end of the call."""
        return self.state in states.READY_STATES

    @classmethod
    def of(cls, task_id: str, meta: ResultMeta) -> Update:
        return cls(task_id, meta.status, meta.result, Progress.of(meta))


class Stream:
    """Updates of calls, until all have ended. Each iteration begins anew, with what is stored then.

    Args:
        leaves: single results.
        before: ids of what comes before them: a failure there is raised, since nothing will come then.
        timeout: seconds for all of it; None waits for ever.
        on_interval: called about twice a second while nothing comes (``for`` only); what it raises ends it.
    """

    def __init__(
        self,
        leaves: Sequence[CallState],
        before: Sequence[str] = (),
        timeout: float | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> None:
        self._leaves = leaves
        self._before = frozenset(before)
        self._timeout = timeout
        self._on_interval = on_interval

    def __iter__(self) -> Iterator[Update]:
        left = self._left()
        yield from self._known()
        if not left:
            return
        ids = [*left, *self._before]
        waiting = arrivals(self._store(), ids, self._timeout, on_interval=self._on_interval)
        with closing(waiting) as batches:
            for documents in batches:
                yield from self._read(left, documents)
                if not left:
                    return

    async def __aiter__(self) -> AsyncIterator[Update]:
        left = self._left()
        for update in self._known():
            yield update
        if not left:
            return
        found = arrivals_async(self._store(), [*left, *self._before], self._timeout)
        async with aclosing(found) as documents:
            async for task_id, document in documents:
                for update in self._read(left, {task_id: document}):
                    yield update
                if not left:
                    return

    def _left(self) -> dict[str, list[CallState]]:
        """Those whose end is not known, by id."""
        left: dict[str, list[CallState]] = {}
        for leaf in self._leaves:
            for task_id in leaf._leaf_ids():
                left.setdefault(task_id, []).append(leaf)
        return left

    def _known(self) -> list[Update]:
        return [Update.of(leaf.id, leaf._cache) for leaf in self._leaves if leaf._cache is not None]

    def _store(self) -> ResultBackend:
        return next(leaf for leaf in self._leaves if leaf._leaf_ids())._store()

    def _read(self, left: dict[str, list[CallState]], documents: Mapping[str, bytes]) -> list[Update]:
        """What documents say; results that have ended know it from now on, and are no longer `left`."""
        serializer = self._leaves[0].app.conf.result_serializer
        found = []
        for task_id, document in documents.items():
            meta = read_document(document, serializer)
            if task_id not in left:
                if task_id in self._before and meta.status in states.PROPAGATE_STATES:
                    raise exception_of(meta)
                continue
            if meta.status in states.READY_STATES:
                for leaf in left.pop(task_id):
                    leaf._cache = meta
            found.append(Update.of(task_id, meta))
        return found
