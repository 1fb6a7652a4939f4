"""Chords in the embedded store: `SqliteChords`, one transaction per batch. Tables: `transport/schema.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from celeriac.backends.base import Chord, Opening, Part
from celeriac.transport.sqlite import Connection, Database

__all__ = ["SqliteChords"]

_DAY: Final = 86_400

_OPEN: Final = """
    INSERT INTO chord (chord_id, size, body, expires) VALUES (?, ?, ?, ?)
    ON CONFLICT (chord_id) DO UPDATE SET
        size = iif(chord.size = 0, excluded.size, chord.size), body = ifnull(chord.body, excluded.body)
    WHERE closer IS NULL"""
_FIND: Final = """
    SELECT id, size, grown, arrived, closer FROM chord
    WHERE chord_id = ? AND (expires IS NULL OR expires > ?)"""
_ARRIVE: Final = "INSERT OR IGNORE INTO chord_part (chord, task_id, position, payload) VALUES (?, ?, ?, ?)"
_ANNOUNCE: Final = "INSERT OR IGNORE INTO chord_extra (chord, task_id) VALUES (?, ?)"
_FORGET: Final = ("DELETE FROM chord_part WHERE chord = ?", "DELETE FROM chord_extra WHERE chord = ?")
_LOAD: Final = "SELECT payload FROM chord_part WHERE chord = ? ORDER BY position IS NULL, position, id"


class _Row(NamedTuple):
    id: int
    size: int
    grown: int
    arrived: int
    closer: str | None


class SqliteChords:
    """See `ChordStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open_chords(self, openings: Sequence[Opening]) -> None:
        with self._database.write() as connection:
            for chord_id, size, body, ttl in openings:
                self._drop_expired(connection, chord_id)
                connection.execute(_OPEN, (chord_id, size, body, self._until(ttl)))

    def seal_chord(self, chord_id: str, size: int) -> None:
        with self._database.write() as connection:
            connection.execute("UPDATE chord SET size = ? WHERE chord_id = ?", (size, chord_id))

    def grow_chord(self, chord_id: str, ids: Sequence[str]) -> None:
        with self._database.write() as connection:
            row = self._find(connection, chord_id)
            if row is not None and row.closer is None:
                self._announce(connection, row, ids)

    def arrive(self, parts: Sequence[Part]) -> Sequence[bool]:
        by_chord: dict[str, list[Part]] = {}
        for part in parts:
            by_chord.setdefault(part.chord_id, []).append(part)
        if not by_chord:
            return []
        with self._database.write() as connection:
            closers = {
                chord_id: self._arrive(connection, chord_id, some) for chord_id, some in by_chord.items()
            }
        return [closers[part.chord_id] == part.task_id for part in parts]

    def _arrive(self, connection: Connection, chord_id: str, parts: Sequence[Part]) -> str | None:
        """Write the parts down; who is the closer, if there is one."""
        row = self._find(connection, chord_id)
        if row is None:
            size = max(part.size for part in parts)
            if not size:
                return None
            self._drop_expired(connection, chord_id)
            connection.execute(_OPEN, (chord_id, size, None, self._until(parts[0].ttl)))
            row = self._find(connection, chord_id)
            assert row is not None
        if row.closer is not None:
            return row.closer
        row = self._announce(connection, row, [part.task_id for part in parts if part.extra])
        arrived, closer = row.arrived, None
        for part in parts:
            new = (row.id, part.task_id, part.position, part.payload)
            arrived += connection.execute(_ARRIVE, new).rowcount
            if row.size and arrived >= row.size + row.grown:
                closer = part.task_id
                break
        connection.execute(
            "UPDATE chord SET arrived = ?, closer = ?, expires = ? WHERE id = ?",
            (arrived, closer, self._until(parts[0].ttl), row.id),
        )
        return closer

    def load_chord(self, chord_id: str) -> Chord | None:
        with self._database.read() as connection:
            row = self._find(connection, chord_id)
            found = (
                row
                and connection.execute(
                    "SELECT body FROM chord WHERE id = ? AND NOT closed", (row.id,)
                ).fetchone()
            )
            if row is None or found is None:
                return None
            payloads = [payload for (payload,) in connection.execute(_LOAD, (row.id,))]
        return Chord(row.size + row.grown, found[0], payloads)

    def close_chord(self, chord_id: str) -> None:
        with self._database.write() as connection:
            row = self._find(connection, chord_id)
            if row is None:
                return
            for statement in _FORGET:
                connection.execute(statement, (row.id,))
            connection.execute(
                "UPDATE chord SET closed = 1, body = NULL, expires = ifnull(expires, ?) WHERE id = ?",
                (self._until(_DAY), row.id),
            )

    def expire(self, connection: Connection, now: int, limit: int) -> int:
        """Delete `limit` chords at most that expired before `now`; how many."""
        found = connection.execute(
            "SELECT id FROM chord WHERE expires <= ? ORDER BY expires LIMIT ?", (now, limit)
        ).fetchall()
        self._delete(connection, (number for (number,) in found))
        return len(found)

    def _drop_expired(self, connection: Connection, chord_id: str) -> None:
        now = self._database.now()
        found = connection.execute(
            "SELECT id FROM chord WHERE chord_id = ? AND expires <= ?", (chord_id, now)
        ).fetchall()
        self._delete(connection, (number for (number,) in found))

    def _delete(self, connection: Connection, numbers: Iterable[int]) -> None:
        for number in numbers:
            for statement in (*_FORGET, "DELETE FROM chord WHERE id = ?"):
                connection.execute(statement, (number,))

    def _find(self, connection: Connection, chord_id: str) -> _Row | None:
        found = connection.execute(_FIND, (chord_id, self._database.now())).fetchone()
        return None if found is None else _Row(*found)

    def _announce(self, connection: Connection, row: _Row, ids: Sequence[str]) -> _Row:
        """The chord, grown by those of `ids` that it has not grown by yet."""
        new = sum(connection.execute(_ANNOUNCE, (row.id, task_id)).rowcount for task_id in ids)
        if new:
            connection.execute("UPDATE chord SET grown = grown + ? WHERE id = ?", (new, row.id))
        return row._replace(grown=row.grown + new)

    def _until(self, ttl: float | None) -> int | None:
        return None if ttl is None else self._database.now() + int(ttl * 1_000_000)
