"""`Members`: several results as one collection, and how far they are: one trip to the store for all of them.

Not here: waiting for them (`many.py`), their group (`groups.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from celeriac import _state, states
from celeriac.result.base import ResultBase, read_document

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.backends.base import ResultBackend

__all__ = ["Callback", "Members", "OnMessage", "value_of"]

OnMessage = Callable[[dict[str, Any]], Any] | None
Callback = Callable[[str, Any], Any] | None


class Members(ResultBase):
    """Several results, in order."""

    results: list[Any] = None  # type: ignore[assignment]

    _app: Any = None

    @classmethod
    def of_app(cls, app: Celeriac) -> type[Self]:
        """This class, whose results belong to `app`."""
        name = f"_{cls.__name__}"
        found: type[Self] | None = vars(app).get(name)
        if found is None:
            found = type(cls.__name__, (cls,), {"_app": app, "__module__": cls.__module__})
            vars(app)[name] = found
        return found

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

    def _leaves(self) -> Iterator[Any]:
        """The single results in it, and in the sets in it."""
        for result in self.results:
            if isinstance(result, Members):
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

    @property
    def total(self) -> int:
        """How many there are, done or not."""
        return len(self.results)

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

    def maybe_throw(self, callback: Callback = None, propagate: bool = True) -> None:
        """Raise the exception of the first that has failed."""
        self._fetch()
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    def _values(self) -> list[Any]:
        return [
            result._values() if isinstance(result, Members) else value_of(result) for result in self.results
        ]


def value_of(result: Any) -> Any:
    """What a single result came to; None when it is ignored, or did not come to anything."""
    meta = result._cache
    ended = meta is not None and meta.status in states.READY_STATES
    return meta.result if ended and not result.ignored else None
