"""The schedule file: when each entry ran last, across restarts.

1. One SQLite file, written after each run. What a process wrote before it was killed is there; what the
   machine wrote in its last seconds before the power went may not be.
2. One scheduler at a time: the file is locked while it is open.
3. A file that is damaged, or is not ours (Celery's has the same default name), is moved aside, never deleted.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from celeriac.exceptions import CeleriacError, ImproperlyConfigured
from celeriac.utils.time import utc

__all__ = ["Ran", "ScheduleFile", "ScheduleFileError", "ScheduleFileInUse"]

logger = logging.getLogger("celeriac.beat")

#: SQLite's application_id of our files ("CLRB").
_OURS: Final = 0x434C5242
#: Seconds to wait for another scheduler that is about to stop.
PATIENCE = 5.0
_SELECT: Final = "SELECT name, last_run_at, total_run_count FROM entries"
_COMPANIONS: Final = ("-wal", "-shm", "-journal")
_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS entries (
        name TEXT PRIMARY KEY,
        last_run_at TEXT NOT NULL,
        total_run_count INTEGER NOT NULL
    ) WITHOUT ROWID
"""


class ScheduleFileError(CeleriacError):
    """The schedule file could not be written."""


class ScheduleFileInUse(ImproperlyConfigured):
    """Another scheduler has the schedule file open."""


class Ran(NamedTuple):
    """When (UTC) and how often an entry was sent."""

    last_run_at: datetime
    total_run_count: int


class ScheduleFile:
    """The schedule file, open and locked from `open` to `close`.

    Args:
        path: where it is; made when it is not there.
        patience: seconds to wait for another scheduler that is about to stop; by default 5.
    """

    def __init__(self, path: str | os.PathLike[str], patience: float | None = None) -> None:
        self.path = Path(path)
        self.patience = PATIENCE if patience is None else patience
        self._db: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open and lock the file.

        Raises:
            ScheduleFileInUse: another scheduler has it.
            ImproperlyConfigured: it cannot be made or read there.
        """
        try:
            self._db = self._connect()
        except sqlite3.DatabaseError as exc:
            if isinstance(exc, sqlite3.OperationalError):
                raise self._refused(exc) from exc
            self._move_aside(str(exc))
            self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=self.patience, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("BEGIN EXCLUSIVE")
            self._recognise(db)
            db.execute(f"PRAGMA application_id = {_OURS}")
            db.execute(_TABLE)
            db.execute("COMMIT")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            db.close()
            raise
        return db

    def _recognise(self, db: sqlite3.Connection) -> None:
        """Raise DatabaseError unless the file is new, or ours and whole."""
        (mark,) = db.execute("PRAGMA application_id").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if mark != _OURS and (mark or tables):
            raise sqlite3.DatabaseError("it was made by another program")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict))
        for row in db.execute(_SELECT) if tables else ():
            _read(row)

    def _refused(self, exc: sqlite3.OperationalError) -> ImproperlyConfigured:
        if "locked" in str(exc):
            return ScheduleFileInUse(
                f"The schedule file {self.path} is in use: another scheduler is running on it. Two "
                "schedulers send everything twice; stop the other, or give this one its own file (-s)."
            )
        return ImproperlyConfigured(
            f"The schedule file {self.path.absolute()} cannot be opened: {exc}. Its folder must exist and be "
            "writable; name another file with -s or beat_schedule_filename."
        )

    def _move_aside(self, reason: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.aside-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")
        for suffix in ("", *_COMPANIONS):
            part = Path(f"{self.path}{suffix}")
            if part.exists():
                part.rename(f"{aside}{suffix}")
        logger.error(
            "The schedule file %s cannot be used (%s). It was moved to %s; a new one is begun, and every "
            "entry counts from now.",
            self.path,
            reason,
            aside,
        )

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise ScheduleFileError(f"The schedule file {self.path} is not open.")
        return self._db

    def load(self) -> dict[str, Ran]:
        """Everything that is written down."""
        with closing(self._connection.execute(_SELECT)) as rows:
            return dict(map(_read, rows))

    def save(self, runs: Mapping[str, Ran]) -> None:
        """Write down the runs of these entries, all or none.

        Raises:
            ScheduleFileError: the disk is full, or the file is gone bad.
        """
        rows = [(name, utc(ran.last_run_at).isoformat(), ran.total_run_count) for name, ran in runs.items()]
        self._write("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)

    def forget(self, names: Iterable[str]) -> None:
        """Drop entries that are no longer scheduled."""
        self._write("DELETE FROM entries WHERE name = ?", [(name,) for name in names])

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        db = self._connection
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                db.executemany(statement, rows)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except sqlite3.Error as exc:
            raise ScheduleFileError(f"The schedule file {self.path} cannot be written: {exc}.") from exc

    def close(self) -> None:
        """Unlock and close. Idempotent."""
        if self._db is not None:
            self._db.close()
            self._db = None


def _read(row: tuple[str, str, int]) -> tuple[str, Ran]:
    name, last_run_at, count = row
    try:
        return name, Ran(utc(datetime.fromisoformat(last_run_at)), int(count))
    except (TypeError, ValueError) as exc:
        raise sqlite3.DatabaseError(f"entry {name!r} holds {last_run_at!r}") from exc
