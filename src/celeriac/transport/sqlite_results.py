"""Result documents in the embedded store; what its broker and its result backend have in common.

1. `put`: stores a batch inside a transaction and says who waits; `tell` rings them after the commit.
2. `get`: documents by id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from celeriac.transport.bells import ring
from celeriac.transport.bulk import values
from celeriac.transport.documents import Document
from celeriac.transport.sqlite import Connection, Database
from celeriac.utils.batches import batches

__all__ = ["News", "get", "put", "tell"]

#: Ids that one ring carries; a datagram has to stay well below the system's limit.
_PER_RING = 500


class News(NamedTuple):
    """Who is to be told of what, once it is committed."""

    bells: Sequence[str]
    ids: Sequence[str]


def put(connection: Connection, batch: Sequence[Document], now: int) -> News:
    """Store `batch`; `now` in microseconds. The last of several documents of one id counts."""
    if not batch:
        return News((), ())
    values(
        connection,
        "INSERT OR REPLACE INTO result (task_id, document, expires) VALUES",
        [
            (each.task_id, each.document, None if each.ttl is None else now + int(each.ttl * 1_000_000))
            for each in batch
        ],
    )
    bells = [bell for (bell,) in connection.execute("SELECT bell FROM watcher")]
    return News(bells, [each.task_id for each in batch] if bells else ())


def tell(database: Database, news: News) -> None:
    """Ring the bells of those who wait; forget those who are gone."""
    gone = []
    for bell in news.bells:
        for some in batches(news.ids, _PER_RING):
            if not ring(database.wake_folder, bell, "\n".join(some).encode()):
                gone.append((bell,))
                break
    if gone:
        with database.write() as connection:
            connection.executemany("DELETE FROM watcher WHERE bell = ?", gone)


def get(connection: Connection, ids: Sequence[str], now: int) -> Mapping[str, bytes]:
    """Documents of `ids` that are stored and have not expired; `now` in microseconds."""
    if len(ids) == 1:
        rows = connection.execute(
            "SELECT task_id, document FROM result WHERE task_id = ? AND (expires IS NULL OR expires > ?)",
            (ids[0], now),
        )
    else:
        rows = connection.execute(
            "SELECT task_id, document FROM json_each(?) wanted CROSS JOIN result ON task_id = wanted.value"
            " WHERE expires IS NULL OR expires > ?",
            (json.dumps(ids), now),
        )
    return dict(rows.fetchall())
