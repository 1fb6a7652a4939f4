"""What becomes of results while their store cannot be reached: the policy that the user chose.

1. `Retrying`: a store around a store. A failure says how long to pause before the next try; after
   `most` of them in a row the batch is given up, and with it nothing but its results.
2. `StoreDown`: that failure. Whoever tries again, and keeps the deliveries unacknowledged meanwhile, is the
   courier (`worker/courier.py`).

The settings: `result_backend_max_retries` and `result_backend_{base,max}_sleep_between_retries_ms`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from celeriac.backends.base import ResultBackend, StoredResult
from celeriac.backends.interim import store_interim
from celeriac.exceptions import OperationalError

__all__ = ["Retrying", "StoreDown", "Storing"]

logger = logging.getLogger("celeriac.backend")


class StoreDown(OperationalError):
    """The result store cannot be reached. `pause`: seconds to wait before the next try."""

    def __init__(self, message: str, pause: float) -> None:
        super().__init__(message)
        self.pause = pause


class Storing(Protocol):
    """Of a result store, what a worker's courier needs."""

    def store(self, batch: Sequence[StoredResult]) -> None: ...

    def store_interim(self, batch: Sequence[StoredResult]) -> None:
        """Store states that are not final; see `backends/interim.py`."""


class Retrying:
    """Used by one thread.

    Args:
        store: where results go.
        most: tries after the first one until a batch is given up; infinity: never.
        base, longest: seconds of the first pause, and of the longest.
        serializer: the setting `result_serializer`.

    Example:
        >>> from celeriac.backends.memory import MemoryBackend
        >>> store = Retrying(MemoryBackend("memory://example", {}), most=3, base=0.01, longest=2.0)
        >>> store.store([StoredResult("id-1", b"{}")])
    """

    def __init__(
        self, store: ResultBackend, *, most: float, base: float, longest: float, serializer: str = "json"
    ) -> None:
        self._store = store
        self._most = most
        self._base = base
        self._longest = longest
        self._serializer = serializer
        self._failures = 0

    def store(self, batch: Sequence[StoredResult]) -> None:
        """Store `batch`, or give it up.

        Raises:
            StoreDown: neither; call again after its pause, with the same batch or a larger one.
        """
        self._attempt(partial(self._store.store, batch), batch)

    def store_interim(self, batch: Sequence[StoredResult]) -> None:
        """As `store`, for states on the way."""
        self._attempt(partial(store_interim, self._store, batch, self._serializer), batch)

    def _attempt(self, put: Callable[[], None], batch: Sequence[StoredResult]) -> None:
        try:
            put()
        except OperationalError as exc:
            self._failures += 1
            if self._failures <= self._most:
                raise StoreDown(str(exc), self._pause()) from exc
            # The user's choice: the call is acknowledged, and whoever waits for its result waits in vain.
            logger.error(
                "The results of %d tasks are LOST: their store failed %d times (result_backend_max_retries). "
                "The first of them: %s. Why: %s",
                len(batch),
                self._failures,
                ", ".join(result.task_id for result in batch[:5]),
                exc,
            )
        self._failures = 0

    def _pause(self) -> float:
        longest = min(self._longest, self._base * 2.0 ** min(self._failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)
