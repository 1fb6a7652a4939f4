"""Results in an SQL database, in Celery's tables, through SQLAlchemy.

`DatabaseBackend`: the seam over `engine.py` and `rows.py`. It cannot push: whoever waits polls
(`backends/polling.py`). Results do not expire by themselves: `expire` deletes those that are older than
`result_expires`; beat sends `celery.backend_cleanup` every night, and workers look every hour.

URL: ``db+`` and SQLAlchemy's URL, e.g. ``db+postgresql://user:password@host/name``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from celeriac import states
from celeriac.backends.base import BackendCapabilities, ResultTarget, StoredResult
from celeriac.backends.chords import KeyValueChords
from celeriac.backends.database import rows
from celeriac.backends.database.engine import RowRefused, Tables
from celeriac.backends.database.options import Options
from celeriac.backends.database.rows import Shape, TaskRow
from celeriac.backends.polling import PollingWatch, Seen
from celeriac.exceptions import ImproperlyConfigured
from celeriac.utils.perprocess import PerProcess
from celeriac.utils.time import as_timezone, local_timezone

__all__ = ["DatabaseBackend"]

logger = logging.getLogger("celeriac.backend")

#: Characters of an id, a name, a worker, a queue.
WIDTH: Final = 155
#: Seconds that results are kept when nobody says how long.
EXPIRES: Final = 86400.0


class Notes:
    """The keys and values that chords are counted by (`backends/chords.py`).

    Args:
        tables: gives this process's own.
    """

    def __init__(self, tables: Callable[[], Tables]) -> None:
        self._tables = tables

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return self._tables().get_many(keys)

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        self._tables().put_note(key, value, ttl)

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        return self._tables().add(key, value, ttl)

    def delete(self, keys: Sequence[str]) -> None:
        self._tables().delete_notes(keys)


class DatabaseBackend:
    """See `celeriac.backends.base.ResultBackend`.

    Options: the settings `database_*`, `result_serializer`, `result_expires`, `timezone` and `enable_utc`
    under their names; `pickled_results` (the column `result` holds pickles, as Celery up to 5.6 reads them;
    by default when such a version made the table).

    Example:
        >>> import os, tempfile
        >>> from celeriac.backends.base import StoredResult
        >>> file = os.path.join(tempfile.mkdtemp(), "results.db")
        >>> backend = DatabaseBackend(f"db+sqlite:///{file}", {})
        >>> backend.store([StoredResult("id-1", b'{"status": "SUCCESS", "result": 5}')])
        >>> backend.load(["id-1"])["id-1"][:32]
        b'{"status": "SUCCESS", "result": '
        >>> backend.close()
    """

    capabilities: BackendCapabilities = BackendCapabilities(
        push=False, expiry=False, verbatim=False, native_chord=True
    )

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._options = Options(
            _database_url(url, options.get("database_url")),
            options.get("database_engine_options") or {},
            options.get("database_engine_callback"),
            bool(options.get("database_short_lived_sessions")),
            options.get("database_table_names") or {},
            options.get("database_table_schemas") or {},
        )
        self._shape = Shape(str(options.get("result_serializer") or "json"), _zone(options))
        self._pickled: bool | None = options.get("pickled_results")
        self._expires: float | None = options.get("result_expires", EXPIRES)
        self._tables = PerProcess(partial(Tables, self._options), Tables.close)
        self.chords = KeyValueChords(Notes(self._tables))

    # -- store, load, forget -------------------------------------------------------------------------------

    def store(self, batch: Sequence[StoredResult]) -> None:
        if not batch:
            return
        shape = self._written()
        found = {each.task_id: rows.row_of(each.task_id, each.document, shape) for each in batch}
        self._put([self._fitting(row) for row in found.values() if self._has_room(row)], shape)

    def _put(self, batch: Sequence[TaskRow], shape: Shape) -> None:
        """Write; when one row is refused, find it: the others must not suffer for it."""
        try:
            self._tables().put(batch)
        except RowRefused as exc:
            if len(batch) > 1:
                middle = len(batch) // 2
                self._put(batch[:middle], shape)
                self._put(batch[middle:], shape)
                return
            self._put_refused(batch[0], str(exc), shape)

    def _put_refused(self, row: TaskRow, reason: str, shape: Shape) -> None:
        plain = row._replace(
            traceback=_ascii(row.traceback),
            name=_ascii(row.name, WIDTH),
            worker=_ascii(row.worker, WIDTH),
            queue=_ascii(row.queue, WIDTH),
        )
        for attempt in (plain, rows.refused(row, reason, shape)):
            if attempt == row:
                continue
            try:
                self._tables().put([attempt])
            except RowRefused as exc:
                reason = str(exc)
            else:
                if attempt is not plain:
                    logger.error("The result of task %s was refused by its store: %s", row.task_id, reason)
                return
        logger.error("Nothing can be stored of task %s: %s", row.task_id, reason)

    def _has_room(self, row: TaskRow) -> bool:
        if len(row.task_id) <= WIDTH:
            return True
        logger.error(
            "The result of task %.40s… is not stored: its id has %d characters, the table takes %d.",
            row.task_id,
            len(row.task_id),
            WIDTH,
        )
        return False

    def _fitting(self, row: TaskRow) -> TaskRow:
        """Text that every database takes, and for what is no document a date, by which it is deleted."""
        return row._replace(
            date_done=self._now() if row.status is None and row.date_done is None else row.date_done,
            status=_clean(row.status, 50),
            traceback=_clean(row.traceback),
            name=_clean(row.name, WIDTH),
            worker=_clean(row.worker, WIDTH),
            queue=_clean(row.queue, WIDTH),
        )

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        return {task_id: seen.document for task_id, seen in self._look(ids).items()}

    def _look(self, ids: Sequence[str]) -> Mapping[str, Seen]:
        if not ids:
            return {}
        return {
            row.task_id: Seen(rows.document_of(row, self._shape), row.status in states.READY_STATES)
            for row in self._tables().get(ids)
        }

    def forget(self, ids: Sequence[str]) -> None:
        self._tables().delete(ids)

    def watch(self, ids: Iterable[str] = ()) -> PollingWatch:
        return PollingWatch(self._look, ids)

    def target(self) -> ResultTarget | None:
        return None

    # -- groups --------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None:
        column = rows.column_of_group(document, self._written())
        self._tables().put_group(group_id, column, self._now())

    def load_group(self, group_id: str) -> bytes | None:
        column = self._tables().get_group(group_id)
        return None if column is None else rows.document_of_group(column, self._shape)

    def delete_group(self, group_id: str) -> None:
        self._tables().delete_group(group_id)

    # -- the store -----------------------------------------------------------------------------------------

    def expire(self) -> int:
        """Delete what was done longer ago than `result_expires`."""
        notes = self._tables().expire_notes()
        if not self._expires:
            return notes
        return notes + self._tables().expire(self._now() - timedelta(seconds=float(self._expires)))

    def describe(self) -> str:
        return f"db+{self._tables().describe()}"

    def close(self) -> None:
        self._tables.close()

    # -- how -----------------------------------------------------------------------------------------------

    def _written(self) -> Shape:
        """How values are written: as the table's other readers expect."""
        pickled = self._tables().old_layout() if self._pickled is None else self._pickled
        return self._shape._replace(pickled=pickled)

    def _now(self) -> datetime:
        return datetime.now(self._shape.zone).replace(tzinfo=None)


def _database_url(url: str, named: str | None) -> str:
    """SQLAlchemy's URL: what follows ``db+`` or ``database+``; of plain ``db://`` that of `database_url`."""
    scheme, _, rest = url.partition("://")
    dialect = scheme.partition("+")[2]
    if dialect:
        return f"{dialect}://{rest}"
    if not named:
        raise ImproperlyConfigured(
            f"The result backend {scheme!r} does not say which database. Write its URL after 'db+', for "
            "example result_backend = 'db+postgresql://user:password@host/name', or set `database_url`."
        )
    return str(named).removeprefix("db+")


def _zone(options: Mapping[str, Any]) -> Any:
    if options.get("timezone"):
        return as_timezone(options["timezone"])
    return UTC if options.get("enable_utc", True) else local_timezone()


def _clean(text: str | None, width: int | None = None) -> str | None:
    """Without NUL and lone surrogates, and not longer than its column."""
    if text is None:
        return None
    if "\0" in text or not text.isascii():
        text = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return text if width is None else text[:width]


def _ascii(text: str | None, width: int | None = None) -> str | None:
    """What tables take that know no Unicode."""
    return None if text is None else text.encode("ascii", "backslashreplace").decode()[:width]
