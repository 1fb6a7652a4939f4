"""Results in the embedded store: the same file as the tasks, so results can ride on settlements.

1. `SqliteBackend`: the seam.
2. `Hub`: one bell per process, on which writers of results ring; one waiting thread listens for all.
3. `SqliteWatch`: one subscription.

URL and options as of the broker (`brokers/sqlite/broker.py`). Not here: chords (`sqlite_chords.py`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from celeriac.backends.base import BackendCapabilities, ResultTarget, StoredResult
from celeriac.backends.sqlite_chords import SqliteChords
from celeriac.transport import sqlite_results
from celeriac.transport.bells import POLL, SLOW_POLL, Bell
from celeriac.transport.sqlite import Database, database, library_version
from celeriac.utils.perprocess import PerProcess

__all__ = ["SqliteBackend", "SqliteWatch"]

#: Rows that one transaction of `expire` deletes.
EXPIRE_AT_ONCE: Final = 5000

FORGET: Final = "DELETE FROM result WHERE task_id IN (SELECT value FROM json_each(?))"
SAVE_GROUP: Final = "INSERT OR REPLACE INTO saved_group (group_id, document, expires) VALUES (?, ?, ?)"
LOAD_GROUP: Final = """
    SELECT document FROM saved_group WHERE group_id = ? AND (expires IS NULL OR expires > ?)"""
EXPIRE: Final = """
    DELETE FROM result WHERE id IN (SELECT id FROM result WHERE expires <= ? ORDER BY expires LIMIT ?)"""


class Hub:
    """Whoever waits first listens to the bell for all watches of the process; the others wait for it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.changed = threading.Condition()
        self._bell: Bell | None = None
        self._listening = False
        self._watches: set[SqliteWatch] = set()

    def join(self, watch: SqliteWatch) -> None:
        with self.changed:
            self._watches.add(watch)
            if self._bell is None:
                bell = Bell(self._database.wake_folder)
                if bell.name:
                    with self._database.write() as connection:
                        connection.execute("INSERT OR IGNORE INTO watcher (bell) VALUES (?)", (bell.name,))
                self._bell = bell

    def leave(self, watch: SqliteWatch) -> None:
        """The bell stays for the next watch: hanging it up costs a transaction."""
        with self.changed:
            self._watches.discard(watch)

    def close(self) -> None:
        with self.changed:
            bell, self._bell = self._bell, None
            if bell is not None and bell.name:
                with self._database.write() as connection:
                    connection.execute("DELETE FROM watcher WHERE bell = ?", (bell.name,))
            if bell is not None:
                bell.close()
            self.changed.notify_all()

    def patience(self) -> float:
        """Seconds after which a watch looks although nobody rang."""
        return POLL if self._bell is not None and self._bell.name else SLOW_POLL

    def ring(self) -> None:
        """Make the listening thread look at its own flags. Call with `changed` held."""
        self.changed.notify_all()
        if self._listening and self._bell is not None:
            self._bell.ring()

    def pause(self, seconds: float) -> None:
        """Wait until there may be news, `seconds` at most. Call with `changed` held."""
        if self._listening or self._bell is None:
            self.changed.wait(seconds)
            return
        self._listening = True
        self.changed.release()
        try:
            payloads = self._bell.wait(seconds)
        finally:
            self.changed.acquire()
            self._listening = False
        self._deliver(payloads)

    def _deliver(self, payloads: Sequence[bytes]) -> None:
        rung = {task_id for payload in payloads for task_id in payload.decode().split("\n")}
        for watch in self._watches:
            watch.dirty |= rung & watch.ids
        self.changed.notify_all()  # those who have news, and one of them has to listen from now on


class SqliteWatch:
    """See `Watch`. `dirty`: ids of which there is news that has not been loaded."""

    def __init__(self, backend: SqliteBackend, hub: Hub, ids: Iterable[str]) -> None:
        self._backend = backend
        self._hub = hub
        self.ids = set(ids)
        self.dirty: set[str] = set()
        self._reported: dict[str, int] = {}  # hashes of documents
        self._looked = time.monotonic()
        self._woken = False
        hub.join(self)

    def add(self, ids: Iterable[str]) -> None:
        with self._hub.changed:
            self.ids.update(ids)

    def discard(self, ids: Iterable[str]) -> None:
        with self._hub.changed:
            for task_id in ids:
                self.ids.discard(task_id)
                self.dirty.discard(task_id)
                self._reported.pop(task_id, None)

    def wait(self, timeout: float | None) -> Mapping[str, bytes]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._hub.changed:
                left = POLL if deadline is None else deadline - time.monotonic()
                if not (self.dirty or self._woken):
                    self._hub.pause(max(0.0, min(left, POLL)))
                names = self._due_for_a_look()
                woken, self._woken = self._woken, False
            new = self._load(names) if names else {}
            if new or woken or (deadline is not None and time.monotonic() >= deadline):
                return new

    def _due_for_a_look(self) -> Sequence[str]:
        """Ids with news; now and then all of them, in case a ring was lost."""
        now = time.monotonic()
        if now - self._looked >= self._hub.patience():
            self._looked = now
            self.dirty = set(self.ids)
        names, self.dirty = list(self.dirty), set()
        return names

    def _load(self, names: Sequence[str]) -> Mapping[str, bytes]:
        new = {}
        for task_id, document in self._backend.load(names).items():
            mark = hash(document)
            if self._reported.get(task_id) != mark:
                self._reported[task_id] = mark
                new[task_id] = document
        return new

    def wake(self) -> None:
        with self._hub.changed:
            self._woken = True
            self._hub.ring()

    def close(self) -> None:
        self._hub.leave(self)
        self.wake()


class SqliteBackend:
    """Results in one file. Nothing is opened before the first use.

    Example:
        >>> import os, tempfile
        >>> from celeriac.backends.base import StoredResult
        >>> file = os.path.join(tempfile.mkdtemp(), "tasks.db")
        >>> backend = SqliteBackend(f"sqlite:///{file}", {})
        >>> backend.store([StoredResult("id-1", b"{}")])
        >>> backend.load(["id-1", "id-2"])
        {'id-1': b'{}'}
        >>> backend.close()
    """

    capabilities: BackendCapabilities = BackendCapabilities(native_chord=True, compares=True)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._database = database(url, options)
        self.chords = SqliteChords(self._database)
        self._hub = PerProcess(partial(Hub, self._database), Hub.close, keeps=False)

    def store(self, batch: Sequence[StoredResult]) -> None:
        if not batch:
            return
        with self._database.write() as connection:
            news = sqlite_results.put(connection, batch, self._database.now())
        sqlite_results.tell(self._database, news)

    def store_if(self, batch: Sequence[StoredResult], seen: Mapping[str, bytes]) -> None:
        with self._database.write() as connection:
            now = self._database.now()
            there = sqlite_results.get(connection, [each.task_id for each in batch], now)
            same = [each for each in batch if there.get(each.task_id) == seen.get(each.task_id)]
            news = sqlite_results.put(connection, same, now)
        sqlite_results.tell(self._database, news)

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        if not ids:
            return {}
        with self._database.read() as connection:
            return sqlite_results.get(connection, ids, self._database.now())

    def forget(self, ids: Sequence[str]) -> None:
        with self._database.write() as connection:
            connection.execute(FORGET, (json.dumps(list(ids)),))

    def watch(self, ids: Iterable[str] = ()) -> SqliteWatch:
        return SqliteWatch(self, self._hub(), ids)

    def target(self) -> ResultTarget | None:
        return ResultTarget(("sqlite", self._database.path))

    # -- groups ----------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None:
        with self._database.write() as connection:
            expires = None if ttl is None else self._database.now() + int(ttl * 1_000_000)
            connection.execute(SAVE_GROUP, (group_id, document, expires))

    def load_group(self, group_id: str) -> bytes | None:
        with self._database.read() as connection:
            row = connection.execute(LOAD_GROUP, (group_id, self._database.now())).fetchone()
        return row[0] if row else None

    def delete_group(self, group_id: str) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM saved_group WHERE group_id = ?", (group_id,))

    # -- the store -------------------------------------------------------------------------------------------

    def expire(self) -> int:
        """Delete results, groups and chords that have expired, in short transactions."""
        total = 0
        while True:
            with self._database.write() as connection:
                now = self._database.now()
                count = connection.execute(EXPIRE, (now, EXPIRE_AT_ONCE)).rowcount
                count += connection.execute("DELETE FROM saved_group WHERE expires <= ?", (now,)).rowcount
                count += self.chords.expire(connection, now, EXPIRE_AT_ONCE)
            total += count
            if count < EXPIRE_AT_ONCE:
                return total

    def describe(self) -> str:
        return f"SQLite {library_version()} ({self._database.path})"

    def close(self) -> None:
        self._hub.close()
        self._database.close()
