"""Result documents in PostgreSQL; what its broker and its result store have in common.

1. `arguments`: a batch as the three parameters of the SQL function ``{s}store`` (`sql/results.sql`), which
   stores it inside whatever transaction it is called in, and tells those who wait after the commit.
2. `ResultTable`: documents put, found and forgotten, a statement each.
3. `mark`: what a notification calls a task id.

Not here: listening (`backends/postgres/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from celeriac.transport.documents import Document
from celeriac.transport.postgres.link import Link
from celeriac.transport.postgres.url import Server
from celeriac.transport.postgres.values import Param, byteas, float8s, name_key

__all__ = ["ResultTable", "arguments", "mark"]

_PUT: Final = "SELECT {s}store($1, $2, $3)"
#: The same for documents that nobody has changed since they were seen ($4; NULL: there was none).
_PUT_IF: Final = """
    WITH given AS (
        SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::float8[], $4::bytea[])
            AS g(key, document, ttl, seen)
    ), changed AS (
        UPDATE {s}result r
        SET document = g.document, expires = clock_timestamp() + g.ttl * interval '1 second'
        FROM given g WHERE r.key = g.key AND r.document = g.seen RETURNING r.key
    ), added AS (
        INSERT INTO {s}result AS r (key, expires, document)
        SELECT g.key, clock_timestamp() + g.ttl * interval '1 second', g.document
        FROM given g WHERE g.seen IS NULL
        ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, document = excluded.document
        WHERE r.expires <= clock_timestamp() RETURNING r.key
    )
    SELECT pg_notify(w.channel, substr(encode(sha256(stored.key), 'hex'), 1, 12))
    FROM {s}watcher w, (SELECT key FROM changed UNION ALL SELECT key FROM added) stored
    WHERE w.expires > clock_timestamp()"""
_GET: Final = """
    SELECT key, document FROM {s}result
    WHERE key = ANY($1) AND (expires IS NULL OR expires > clock_timestamp())"""
_FORGET: Final = "DELETE FROM {s}result WHERE key = ANY($1)"


def arguments(batch: Sequence[Document]) -> tuple[Param, Param, Param]:
    """Keys, documents and times to live, as ``{s}store`` takes them."""
    return (
        byteas([name_key(each.task_id) for each in batch]),
        byteas([each.document for each in batch]),
        float8s([each.ttl for each in batch]),
    )


def mark(task_id: str) -> str:
    """What notifications call a task: 12 hexadecimal digits.

    Example:
        >>> mark("a")
        'ca978112ca1b'
    """
    return sha256(name_key(task_id)).hexdigest()[:12]


class ResultTable:
    """The table of one store, over links that callers bring.

    Args:
        server: where the tables are.
    """

    def __init__(self, server: Server) -> None:
        statements = (_PUT, _PUT_IF, _GET, _FORGET)
        self._put, self._put_if, self._get, self._forget = (server.sql(each).encode() for each in statements)

    def put(self, link: Link, batch: Sequence[Document], deadline: float) -> None:
        """Store `batch`; the last of several documents of one id counts."""
        link.query(self._put, arguments(batch), deadline=deadline)

    def put_if(
        self, link: Link, batch: Sequence[Document], seen: Mapping[str, bytes], deadline: float
    ) -> None:
        """Store those whose document is still the one in `seen` (absent there: none). Each id occurs once."""
        before = byteas([seen.get(each.task_id) for each in batch])
        link.query(self._put_if, (*arguments(batch), before), deadline=deadline)

    def get(self, link: Link, ids: Sequence[str], deadline: float) -> Mapping[str, bytes]:
        """Documents of `ids` that are stored and have not expired."""
        names = {name_key(task_id): task_id for task_id in ids}
        rows = link.query(self._get, (byteas(list(names)),), deadline=deadline)
        return {names[key or b""]: document or b"" for key, document in rows}

    def forget(self, link: Link, ids: Sequence[str], deadline: float) -> None:
        link.query(self._forget, (byteas([name_key(task_id) for task_id in ids]),), deadline=deadline)
