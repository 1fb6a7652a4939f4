"""Many rows in few steps.

Python gives up the interpreter at every step of the library. A thread that works beside a busy task gets it
back late, and holds the write lock meanwhile; so a batch must not be a statement per row.

1. `values`: one INSERT of several rows at a time.
2. `numbers`: a list of integers as one parameter, for `IN (SELECT value FROM json_each(?))`.
3. `delete`: rows by number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from celeriac.transport.sqlite import Connection

__all__ = ["delete", "numbers", "values"]

#: Rows per statement: a few sizes, so that the statements stay in the connection's cache.
_SIZES: Final = (64, 16, 4, 1)


def values(connection: Connection, insert: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Run `insert` (which ends in VALUES) with `rows`, all of one length."""
    start = 0
    for size in _SIZES:
        while len(rows) - start >= size:
            chunk = rows[start : start + size]
            connection.execute(_statement(insert, size, len(chunk[0])), tuple(chain.from_iterable(chunk)))
            start += size


@lru_cache(maxsize=256)
def _statement(insert: str, rows: int, columns: int) -> str:
    row = f"({','.join('?' * columns)})"
    return f"{insert} {','.join([row] * rows)}"


def numbers(ids: Iterable[int]) -> str:
    """Example:
    >>> numbers([3, 4])
    '[3,4]'
    """
    return f"[{','.join(map(str, ids))}]"


def delete(connection: Connection, table: str, column: str, ids: Sequence[int]) -> None:
    """Delete the rows of `table` whose `column` is one of `ids`."""
    if len(ids) == 1:
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (ids[0],))
    elif ids:
        connection.execute(
            f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", (numbers(ids),)
        )
