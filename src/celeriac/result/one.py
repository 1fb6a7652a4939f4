"""`AsyncResult`: state and value of one call, by its id.

`get` waits in the caller's thread, ``await`` in its event loop; both are woken when the result is stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from celeriac import _state, exceptions, states
from celeriac.exceptions import IncompleteStream
from celeriac.result.base import ResultBase, exception_of, read_document, result_from_tuple
from celeriac.result.waiting import arrivals, hub_of, refuse_inside_task, wait_async
from celeriac.wire.results import ResultMeta

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.backends.base import ResultBackend

__all__ = ["AsyncResult"]

R_co = TypeVar("R_co", covariant=True)

_PENDING = ResultMeta(states.PENDING)

#: The id of the result that was made last: most likely of a call that was made a moment ago.
_newest: list[str | None] = [None]


class AsyncResult(ResultBase, Generic[R_co], kind="one"):
    """The result of one call.

    Args:
        id: the task's id.
        backend: its result store; the app's when None.
        task_name: name of the task.
        app: the current app when None.
        parent: result of the call before it, in a chain.

    Raises:
        ValueError: `id` is None.

    Example:
        >>> from celeriac import Celeriac
        >>> app = Celeriac("example", broker="memory://", backend="memory://", set_as_current=False)
        >>> result = AsyncResult("some-id", app=app)
        >>> result.state, result.ready()
        ('PENDING', False)
    """

    TimeoutError: ClassVar[Any] = exceptions.TimeoutError

    #: Set by whoever publishes a call whose result nobody stores.
    ignored: bool = False

    _cache: ResultMeta | None = None
    _children: list[Any] | None = None
    _backend: ResultBackend | None = None
    _task_name: str | None = None

    def __init__(
        self,
        id: str,
        backend: ResultBackend | None = None,
        task_name: str | None = None,
        app: Celeriac | None = None,
        parent: ResultBase | None = None,
    ) -> None:
        if id is None:
            raise ValueError("A result needs the id of its task, not None.")
        self.id = _newest[0] = id
        self.app: Any = _state.get_current_app() if app is None else app
        if backend is not None:
            self._backend = backend
        if task_name is not None:
            self._task_name = task_name
        if parent is not None:
            self.parent = parent

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

    # -- waiting ---------------------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        on_message: Callable[[dict[str, Any]], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
        EXCEPTION_STATES: frozenset[str] = states.EXCEPTION_STATES,
        PROPAGATE_STATES: frozenset[str] = states.PROPAGATE_STATES,
    ) -> R_co:
        """Wait for the result and return it.

        Args:
            timeout: seconds; None waits for ever.
            propagate: raise what the task raised; otherwise return the exception.
            interval: seconds between two calls of `on_interval`; in stores that cannot push (``db+…``) also
                between two looks, at most.
            no_ack: not used; kept for Celery's callers.
            follow_parents: raise what a task before it in its chain raised.
            callback: called with the id and the result.
            on_message: called with every document that arrives, as a dict; states on the way too.
            on_interval: called while nothing arrives.
            disable_sync_subtasks: refuse to wait inside a task.
            EXCEPTION_STATES: not used; kept for Celery's callers.
            PROPAGATE_STATES: states whose exception is raised.

        Raises:
            TimeoutError: it was not there in time.
            RuntimeError: this code runs in a task of a worker (see `allow_join_result`).
            NotImplementedError: the app stores no results.
        """
        if self.ignored:
            return None  # type: ignore[return-value]
        if disable_sync_subtasks:
            refuse_inside_task()
        if self._cache is None:
            ids = self._ids_to_watch(follow_parents and propagate)
            waiting = arrivals(
                self._store(), ids, timeout, interval, on_interval, fresh=_newest[0] is self.id
            )
            with closing(waiting) as batches:
                for documents in batches:
                    if self._take_all(documents, on_message):
                        break
        if propagate and self._state in PROPAGATE_STATES:
            self.throw()
        return self.maybe_throw(propagate=False, callback=callback)  # type: ignore[no-any-return]

    wait = get

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        follow_parents: bool = True,
        on_message: Callable[[dict[str, Any]], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R_co:
        """As `get`, for coroutines; ``await result`` is `aget()`."""
        if self.ignored:
            return None  # type: ignore[return-value]
        if disable_sync_subtasks:
            refuse_inside_task()
        if self._cache is None:
            await wait_async(
                self._store(),
                self._ids_to_watch(follow_parents and propagate),
                lambda task_id, document: self._take_all({task_id: document}, on_message),
                timeout,
            )
        return self.maybe_throw(propagate=propagate)  # type: ignore[no-any-return]

    def __await__(self) -> Generator[Any, None, R_co]:
        return self.aget().__await__()

    def then(
        self,
        callback: Callable[[Self], Any],
        on_error: Callable[[Self], Any] | None = None,
        weak: bool = False,
    ) -> Self:
        """Call `callback` with this result when it is there (in a thread of its own, unless it is there now).

        Args:
            callback: called with this result.
            on_error: called in its place when the task failed.
            weak: not used; kept for Celery's callers.
        """

        def finished() -> None:
            failed = self._state in states.PROPAGATE_STATES
            (on_error if failed and on_error is not None else callback)(self)

        if self.ready():
            finished()
            return self
        hub, ids = hub_of(self._store()), [self.id]

        def listener(task_id: str, document: bytes | Exception) -> None:
            if not isinstance(document, Exception) and self._take_all({task_id: document}, None):
                hub.unlisten(ids, listener)
                finished()

        hub.listen(ids, listener)
        return self

    def _ids_to_watch(self, with_parents: bool) -> list[str]:
        ids, parent = [self.id], self.parent
        while with_parents and parent is not None:
            ids += parent._leaf_ids()
            parent = parent.parent
        return ids

    def _take_all(
        self, documents: Mapping[str, bytes], on_message: Callable[[dict[str, Any]], Any] | None
    ) -> bool:
        """Read documents of its own and its parents' ids; True when its own is final.

        Raises a parent's failure.
        """
        serializer = self.app.conf.result_serializer
        for task_id, document in documents.items():
            meta = read_document(document, serializer)
            if on_message is not None:
                on_message(meta._asdict())
            if task_id != self.id:
                if meta.status in states.PROPAGATE_STATES:
                    raise exception_of(meta)
            elif meta.status in states.READY_STATES:
                self._cache = meta
        return self._cache is not None

    # -- state -----------------------------------------------------------------------------------------------

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

    # -- doing something about it ----------------------------------------------------------------------------

    def forget(self) -> None:
        """Delete what is stored about it and its parents."""
        self._cache = self._children = None
        if self.parent is not None:
            self.parent.forget()
        self._store().forget([self.id])

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Keep it from starting; with `terminate` stop it when it runs.

        Args:
            connection: not used; kept for Celery's callers.
            terminate: also stop the task if it has started.
            signal: the signal to stop it with, e.g. ``"SIGKILL"``.
            wait: wait for the workers' answers.
            timeout: seconds to wait for them.
        """
        self.app.control.revoke(self.id, terminate=terminate, signal=signal, reply=wait, timeout=timeout)

    # -- its family ------------------------------------------------------------------------------------------

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield (parent, result) for it and all its descendants.

        Args:
            intermediate: do not stop at results that are not there yet.

        Raises:
            IncompleteStream: one is not there yet.
        """
        waiting: deque[tuple[Any, Any]] = deque([(None, self)])
        while waiting:
            parent, node = waiting.popleft()
            yield parent, node
            if node.ready():
                waiting.extend((node, child) for child in node.children or [])
            elif not intermediate:
                raise IncompleteStream(f"The result of task {node.id} is not there yet.")

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
        from celeriac.utils.graph import DependencyGraph

        graph = DependencyGraph(formatter=formatter)
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> Any:
        """`build_graph()`."""
        return self.build_graph()

    # -- its stored form -------------------------------------------------------------------------------------

    def as_tuple(self) -> tuple[Any, Any]:
        """What `result_from_tuple` makes a result of."""
        return (self.id, self.parent.as_tuple() if self.parent is not None else None), None

    def as_list(self) -> list[str]:
        """Its id and those of its parents."""
        ids, node = [self.id], self.parent
        while node is not None:
            ids.append(node.id)
            node = node.parent
        return ids

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __copy__(self) -> AsyncResult[R_co]:
        return AsyncResult(self.id, self._backend, self._task_name, self.app, self.parent)

    def __reduce__(self) -> tuple[Any, ...]:
        return AsyncResult, (self.id, None, self._task_name, None, self.parent)
