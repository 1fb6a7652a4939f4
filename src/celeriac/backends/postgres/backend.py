"""Results in PostgreSQL, in tables of our own, beside the messages if these are there as well.

`PostgresBackend`: the seam. Who is told, and how: `hub.py`; chords: `chords.py`. URL and options as of the
broker (`transport/postgres/url.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from celeriac.backends.base import BackendCapabilities, ResultTarget, StoredResult
from celeriac.backends.postgres.chords import PostgresChords
from celeriac.backends.postgres.hub import Hub, PostgresWatch
from celeriac.transport.postgres.link import Link
from celeriac.transport.postgres.pool import pool
from celeriac.transport.postgres.results import ResultTable
from celeriac.transport.postgres.tables import PostgresTables
from celeriac.transport.postgres.values import NULL, bytea, float8, int8, integer, name_key
from celeriac.utils.batches import sized_batches
from celeriac.utils.perprocess import PerProcess

__all__ = ["PostgresBackend"]

#: Documents, and bytes of documents, that one transaction stores at most.
MOST: Final = 2000
MOST_BYTES: Final = 32 << 20
#: Rows that one transaction of `expire` deletes.
EXPIRE_AT_ONCE: Final = 5000

_SAVE: Final = """
    INSERT INTO {s}saved_group (key, document, expires)
    VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')
    ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, document = excluded.document"""
_LOAD: Final = """
    SELECT document FROM {s}saved_group WHERE key = $1 AND (expires IS NULL OR expires > clock_timestamp())"""
_DELETE: Final = "DELETE FROM {s}saved_group WHERE key = $1"
_EXPIRE: Final = """
    WITH gone AS (
        DELETE FROM {s}%s WHERE key IN (
            SELECT key FROM {s}%s WHERE expires <= clock_timestamp() LIMIT $1 FOR UPDATE SKIP LOCKED
        ) RETURNING 1
    ) SELECT count(*) FROM gone"""


class PostgresBackend:
    """See `celeriac.backends.base.ResultBackend`.

    Example:
        >>> PostgresBackend("postgresql://user:secret@db/shop", {}).describe()
        'PostgreSQL (db/shop)'
    """

    capabilities: BackendCapabilities = BackendCapabilities(native_chord=True, compares=True)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._pool = pool(url, options)
        server = self.server = self._pool.server
        self.tables = PostgresTables(server)
        self._table = ResultTable(server)
        self.chords = PostgresChords(self._pool)
        self._save, self._load, self._delete = (server.sql(each).encode() for each in (_SAVE, _LOAD, _DELETE))
        self._expire = [server.sql(_EXPIRE % (name, name)).encode() for name in ("result", "saved_group")]
        self._hub = PerProcess(partial(Hub, self._pool, self._table), Hub.close, keeps=False)

    # -- store, load, forget -------------------------------------------------------------------------------

    def store(self, batch: Sequence[StoredResult]) -> None:
        for some in _portions(batch):
            self._pool.run(partial(self._put, some))

    def _put(self, batch: Sequence[StoredResult], link: Link, deadline: float) -> None:
        self._table.put(link, batch, deadline)

    def store_if(self, batch: Sequence[StoredResult], seen: Mapping[str, bytes]) -> None:
        for some in _portions(batch):
            self._pool.run(partial(self._put_if, some, seen))

    def _put_if(
        self, batch: Sequence[StoredResult], seen: Mapping[str, bytes], link: Link, deadline: float
    ) -> None:
        self._table.put_if(link, batch, seen, deadline)

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        if not ids:
            return {}
        return self._pool.run(lambda link, deadline: self._table.get(link, ids, deadline))

    def forget(self, ids: Sequence[str]) -> None:
        if ids:
            self._pool.run(lambda link, deadline: self._table.forget(link, ids, deadline))

    def watch(self, ids: Iterable[str] = ()) -> PostgresWatch:
        return PostgresWatch(self._hub(), ids)

    def target(self) -> ResultTarget | None:
        return ResultTarget(self.server.location)

    # -- groups --------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None:
        expiry = NULL if ttl is None else float8(ttl)
        params = (bytea(name_key(group_id)), bytea(document), expiry)
        self._pool.run(lambda link, deadline: link.query(self._save, params, deadline=deadline))

    def load_group(self, group_id: str) -> bytes | None:
        key = (bytea(name_key(group_id)),)
        found = self._pool.run(lambda link, deadline: link.query(self._load, key, deadline=deadline))
        return found[0][0] if found else None

    def delete_group(self, group_id: str) -> None:
        key = (bytea(name_key(group_id)),)
        self._pool.run(lambda link, deadline: link.query(self._delete, key, deadline=deadline))

    # -- the store -----------------------------------------------------------------------------------------

    def expire(self) -> int:
        """Delete results, groups and chords that have expired, in short transactions."""
        return sum(self._expire_all(sql) for sql in self._expire) + self.chords.expire(EXPIRE_AT_ONCE)

    def _expire_all(self, sql: bytes) -> int:
        total, limit = 0, (int8(EXPIRE_AT_ONCE),)
        while True:
            ((found,),) = self._pool.run(lambda link, deadline: link.query(sql, limit, deadline=deadline))
            count = integer(found)
            total += count
            if count < EXPIRE_AT_ONCE:
                return total

    def describe(self) -> str:
        return f"PostgreSQL ({self.server.where})"

    def close(self) -> None:
        self._hub.close()
        self._pool.close()


def _portions(batch: Sequence[StoredResult]) -> Iterable[Sequence[StoredResult]]:
    """Parts that one transaction can carry."""
    return sized_batches(batch, lambda each: len(each.document), most=MOST, most_bytes=MOST_BYTES)
