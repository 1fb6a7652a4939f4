"""`ResultSet`: results of several calls, waited for together: one subscription, whatever their number."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, closing
from typing import Any, Self, TextIO

from celeriac.result.hub import arrivals_async, wait_async
from celeriac.result.members import Callback, Members, OnMessage, value_of
from celeriac.result.streams import Stream
from celeriac.result.waiting import arrivals, refuse_inside_task

__all__ = ["ResultSet"]


class ResultSet(Members):
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
            callback: called with id and value of each, as they arrive; of a group in it with the group's id
                and its values, when all of these have arrived.
            no_ack: not used; kept for Celery's callers.
            on_message: called with every document that arrives, as a dict.
            disable_sync_subtasks: refuse to wait inside a task.
            on_interval: called while nothing arrives.

        Raises:
            TimeoutError: they were not all there in time.
        """
        if disable_sync_subtasks:
            refuse_inside_task()
        tell = self._teller(callback)
        for leaf in self._arriving(timeout, interval, on_message, on_interval):
            leaf.maybe_throw(propagate=propagate)
            tell(leaf)
        return self._values()

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
        tell = self._teller(callback)
        leaves = list(self._leaves())
        done = 0
        for _ in self._arriving(timeout, interval, on_message, on_interval):
            while done < len(leaves) and not leaves[done]._leaf_ids():
                leaves[done].maybe_throw(propagate=propagate)
                tell(leaves[done])
                done += 1
        return self._values()

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
        tell = self._teller(callback)

        def take(task_id: str, document: bytes) -> bool:
            for leaf in self._take(unfinished, {task_id: document}, on_message):
                leaf.maybe_throw(propagate=propagate)
                tell(leaf)
            return not unfinished

        if unfinished:
            await wait_async(self._store(), list(unfinished), take, timeout)
        return self._values()

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self.aget().__await__()

    def _teller(self, callback: Callback) -> Callable[[Any], None]:
        """What to call with each single result that is there: it calls `callback` for each member."""
        if callback is None:
            return lambda leaf: None
        groups = [result for result in self.results if isinstance(result, Members)]
        owners = {id(leaf): group for group in groups for leaf in group._leaves()}
        left = {id(group): len(list(group._leaves())) for group in groups}

        def tell(leaf: Any) -> None:
            group = owners.get(id(leaf))
            if group is None:
                callback(leaf.id, value_of(leaf))
                return
            left[id(group)] -= 1
            if not left[id(group)]:
                callback(str(getattr(group, "id", "")), group._values())

        return tell

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield single results as they become final."""
        for leaf in [leaf for leaf in self._leaves() if leaf._cache is not None]:
            yield leaf
        unfinished = self._unfinished()
        if not unfinished:
            return
        async with aclosing(arrivals_async(self._store(), list(unfinished))) as documents:
            async for task_id, document in documents:
                for leaf in self._take(unfinished, {task_id: document}, None):
                    yield leaf
                if not unfinished:
                    return

    def stream(self, timeout: float | None = None) -> Stream:
        """What becomes of them: an `Update` for each state of each, as it is stored, until all have ended.
        For ``for`` and ``async for``.

        Args:
            timeout: seconds for all of them; None waits for ever.

        Raises:
            TimeoutError: they had not all ended in time.
        """
        return Stream(list(self._leaves()), (), timeout)

    def watch(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        *,
        label: str | None = None,
        file: TextIO | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> list[Any]:
        """Show how many are done until all are, then return their values, as `get` does.

        A bar on a terminal and in notebooks (with `rich` installed a prettier one), a line now and then
        elsewhere.

        Args:
            timeout: seconds; None waits for ever.
            propagate: raise the first exception, once all are there.
            label: what they are called.
            file: where to; standard error by default.
            on_interval: called about twice a second while nothing comes; what it raises ends the watch.
        """
        from celeriac.result.watching import watch

        leaves = list(self._leaves())
        watch(leaves, Stream(leaves, (), timeout, on_interval), label or "tasks", file)
        return self.get(propagate=propagate)

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
        """True when they are waited for at once: not when they were run here and now."""
        return bool(self.results) and bool(self.results[0].supports_native_join)

    # -- doing something about it ----------------------------------------------------------------------------

    def forget(self) -> None:
        """Delete what is stored about them and their parents."""
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
