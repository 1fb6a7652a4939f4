"""The embedded store: how it is opened, and one transaction at a time.

1. `Database`: connections of this process, the write lock, the caches; `database()` shares one per file, so
   that broker and results of a process use the same connections.
2. `Database.write` and `Database.read`: transactions, as context managers. Waiting for the write lock ends
   with an `OperationalError` at its deadline, whatever the process that holds it does.
3. Errors: every error of the library leaves this module as `OperationalError` (`explain`).

The one module that imports sqlite3. Not here: the URL and the file (`location.py`), tables (`schema.py`),
wake-ups (`bells.py`), what is stored.

The write lock is SQLite's own (`BEGIN IMMEDIATE`); waiting for it is ours, because the library's busy handler
sleeps up to 100 ms at a time and starves the unlucky.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from celeriac import failpoints
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.transport import schema
from celeriac.transport.bells import folder_for
from celeriac.transport.location import Location, identity, make_file

__all__ = ["Connection", "Database", "database", "explain", "library_version"]

Connection = sqlite3.Connection

_OLDEST_LIBRARY: Final = (3, 35, 0)  # RETURNING
#: While a thread holds the write lock it gets the interpreter back within this many seconds, not 0.005: it
#: gives it up at every step of the library, and behind a busy task each step would cost the full interval.
_SWITCH_INTERVAL: Final = 0.00005


class Database:
    """One file. Safe to use from any thread; a forked child opens connections of its own."""

    def __init__(self, location: Location) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_LIBRARY:
            raise ImproperlyConfigured(
                f"Python was built with SQLite {sqlite3.sqlite_version}; the embedded store needs 3.35 or "
                "newer. Use a newer Python, or another broker, e.g. redis://."
            )
        self.location = location
        self.path = location.path
        self.clock = location.clock
        self.wake_folder = folder_for(self.path)
        self.queue_ids: dict[str, int] = {}  # `queue` in memory; its rows are never deleted
        self._start()
        _databases.add(self)

    def _start(self) -> None:
        self._writing = threading.Lock()  # threads queue here; only one of them contends with other processes
        self._pool: list[Connection] = []
        self._file: tuple[int, int] | None = None
        self._checked = 0.0
        self._checkpointed = 0.0

    def after_fork(self) -> None:
        """In a child: forget the parent's connections without closing them, which could hurt the parent."""
        _abandoned.append(self._pool)
        self._start()

    def now(self) -> int:
        """The store's clock, in microseconds since the epoch."""
        return int(self.clock() * 1_000_000)

    def write(self, timeout: float | None = None) -> Transaction:
        """A transaction that holds the write lock; begun within `timeout` seconds, or `OperationalError`."""
        return Transaction(self, self.location.timeout if timeout is None else timeout, writes=True)

    def read(self, timeout: float | None = None) -> Transaction:
        """A transaction that sees one state of the store; writers do not hinder it, nor it them."""
        return Transaction(self, self.location.timeout if timeout is None else timeout, writes=False)

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the file, as far as nobody is in the way; at most once a second."""
        now = time.monotonic()
        if now - self._checkpointed < 1.0:
            return
        self._checkpointed = now
        connection = self.take(now + self.location.timeout)
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as exc:
            connection.close()
            raise explain(exc, self.path) from exc
        self.give(connection)

    def __del__(self) -> None:
        if hasattr(self, "_pool"):
            self.close()

    def close(self) -> None:
        """Close the connections that are not in use; those in use are closed when the file is gone."""
        pool, self._pool = self._pool, []
        for connection in pool:
            connection.close()

    # -- connections -----------------------------------------------------------------------------------------

    def take(self, deadline: float) -> Connection:
        self._check_file()
        with contextlib.suppress(IndexError):
            return self._pool.pop()
        return self._open(deadline)

    def give(self, connection: Connection) -> None:
        self._pool.append(connection)

    def _check_file(self) -> None:
        """Once a second: if the file was deleted or replaced, do not go on writing to the old one."""
        now = time.monotonic()
        if self._file is None or now - self._checked < 1.0:
            return
        self._checked = now
        if identity(self.path) != self._file:
            self.close()
            self.queue_ids.clear()
            self._file = None

    def _open(self, deadline: float) -> Connection:
        try:
            make_file(self.path)
        except OSError as exc:
            raise OperationalError(
                f"The task store {self.path} cannot be created: {exc.strerror}. Make its directory writable, "
                "or name another file in the broker URL (sqlite:////path/to/file.db)."
            ) from exc
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        try:
            _patiently(lambda: schema.prepare(connection, self.path, self.location.synchronous), deadline)
        except BaseException as exc:
            connection.close()
            if isinstance(exc, sqlite3.Error):
                raise explain(exc, self.path) from exc
            raise
        self._file = identity(self.path)
        return connection


class Transaction:
    """One transaction, as a context manager that yields the connection.

    Commits at the end, rolls back on any exception; errors of the library become `OperationalError`.
    """

    __slots__ = ("_connection", "_database", "_deadline", "_writes")

    def __init__(self, database: Database, timeout: float, *, writes: bool) -> None:
        self._database = database
        self._deadline = time.monotonic() + timeout
        self._writes = writes

    def __enter__(self) -> Connection:
        database, deadline = self._database, self._deadline
        if self._writes and not database._writing.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise _locked(database.path)
        try:
            self._connection = database.take(deadline)
            if self._writes:
                _hurry()
        except BaseException:
            if self._writes:
                database._writing.release()
            raise
        try:
            _begin(self._connection, "BEGIN IMMEDIATE" if self._writes else "BEGIN", deadline)
        except BaseException as exc:
            self._finish()
            if isinstance(exc, sqlite3.Error):
                raise explain(exc, database.path) from exc
            raise
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                if failpoints.on and self._writes:
                    failpoints.passed("sent")
                try:
                    self._connection.execute("COMMIT")
                except sqlite3.Error as failure:
                    raise explain(failure, self._database.path) from failure
                if failpoints.on and self._writes:
                    failpoints.passed("done")
        finally:
            self._finish()
        if isinstance(exc, sqlite3.Error):
            raise explain(exc, self._database.path) from exc

    def _finish(self) -> None:
        connection = self._connection
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
                self._database.queue_ids.clear()  # one of them may have been rolled back
            self._database.give(connection)
        except sqlite3.Error:
            connection.close()  # broken beyond a rollback; closing gives up its locks
        finally:
            if self._writes:
                _relax()
                self._database._writing.release()


# -- waiting -----------------------------------------------------------------------------------------------


def _begin(connection: Connection, statement: str, deadline: float) -> None:
    try:
        connection.execute(statement)
    except sqlite3.OperationalError as exc:
        if not _is_busy(exc):
            raise
        _patiently(lambda: connection.execute(statement), deadline)


def _patiently(attempt: Callable[[], object], deadline: float) -> None:
    """Repeat `attempt` while the store is locked; naps grow from 50 µs to 1 ms, in the long run to 5 ms."""
    nap = 0.00005
    while True:
        try:
            attempt()
            return
        except sqlite3.OperationalError as exc:
            if not _is_busy(exc) or time.monotonic() >= deadline:
                raise
        time.sleep(nap)
        nap = min(nap * 1.5, 0.001) if nap < 0.001 else min(nap * 1.01, 0.005)


def _is_busy(exc: sqlite3.Error) -> bool:
    return exc.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


_hurrying = 0
_relaxed_interval = 0.005
_hurry_lock = threading.Lock()


def _hurry() -> None:
    """Let threads change places quickly while somebody holds the write lock of a store."""
    global _hurrying, _relaxed_interval
    with _hurry_lock:
        if _hurrying == 0:
            _relaxed_interval = sys.getswitchinterval()
            sys.setswitchinterval(min(_relaxed_interval, _SWITCH_INTERVAL))
        _hurrying += 1


def _relax() -> None:
    global _hurrying
    with _hurry_lock:
        _hurrying -= 1
        if _hurrying == 0:
            sys.setswitchinterval(_relaxed_interval)


# -- errors ------------------------------------------------------------------------------------------------


def _locked(path: str) -> OperationalError:
    return OperationalError(
        f"The task store {path} stayed locked by another process until the deadline, and nothing was stored. "
        f"Find who holds it (fuser {path}): a stopped process has to be continued or ended. If it is only "
        "busy, raise ?timeout= in the URL."
    )


_CHECK_MODE: Final = "It cannot be written. Check owner and mode of the file and of its directory"
_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "The disk is full. Free some space; nothing of this transaction was stored",
    sqlite3.SQLITE_READONLY: _CHECK_MODE,
    sqlite3.SQLITE_PERM: _CHECK_MODE,
    sqlite3.SQLITE_CANTOPEN: "It cannot be opened. Check that its directory exists and is writable",
    sqlite3.SQLITE_IOERR: "The disk reported an error. Look into the system's log before you go on",
    sqlite3.SQLITE_CORRUPT: "It is damaged. Stop all workers, keep a copy, and try `sqlite3 FILE .recover`",
    sqlite3.SQLITE_NOTADB: "It is no SQLite database. Name another file in the URL, or move this one away",
}


def explain(exc: sqlite3.Error, path: str) -> OperationalError:
    """The error for a person: what happened, why, what to do next."""
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _locked(path)
    advice = _ADVICE.get(code, "This is unexpected; the transaction was rolled back")
    return OperationalError(f"The task store {path} failed: {exc}. {advice}.")


def library_version() -> str:
    return sqlite3.sqlite_version


# -- one database per file and process ---------------------------------------------------------------------

_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_shared: weakref.WeakValueDictionary[Location, Database] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()
_abandoned: list[list[Connection]] = []  # connections of parent processes


def database(url: str, options: Mapping[str, Any]) -> Database:
    """The `Database` of `url` in this process; made on first use, opened when first used."""
    location = Location.parse(url, options)
    with _shared_lock:
        found = _shared.get(location)
        if found is None:
            found = _shared[location] = Database(location)
        return found


def _after_fork() -> None:
    global _shared_lock, _hurry_lock, _hurrying
    _shared_lock, _hurry_lock = threading.Lock(), threading.Lock()
    if _hurrying:
        _hurrying = 0
        sys.setswitchinterval(_relaxed_interval)
    for each in list(_databases):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
