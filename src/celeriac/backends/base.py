"""The seam of result stores. Documents are opaque bytes here; `wire/results.py` knows what is in them.

1. `ResultBackend`: batch-first, thread-safe, fork-safe.
2. `Watch`: waiting for results to be stored; push, not polling.
3. `ChordStore`: counting the members of a chord. A backend whose store can do it says
   `BackendCapabilities.native_chord`, and has it as its attribute `chords`.

A chord is counted as a SET OF TASK IDS, never as a number that goes up: a member that comes twice (its
process died, its message was delivered again) counts once. See `docs/explanation/chords.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from celeriac.brokers.base import ResultTarget, StoredResult

if TYPE_CHECKING:
    from celeriac.app.foreign import Backend as Backend
    from celeriac.app.foreign import BaseBackend as BaseBackend
    from celeriac.app.foreign import BaseDictBackend as BaseDictBackend
    from celeriac.app.foreign import BaseKeyValueStoreBackend as BaseKeyValueStoreBackend
    from celeriac.app.foreign import DisabledBackend as DisabledBackend
    from celeriac.app.foreign import KeyValueStoreBackend as KeyValueStoreBackend
    from celeriac.app.foreign import SyncBackendMixin as SyncBackendMixin
    from celeriac.app.foreign import get_current_task as get_current_task
else:

    def __getattr__(name: str) -> object:
        """Names that Celery keeps here; packages import them to write result stores of their own."""
        if not name.startswith("__"):  # the import machinery asks for such
            from celeriac.app import foreign

            if name in foreign.__all__:
                return getattr(foreign, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BackendCapabilities",
    "Chord",
    "ChordStore",
    "Mailbox",
    "Opening",
    "Part",
    "ResultBackend",
    "ResultTarget",
    "StoredResult",
    "Watch",
]


class BackendCapabilities(NamedTuple):
    push: bool = True
    expiry: bool = True
    native_chord: bool = False  # its attribute `chords` is a `ChordStore`
    stores: bool = True  # False: `disabled://`, every result is thrown away
    verbatim: bool = True  # False: documents come back with the same meaning, in other bytes
    shared: bool = True  # False: results are sent to the process that made the call; see `Mailbox`
    compares: bool = False  # True: it has `store_if`; see `interim.Comparing`


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


# -- chords -----------------------------------------------------------------------------------------------


class Opening(NamedTuple):
    """A chord that is about to be sent.

    Attributes:
        chord_id: the id of its header's group.
        size: how many members will come; 0: not known yet, `ChordStore.seal_chord` will say it.
        body: the call that follows, encoded, when it is too big to be in every member; else None.
        ttl: seconds for which everything about the chord is kept after the last thing that happened to it;
            None: for ever (until it is closed).
    """

    chord_id: str
    size: int
    body: bytes | None = None
    ttl: float | None = None


class Part(NamedTuple):
    """The end of one member, as it arrives at its chord.

    Attributes:
        chord_id: see `Opening`.
        task_id: the member; what is counted.
        position: its index in the header, with a half for one that was added by the member there; None: after
            all that have one.
        payload: its state and value, encoded (`wire/results.py`); opaque to stores.
        size: how many members there are, as this one's message says it; 0: it does not say. A chord that
            is not known to the store (it never was, or was forgotten) is opened by it when it is not 0.
        ttl: see `Opening`.
        extra: it was added to the chord later: it makes the chord bigger by one, once, as `grow_chord` does.
    """

    chord_id: str
    task_id: str
    position: float | None
    payload: bytes
    size: int = 0
    ttl: float | None = None
    extra: bool = False


class Chord(NamedTuple):
    """What is known of an open chord: `payloads` of those who have arrived, in order of their position."""

    size: int
    body: bytes | None
    payloads: Sequence[bytes]


class ChordStore(Protocol):
    """Counts chords. Batch-first, thread-safe and fork-safe; raises `OperationalError` when it cannot. It
    uses its backend's connections and is closed with it; `ResultBackend.expire` covers it.

    A chord is complete when its size is known and as many different members have arrived. Whoever sends a
    chord opens it first; so a member of a chord that was never opened is one of another program, which counts
    by itself, and completes nothing here.
    """

    def open_chords(self, openings: Sequence[Opening]) -> None:
        """Make chords known, before their members are sent. Again: the same; what has arrived stays."""

    def seal_chord(self, chord_id: str, size: int) -> None:
        """Say how many members a chord has that was opened with size 0. The last of them must not have been
        sent yet: it, not this, completes the chord."""

    def grow_chord(self, chord_id: str, ids: Sequence[str]) -> None:
        """`ids` will arrive, too. Each counts once, however often it is said. A member that has not arrived
        itself must be the one who says it: then the chord cannot be complete before."""

    def arrive(self, parts: Sequence[Part]) -> Sequence[bool]:
        """Record members; of one that comes again the first payload stays.

        Returns, for each, whether it is THE ONE that completes its chord. Among all members of a chord, in
        all processes, that is one task id: it is recorded with the chord, and True is answered again when it
        comes again, as its process may have died before it did anything about it. For all others it is False
        for ever, also after the chord was closed.
        """

    def load_chord(self, chord_id: str) -> Chord | None:
        """What has arrived; None: closed, or not known."""

    def close_chord(self, chord_id: str) -> None:
        """Forget body and payloads; who completed it is remembered for the chord's ttl (for a day if that is
        None)."""
