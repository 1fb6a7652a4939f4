"""States on the way (STARTED, PROGRESS, custom ones): stored without taking the place of an end.

1. `store_interim`: what is stored already is read; documents of tasks that have ended are left out.
2. `Comparing`: what a store has besides that can tell whether anything was stored in between.

A worker that stood still, and whose task another one has finished meanwhile, must not hide the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from celeriac.backends.base import ResultBackend, StoredResult
from celeriac.wire.results import is_final

__all__ = ["Comparing", "store_interim"]


class Comparing(Protocol):
    """A result store with `BackendCapabilities.compares`."""

    def store_if(self, batch: Sequence[StoredResult], seen: Mapping[str, bytes]) -> None:
        """Store each document if what is stored of its id is still `seen` (nothing, when it is absent there);
        leave out the others. Each id occurs once. Raises `OperationalError`."""


def store_interim(store: ResultBackend, batch: Sequence[StoredResult], serializer: str) -> None:
    """Store states that are not final, the last of each id, unless a final one is there.

    Where the store cannot compare (`BackendCapabilities.compares`), an end that is stored in the very moment
    between looking and storing is overwritten. Where results are sent to who made the call, the receiver
    looks.

    Raises:
        OperationalError: the store cannot be reached.

    Example:
        >>> from celeriac.backends.memory import MemoryBackend
        >>> store = MemoryBackend("memory://interim-example", {})
        >>> store.store([StoredResult("a", b'{"status": "SUCCESS", "result": 1}')])
        >>> store_interim(store, [StoredResult("a", b'{"status": "STARTED", "result": 1}')], "json")
        >>> store.load(["a"])
        {'a': b'{"status": "SUCCESS", "result": 1}'}
    """
    newest = {result.task_id: result for result in batch}
    if not store.capabilities.shared:
        store.store(list(newest.values()))
        return
    seen = store.load(list(newest))
    ended = {task_id for task_id, document in seen.items() if is_final(document, serializer)}
    open_ = [result for task_id, result in newest.items() if task_id not in ended]
    if not open_:
        return
    if store.capabilities.compares:
        cast(Comparing, store).store_if(open_, seen)
    else:
        store.store(open_)
