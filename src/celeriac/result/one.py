"""`AsyncResult`: state and value of one call, by its id.

`get` waits in the caller's thread, ``await`` in its event loop; both are woken when the result is stored.
`stream` gives every state on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TextIO, TypeVar

from celeriac import _state, exceptions, states
from celeriac.result.base import ResultBase, exception_of, read_document
from celeriac.result.hub import hub_of, wait_async
from celeriac.result.state import CallState
from celeriac.result.streams import Stream
from celeriac.result.waiting import arrivals, refuse_inside_task

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.backends.base import ResultBackend

__all__ = ["AsyncResult"]

R_co = TypeVar("R_co", covariant=True)

#: The id of the result that was made last: most likely of a call that was made a moment ago.
_newest: list[str | None] = [None]


class AsyncResult(CallState, Generic[R_co], kind="one"):
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
            if follow_parents:
                self._throw_cause()
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
        failed = self._state in states.PROPAGATE_STATES
        if propagate and failed and follow_parents and self.parent is not None:
            await self.app.in_thread(self._throw_cause)
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

    def stream(self, timeout: float | None = None) -> Stream:
        """What becomes of the call: an `Update` for its state now, if one is stored, and for each one that
        follows; the last is its end. For ``for`` and ``async for``.

        Args:
            timeout: seconds until the end; None waits for ever.

        Raises:
            TimeoutError: it had not ended in time.
            Exception: what a task before it in its chain raised.

        Example:
            ``for update in task.delay().stream(): print(update.state, update.progress)``
        """
        return Stream([self], self._parent_ids(), timeout)

    def watch(
        self,
        timeout: float | None = None,
        *,
        label: str | None = None,
        file: TextIO | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> R_co:
        """Show how far the task is until it is there, then return its result, as `get` does.

        A bar on a terminal and in notebooks (with `rich` installed a prettier one), a line now and then
        elsewhere.

        Args:
            timeout: seconds; None waits for ever.
            label: what it is called; the task's name, or its id, by default.
            file: where to; standard error by default.
            on_interval: called about twice a second while nothing comes; what it raises ends the watch.
        """
        from celeriac.result.watching import watch

        updates = Stream([self], self._parent_ids(), timeout, on_interval)
        watch([self], updates, label or self._task_name or self.id, file)
        return self.get()

    def _ids_to_watch(self, with_parents: bool) -> list[str]:
        return [*self._parent_ids(), self.id] if with_parents else [self.id]

    def _parent_ids(self) -> list[str]:
        """Ids of what came before it in its chain and is not known to have ended, oldest first: what failed
        first is why the others did."""
        parents: list[Any] = []
        parent = self.parent
        while parent is not None:
            parents.append(parent)
            parent = parent.parent
        return [task_id for parent in reversed(parents) for task_id in parent._leaf_ids()]

    def _take_all(
        self, documents: Mapping[str, bytes], on_message: Callable[[dict[str, Any]], Any] | None
    ) -> bool:
        """Read documents of its own and its parents' ids; True when its own is final.

        Raises a parent's failure, the oldest one's.
        """
        serializer = self.app.conf.result_serializer
        failed: dict[str, Any] = {}
        for task_id, document in documents.items():
            meta = read_document(document, serializer)
            if on_message is not None:
                on_message(meta._asdict())
            if task_id != self.id:
                if meta.status in states.PROPAGATE_STATES:
                    failed[task_id] = meta
            elif meta.status in states.READY_STATES:
                self._cache = meta
        if failed:
            raise exception_of(failed[min(failed, key=self._parent_ids().index)])
        return self._cache is not None

    def _throw_cause(self) -> None:
        """It has failed: raise what one before it raised, whichever of them was read first."""
        ids = self._parent_ids()
        documents = self._store().load(ids) if ids else {}
        for task_id in ids:
            if task_id in documents:
                meta = read_document(documents[task_id], self.app.conf.result_serializer)
                if meta.status in states.PROPAGATE_STATES:
                    raise exception_of(meta)

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

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Keep all tasks with these stamps from starting; see `Control.revoke_by_stamped_headers`."""
        self.app.control.revoke_by_stamped_headers(
            headers, terminate=terminate, signal=signal, reply=wait, timeout=timeout
        )

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

    # -- identity --------------------------------------------------------------------------------------------

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
