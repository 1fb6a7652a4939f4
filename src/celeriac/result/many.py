"""`ResultSet`: results of several calls, waited for together: one subscription, whatever their number."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Self

from celeriac import _state, states
from celeriac.result.base import ResultBase, read_document
from celeriac.result.waiting import arrivals, refuse_inside_task, wait_async

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.backends.base import ResultBackend

__all__ = ["ResultSet"]

OnMessage = Callable[[dict[str, Any]], Any] | None
Callback = Callable[[str, Any], Any] | None


class ResultSet(ResultBase):
    """Several results.

    Args:
        results: the results.
        app: the current app, or that of the first result, when None.
        ready_barrier: not used; kept for Celery's callers.

    Example:
        >>> from celeriac.result import EagerResult, ResultSet
        >>> ResultSet([EagerResult("a", 1, "SUCCESS"), EagerResult("b", 2, "SUCCESS")]).get()
        [1, 2]
    """

    _app: Any = None

    def __init__(
        self, results: Iterable[Any], app: Celeriac | None = None, ready_barrier: Any = None, **kwargs: Any
    ) -> None:
        self.results: list[Any] = list(results)
        if app is not None:
            self._app = app

    @property
    def app(self) -> Any:
        """Its app."""
        found = self._app or next((result.app for result in self.results if result.app is not None), None)
        return found if found is not None else _state.get_current_app()

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    @property
    def backend(self) -> ResultBackend:
        """Its result store."""
        leaf = next((leaf for leaf in self._leaves() if leaf.app is not None), self)
        found: ResultBackend = self.app.backend if leaf is self else leaf.backend
        return found

    # -- members ---------------------------------------------------------------------------------------------

    def add(self, result: Any) -> None:
        """Add `result` unless it is in the set."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: Any) -> None:
        """Remove a result, or the one with this id.

        Raises:
            KeyError: it is not in the set.
        """
        if result not in self.results:
            raise KeyError(result)
        self.results.remove(result)

    def discard(self, result: Any) -> None:
        """Remove a result if it is in the set."""
        if result in self.results:
            self.results.remove(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add those that are not in the set."""
        for result in results:
            self.add(result)

    def clear(self) -> None:
        self.results.clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: int) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __bool__(self) -> bool:
        return True

    def _leaves(self) -> Iterator[Any]:
        """The single results in it, and in the sets in it."""
        for result in self.results:
            if isinstance(result, ResultSet):
                yield from result._leaves()
            else:
                yield result

    # -- state: one trip to the store for all of them --------------------------------------------------------

    def _fetch(self) -> None:
        """Read what is stored about those that are not known to be final."""
        unfinished = self._unfinished()
        if unfinished:
            self._take(unfinished, self._store().load(list(unfinished)), None)

    def _unfinished(self) -> dict[str, list[Any]]:
        """Id → single results whose document must still be waited for."""
        found: dict[str, list[Any]] = {}
        for leaf in self._leaves():
            for task_id in leaf._leaf_ids():
                found.setdefault(task_id, []).append(leaf)
        return found

    def _store(self) -> ResultBackend:
        leaf = next((leaf for leaf in self._leaves() if leaf._leaf_ids()), None)
        found: ResultBackend = leaf._store() if leaf is not None else self.backend
        return found

    def _leaf_ids(self) -> list[str]:
        """Ids whose documents must still be waited for."""
        return list(self._unfinished())

    def _states(self) -> list[str]:
        self._fetch()
        return [leaf._cache.status if leaf._cache is not None else states.PENDING for leaf in self._leaves()]

    def ready(self) -> bool:
        """True when all are there."""
        return all(state in states.READY_STATES for state in self._states())

    def waiting(self) -> bool:
        """True when any is not there yet."""
        return not self.ready()

    def successful(self) -> bool:
        """True when all have succeeded."""
        return all(state == states.SUCCESS for state in self._states())

    def failed(self) -> bool:
        """True when any has failed."""
        return states.FAILURE in self._states()

    def completed_count(self) -> int:
        """How many have succeeded."""
        self._fetch()
        return sum(result.successful() for result in self.results)

    def maybe_throw(self, callback: Callback = None, propagate: bool = True) -> None:
        """Raise the exception of the first that has failed."""
        self._fetch()
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    # -- waiting ---------------------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callback = None,
        no_ack: bool = True,
        on_message: OnMessage = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
    ) -> list[Any]:
        """Wait for all and return their values in order.

        Args:
            timeout: seconds for all of them together; None waits for ever.
            propagate: raise the first exception that arrives; otherwise exceptions are among the values.
            interval: seconds between two calls of `on_interval`.
            callback: called with id and value of each, as they arrive.
            no_ack: not used; kept for Celery's callers.
            on_message: called with every document that arrives, as a dict.
            disable_sync_subtasks: refuse to wait inside a task.
            on_interval: called while nothing arrives.

        Raises:
            TimeoutError: they were not all there in time.
        """
        if disable_sync_subtasks:
            refuse_inside_task()
        arrived = self._arriving(timeout, interval, on_message, on_interval)
        for leaf in arrived:
            leaf.maybe_throw(propagate=propagate, callback=callback)
        return self._values(propagate)

    def join_native(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callback = None,
        no_ack: bool = True,
        on_message: OnMessage = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any]:
        """As `get`."""
        return self.get(
            timeout, propagate, interval, callback, no_ack, on_message, disable_sync_subtasks, on_interval
        )

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callback = None,
        no_ack: bool = True,
        on_message: OnMessage = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
    ) -> list[Any]:
        """As `get`, but callbacks and exceptions come in the order of the results."""
        if disable_sync_subtasks:
            refuse_inside_task()
        leaves = list(self._leaves())
        done = 0
        for _ in self._arriving(timeout, interval, on_message, on_interval):
            while done < len(leaves) and not leaves[done]._leaf_ids():
                leaves[done].maybe_throw(propagate=propagate, callback=callback)
                done += 1
        return self._values(propagate)

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: OnMessage = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (id, document as a dict) of each, as they arrive."""
        for leaf in self._arriving(timeout, interval, on_message, on_interval):
            yield leaf.id, leaf._cache._asdict()

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        callback: Callback = None,
        on_message: OnMessage = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any]:
        """As `get`, for coroutines; ``await results`` is `aget()`."""
        if disable_sync_subtasks:
            refuse_inside_task()
        unfinished = self._unfinished()

        def take(task_id: str, document: bytes) -> bool:
            for leaf in self._take(unfinished, {task_id: document}, on_message):
                leaf.maybe_throw(propagate=propagate, callback=callback)
            return not unfinished

        if unfinished:
            await wait_async(self._store(), list(unfinished), take, timeout)
        return self._values(propagate)

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self.aget().__await__()

    def _arriving(
        self,
        timeout: float | None,
        interval: float,
        on_message: OnMessage,
        on_interval: Callable[[], Any] | None,
    ) -> Iterator[Any]:
        """Yield single results as they become final; those first that are."""
        yield from [leaf for leaf in self._leaves() if leaf._cache is not None]
        unfinished = self._unfinished()
        if not unfinished:
            return
        waiting = arrivals(self._store(), list(unfinished), timeout, interval, on_interval)
        with closing(waiting) as batches:
            for documents in batches:
                yield from self._take(unfinished, documents, on_message)
                if not unfinished:
                    return

    def _take(
        self, unfinished: dict[str, list[Any]], documents: Mapping[str, bytes], on_message: OnMessage
    ) -> list[Any]:
        """Give documents to their results; return those that are final now, which are unfinished no more."""
        if not documents:
            return []
        serializer = self.app.conf.result_serializer
        taken: list[Any] = []
        for task_id, document in documents.items():
            meta = read_document(document, serializer)
            if on_message is not None:
                on_message(meta._asdict())
            if meta.status in states.READY_STATES:
                leaves = unfinished.pop(task_id, [])
                for leaf in leaves:
                    leaf._cache = meta
                taken += leaves
        return taken

    def _values(self, propagate: bool) -> list[Any]:
        return [
            result._values(propagate) if isinstance(result, ResultSet) else _value(result)
            for result in self.results
        ]

    def then(
        self,
        callback: Callable[[Self], Any],
        on_error: Callable[[Self], Any] | None = None,
        weak: bool = False,
    ) -> Self:
        """Call `callback` with this set when all of it is there, `on_error` when any of it failed."""
        left = list(self._leaves())

        def finished(leaf: Any) -> None:
            left.remove(leaf)
            if not left:
                (on_error if on_error is not None and self.failed() else callback)(self)

        for leaf in tuple(left):
            leaf.then(finished)
        return self

    @property
    def supports_native_join(self) -> bool:
        """They are always waited for at once."""
        return True

    # -- doing something about it ----------------------------------------------------------------------------

    def forget(self) -> None:
        """Delete what is stored about them."""
        for result in self.results:
            result.forget()

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Keep them from starting; see `AsyncResult.revoke`."""
        ids = [leaf.id for leaf in self._leaves()]
        self.app.control.revoke(ids, terminate=terminate, signal=signal, reply=wait, timeout=timeout)

    def __eq__(self, other: object) -> bool:
        return other.results == self.results if isinstance(other, ResultSet) else NotImplemented

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(result.id for result in self.results)}]>"


def _value(result: Any) -> Any:
    return None if result.ignored else result.result
