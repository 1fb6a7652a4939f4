"""The seam of result stores. Documents are opaque bytes here; `wire/results.py` knows what is in them.

1. `ResultBackend`: batch-first, thread-safe, fork-safe.
2. `Watch`: waiting for results to be stored; push, not polling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from celeriac.brokers.base import ResultTarget, StoredResult

__all__ = ["BackendCapabilities", "Mailbox", "ResultBackend", "ResultTarget", "StoredResult", "Watch"]


class BackendCapabilities(NamedTuple):
    push: bool = True
    expiry: bool = True
    native_chord: bool = False
    stores: bool = True  # False: `disabled://`, every result is thrown away
    verbatim: bool = True  # False: documents come back with the same meaning, in other bytes
    shared: bool = True  # False: results are sent to the process that made the call; see `Mailbox`


class Watch(Protocol):
    """A subscription. One thread waits; `add`, `discard` and `wake` may be called from any thread.

    No wake-up is missed: `add` subscribes first; the caller then loads, then waits. A watch with an attribute
    `replays` that is true spares the caller the load: `wait` returns what was stored before `add`, too. One
    that has to poll has an attribute `interval`: seconds between two looks, at most; it may be set.
    """

    def add(self, ids: Iterable[str]) -> None: ...

    def discard(self, ids: Iterable[str]) -> None: ...

    def wait(self, timeout: float | None) -> Mapping[str, bytes]:
        """Block until a document of a watched id is stored (any state), `wake`, or `timeout` seconds.

        Returns the new documents by task id; empty on time-out or wake. After a lost connection it
        resubscribes and returns what was stored meanwhile.
        """

    def wake(self) -> None: ...

    def close(self) -> None: ...


class Mailbox(Protocol):
    """What a result store has besides when it is not `shared`. Results for this process come to its address;
    no other process can load them, and groups cannot be saved."""

    @property
    def address(self) -> str:
        """What calls of this process carry as `reply_to`. Another one in a forked child."""

    def listen(self) -> str:
        """Make sure that what is sent to `address` arrives; return it. Cheap when it does already. Raises
        `OperationalError`."""


class ResultBackend(Protocol):
    capabilities: BackendCapabilities

    def store(self, batch: Sequence[StoredResult]) -> None:
        """Store the documents and tell the watchers. Raises `OperationalError` when it cannot."""

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        """Documents by id; unknown ids are absent."""

    def forget(self, ids: Sequence[str]) -> None: ...

    def watch(self, ids: Iterable[str] = ()) -> Watch: ...

    def target(self) -> ResultTarget | None:
        """Where documents land, so that a broker in the same store can carry them; None: nowhere shared."""

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None: ...

    def load_group(self, group_id: str) -> bytes | None: ...

    def delete_group(self, group_id: str) -> None: ...

    def expire(self) -> int:
        """Delete what has expired, where the store does not do it by itself; return how many."""

    def describe(self) -> str: ...

    def close(self) -> None: ...
