"""Results in MongoDB, in Celery's collections, through pymongo.

`MongoBackend`: the seam over `client.py` and `rows.py`. It cannot push (change streams need a replica set):
whoever waits polls (`backends/polling.py`). Documents of ours are deleted by an index of the server, those of
Celery's workers by `expire`, by the date they were done.

URL: MongoDB's own, ``mongodb://`` or ``mongodb+srv://``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from celeriac import states
from celeriac.backends.base import BackendCapabilities, ResultTarget, StoredResult
from celeriac.backends.chords import KeyValueChords
from celeriac.backends.mongodb import rows
from celeriac.backends.mongodb.client import Collections, options_of
from celeriac.backends.polling import PollingWatch, Seen
from celeriac.exceptions import EncodeError
from celeriac.utils.perprocess import PerProcess

__all__ = ["MongoBackend"]

logger = logging.getLogger("celeriac.backend")


class MongoBackend:
    """See `celeriac.backends.base.ResultBackend`.

    Options: the settings `mongodb_backend_settings`, `result_serializer`, `result_compression` and
    `result_expires` under their names.

    Example:
        >>> MongoBackend("mongodb://user:secret@db-1/jobs", {}).describe()
        'mongodb://db-1/jobs'
    """

    capabilities: BackendCapabilities = BackendCapabilities(push=False, verbatim=False, native_chord=True)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._options = options_of(url, options.get("mongodb_backend_settings"))
        self._serializer = str(options.get("result_serializer") or "json")
        self._method: str | None = options.get("result_compression")
        self._expires: float | None = options.get("result_expires")
        self._collections = PerProcess(partial(Collections, self._options), Collections.close)
        self.chords = KeyValueChords(_Chords(self._collections, self._options.chords), "")

    # -- store, load, forget -------------------------------------------------------------------------------

    def store(self, batch: Sequence[StoredResult]) -> None:
        if not batch:
            return
        found: dict[str, dict[str, Any]] = {}
        for task_id, document, ttl, _ in batch:
            found[task_id] = _until(ttl, rows.row_of(task_id, document, self._serializer, self._method))
        refused = self._collections().put(self._options.tasks, list(found.values()))
        if refused:
            self._put_failures(refused, found)

    def _put_failures(self, refused: Mapping[str, str], found: Mapping[str, Mapping[str, Any]]) -> None:
        """What one document is guilty of must not make its task run for ever."""
        failures = []
        for task_id, reason in refused.items():
            logger.error("The result of task %s was refused by its store: %s", task_id, reason)
            failure = rows.refused(task_id, reason, self._serializer)
            expires = found[task_id].get(rows.EXPIRES)
            failures.append(failure if expires is None else {**failure, rows.EXPIRES: expires})
        for task_id, reason in self._collections().put(self._options.tasks, failures).items():
            logger.error("Nothing can be stored of task %s: %s", task_id, reason)

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        return {task_id: seen.document for task_id, seen in self._look(ids).items()}

    def _look(self, ids: Sequence[str]) -> Mapping[str, Seen]:
        if not ids:
            return {}
        return {
            row["_id"]: Seen(
                rows.document_of(row, self._serializer), row.get("status") in states.READY_STATES
            )
            for row in self._collections().get(self._options.tasks, ids)
        }

    def forget(self, ids: Sequence[str]) -> None:
        self._collections().delete(self._options.tasks, ids)

    def watch(self, ids: Iterable[str] = ()) -> PollingWatch:
        return PollingWatch(self._look, ids)

    def target(self) -> ResultTarget | None:
        return None

    # -- groups --------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None:
        """Raises `EncodeError` when the database does not take it."""
        row = _until(ttl, rows.group_row_of(group_id, document, self._serializer, self._method))
        refused = self._collections().put(self._options.groups, [row])
        if refused:
            raise EncodeError(f"The group {group_id} cannot be saved: {refused[group_id]}")

    def load_group(self, group_id: str) -> bytes | None:
        found = self._collections().get(self._options.groups, [group_id])
        return rows.document_of_group(found[0], self._serializer) if found else None

    def delete_group(self, group_id: str) -> None:
        self._collections().delete(self._options.groups, [group_id])

    # -- the store -----------------------------------------------------------------------------------------

    def expire(self) -> int:
        """Delete what has expired, and what Celery's workers stored longer than `result_expires` ago."""
        before = datetime.now(UTC) - timedelta(seconds=self._expires) if self._expires else None
        names = (self._options.tasks, self._options.groups, self._options.chords)
        return sum(self._collections().expire(name, before) for name in names)

    def describe(self) -> str:
        return self._options.place

    def close(self) -> None:
        self._collections.close()


class _Chords:
    """See `celeriac.backends.chords.KeyValues`: a collection of its own, of which Celery knows nothing."""

    def __init__(self, collections: Callable[[], Collections], name: str) -> None:
        self._collections = collections
        self._name = name

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return {row["_id"]: row["value"] for row in self._collections().get(self._name, keys)}

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        row = _until(ttl, {"_id": key, "value": value})
        for reason in self._collections().put(self._name, [row]).values():
            raise EncodeError(f"The member of a chord cannot be stored: {reason}")

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        return self._collections().add(self._name, _until(ttl, {"_id": key, "value": value}))

    def delete(self, keys: Sequence[str]) -> None:
        self._collections().delete(self._name, keys)


def _until(ttl: float | None, row: dict[str, Any]) -> dict[str, Any]:
    if ttl is not None:
        row[rows.EXPIRES] = datetime.now(UTC) + timedelta(seconds=ttl)
    return row
