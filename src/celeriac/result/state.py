"""`CallState`: what is stored of one call, and of the calls it made, read when it is asked for.

Final states are read once; everything else is looked up each time.

Not here: waiting for it (`one.py`), walking through its descendants (`family.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celeriac import states
from celeriac.execution.progress import Progress
from celeriac.result import family
from celeriac.result.base import ResultBase, exception_of, read_document, result_from_tuple
from celeriac.wire.results import ResultMeta

if TYPE_CHECKING:
    from celeriac.backends.base import ResultBackend

__all__ = ["CallState"]

_PENDING = ResultMeta(states.PENDING)


class CallState(ResultBase):
    """What is stored of the call with the id `id`."""

    id: str = None  # type: ignore[assignment]
    app: Any = None

    #: Set by whoever publishes a call whose result nobody stores.
    ignored: bool = False

    _cache: ResultMeta | None = None
    _children: list[Any] | None = None
    _backend: ResultBackend | None = None
    _task_name: str | None = None

    @property
    def backend(self) -> ResultBackend:
        """Its result store."""
        return self._backend or self.app.backend

    @backend.setter
    def backend(self, backend: ResultBackend) -> None:
        self._backend = backend

    @property
    def task_id(self) -> str:
        """The id."""
        return self.id

    @task_id.setter
    def task_id(self, task_id: str) -> None:
        self.id = task_id

    def _store(self) -> ResultBackend:
        backend = self.backend
        if not backend.capabilities.stores:
            raise NotImplementedError(
                "No result backend is configured, so nobody knows what became of a task. Set "
                "`result_backend`, for example to 'redis://' or 'sqlite://'."
            )
        return backend

    def _meta(self) -> ResultMeta:
        if self._cache is None:
            document = self._store().load([self.id]).get(self.id)
            if document is None:
                return _PENDING
            meta = read_document(document, self.app.conf.result_serializer)
            if meta.status not in states.READY_STATES:
                return meta
            self._cache = meta
        return self._cache

    def _leaf_ids(self) -> list[str]:
        """Ids whose documents must still be waited for."""
        return [] if self._cache is not None or self.ignored else [self.id]

    @property
    def _state(self) -> str:
        return self._meta().status

    @property
    def state(self) -> str:
        """One of `celeriac.states`, or one of the task's own. Unknown ids are ``PENDING``, too."""
        return self._state

    @property
    def status(self) -> str:
        """As `state`."""
        return self._state

    @property
    def result(self) -> Any:
        """The value when it succeeded, the exception when it failed, what was stored with any other state."""
        return self._meta().result

    @property
    def info(self) -> Any:
        """As `result`."""
        return self._meta().result

    @property
    def progress(self) -> Progress | None:
        """How far the task is, when it has said so (`Task.progress`) and is not done."""
        return Progress.of(self._meta())

    def ready(self) -> bool:
        """True when it has succeeded, failed or been revoked."""
        return self._state in states.READY_STATES

    def successful(self) -> bool:
        """True when it has succeeded."""
        return self._state == states.SUCCESS

    def failed(self) -> bool:
        """True when it has failed."""
        return self._state == states.FAILURE

    def exists(self) -> bool:
        """True when anything is stored for the id; `state` says PENDING of ids that never were, too."""
        return self._cache is not None or bool(self._store().load([self.id]))

    @property
    def traceback(self) -> str | None:
        """The traceback of a failure, as text."""
        return self._meta().traceback

    @property
    def date_done(self) -> datetime | None:
        """When it ended (UTC)."""
        text = self._meta().date_done
        if text is None:
            return None
        done = datetime.fromisoformat(text)
        return done if done.tzinfo is not None else done.replace(tzinfo=UTC)

    @property
    def children(self) -> list[Any] | None:
        """Results of the calls the task made."""
        if self._children is not None:
            return self._children
        meta = self._meta()
        children = (
            None if meta.children is None else [result_from_tuple(item, self.app) for item in meta.children]
        )
        if self._cache is not None:
            self._children = children
        return children

    @property
    def name(self) -> str | None:
        """Name of the task (from the store only with `result_extended`)."""
        return self._task_name or self._meta().name

    @property
    def args(self) -> Any:
        """Arguments of the call, with `result_extended`."""
        return self._meta().args

    @property
    def kwargs(self) -> Any:
        """Keyword arguments of the call, with `result_extended`."""
        return self._meta().kwargs

    @property
    def worker(self) -> str | None:
        """The worker that ran it, with `result_extended`."""
        return self._meta().worker

    @property
    def retries(self) -> int | None:
        """How often it was retried, with `result_extended`."""
        return self._meta().retries

    @property
    def queue(self) -> str | None:
        """The queue it came from, with `result_extended`."""
        return self._meta().queue

    @property
    def supports_native_join(self) -> bool:
        """Groups of results are always waited for at once."""
        return True

    def throw(self, *args: Any, **kwargs: Any) -> Any:
        """Raise its exception, with the worker's traceback as a note. (Celery's arguments are not used.)"""
        raise exception_of(self._meta())

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], Any] | None = None) -> Any:
        """Raise its exception if it has failed, otherwise return the result."""
        if self.ignored:
            return None
        meta = self._meta()
        if propagate and meta.status in states.PROPAGATE_STATES:
            self.throw()
        if callback is not None:
            callback(self.id, meta.result)
        return meta.result

    maybe_reraise = maybe_throw

    # -- its family ------------------------------------------------------------------------------------------

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield (parent, result) for it and all its descendants.

        Args:
            intermediate: do not stop at results that are not there yet.

        Raises:
            IncompleteStream: one is not there yet.
        """
        return family.iterdeps(self, intermediate=intermediate)

    def collect(self, intermediate: bool = False, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
        """Yield (result, value) for it and all its descendants, waiting for each; `kwargs` are `get`'s."""
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**kwargs)

    def get_leaf(self) -> Any:
        """The value of its last descendant."""
        value = None
        for _, node in self.iterdeps():
            value = node.get()
        return value

    def build_graph(self, intermediate: bool = False, formatter: Callable[[Any], str] | None = None) -> Any:
        """The `celeriac.utils.graph.DependencyGraph` of it and its descendants.

        Args:
            intermediate: do not stop at results that are not there yet.
            formatter: returns the label of a result.

        Raises:
            IncompleteStream: one is not there yet.
        """
        return family.graph_of(self, intermediate=intermediate, formatter=formatter)

    @property
    def graph(self) -> Any:
        """`build_graph()`."""
        return self.build_graph()
