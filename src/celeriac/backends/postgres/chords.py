"""Chords in PostgreSQL: `PostgresChords`, one call of an SQL function per batch (`sql/chords.sql`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from celeriac.backends.base import Chord, Opening, Part
from celeriac.transport.postgres.link import Rows
from celeriac.transport.postgres.pool import Pool
from celeriac.transport.postgres.values import (
    Param,
    bytea,
    byteas,
    float8s,
    int8,
    int8s,
    integer,
    name_key,
)

__all__ = ["PostgresChords"]

_OPEN: Final = "SELECT {s}chord_open($1, $2, $3, $4)"
_SEAL: Final = "UPDATE {s}chord SET size = $2 WHERE key = $1"
_GROW: Final = "SELECT {s}chord_grow($1, $2)"
_ARRIVE: Final = "SELECT * FROM {s}chord_arrive($1, $2, $3, $4, $5, $6, $7)"
_CLOSE: Final = "SELECT {s}chord_close($1)"
_EXPIRE: Final = "SELECT {s}chord_expire($1)"
_LOAD: Final = """
    SELECT c.size + c.grown, c.body, p.payload FROM {s}chord c LEFT JOIN {s}chord_part p ON p.chord = c.id
    WHERE c.key = $1 AND NOT c.closed AND (c.expires IS NULL OR c.expires > clock_timestamp())
    ORDER BY p.position, p.place"""
#: The position of members that have none.
_LAST: Final = (1 << 63) - 1


class PostgresChords:
    """See `ChordStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        sql = pool.server.sql
        self._open, self._seal, self._grow, self._arrive, self._load, self._close, self._expire = (
            sql(each).encode() for each in (_OPEN, _SEAL, _GROW, _ARRIVE, _LOAD, _CLOSE, _EXPIRE)
        )

    def open_chords(self, openings: Sequence[Opening]) -> None:
        if openings:
            self._call(
                self._open,
                byteas([name_key(each.chord_id) for each in openings]),
                int8s([each.size for each in openings]),
                byteas([each.body for each in openings]),
                float8s([each.ttl for each in openings]),
            )

    def seal_chord(self, chord_id: str, size: int) -> None:
        self._call(self._seal, bytea(name_key(chord_id)), int8(size))

    def grow_chord(self, chord_id: str, ids: Sequence[str]) -> None:
        self._call(self._grow, bytea(name_key(chord_id)), byteas([name_key(each) for each in ids]))

    def arrive(self, parts: Sequence[Part]) -> Sequence[bool]:
        if not parts:
            return []
        keys = [name_key(part.chord_id) for part in parts]
        ids = [name_key(part.task_id) for part in parts]
        rows = self._call(
            self._arrive,
            byteas(keys),
            byteas(ids),
            int8s([_LAST if part.position is None else int(part.position * 2) for part in parts]),
            byteas([part.payload for part in parts]),
            int8s([part.size for part in parts]),
            float8s([part.ttl for part in parts]),
            int8s([int(part.extra) for part in parts]),
        )
        closers: dict[bytes | None, bytes | None] = dict(rows)  # type: ignore[arg-type]
        return [closers[key] == task_id for key, task_id in zip(keys, ids, strict=True)]

    def load_chord(self, chord_id: str) -> Chord | None:
        rows = self._call(self._load, bytea(name_key(chord_id)))
        if not rows:
            return None
        payloads = [payload for _, _, payload in rows if payload is not None]
        return Chord(integer(rows[0][0]), rows[0][1], payloads)

    def close_chord(self, chord_id: str) -> None:
        self._call(self._close, bytea(name_key(chord_id)))

    def expire(self, limit: int) -> int:
        """Delete what has expired, `limit` chords in one transaction; how many."""
        total = 0
        while True:
            ((found,),) = self._call(self._expire, int8(limit))
            total += integer(found)
            if integer(found) < limit:
                return total

    def _call(self, sql: bytes, *params: Param) -> Rows:
        return self._pool.run(lambda link, deadline: link.query(sql, params, deadline=deadline))
