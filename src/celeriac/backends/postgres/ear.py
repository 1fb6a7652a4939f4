"""The connection on which a process hears of results in PostgreSQL, for one thread.

`Ear`: it listens and is registered as a listener, and it knows when to look all the same.

A notification sent to ourselves by way of another connection shows whether anything is heard. Behind a pooler
that changes connections (pgbouncer in transaction mode) nothing is, but by accident, together with the answer
to a question; so only what comes unasked counts. Then, and with the option ``listen=off``, looking is all
there is: ever more slowly, up to `POLL`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final

from celeriac.exceptions import OperationalError
from celeriac.transport.alarm import Alarm
from celeriac.transport.postgres.link import Link, Note
from celeriac.transport.postgres.pool import Pool
from celeriac.transport.postgres.results import ResultTable
from celeriac.transport.postgres.values import Param, float8, text

__all__ = ["Ear"]

#: Seconds for which our row says that we listen; it is renewed after a third.
LEASE: Final = 60.0
#: Seconds between two looks although nothing was heard: while we know that we hear; otherwise, at most.
SLOW_POLL: Final = 10.0
POLL: Final = 0.25
#: Seconds after the beginning at which to look once more.
EARLY: Final = (0.05, 0.25, 1.0)
#: Seconds between two probes: after the first one, doubled while nothing is heard, and at most.
PROBE_AGAIN: Final = 0.5
PROBE_EVERY: Final = 30.0
#: Seconds after which whoever has nothing to wait for looks around.
REST: Final = 2.5

_REGISTER: Final = """
    INSERT INTO {s}watcher (channel, expires) VALUES ($1, clock_timestamp() + $2 * interval '1 second')
    ON CONFLICT (channel) DO UPDATE SET expires = excluded.expires"""
_CLEAN: Final = "DELETE FROM {s}watcher WHERE channel = $1 OR expires < clock_timestamp()"

_monotonic = time.monotonic


class Ear:
    """Args:
    pool: of the store.
    """

    def __init__(self, pool: Pool) -> None:
        server = pool.server
        self._pool = pool
        self._channel = server.channel(f"r.{os.getpid():x}.{secrets.token_hex(5)}")
        self._register = server.sql(_REGISTER).encode()
        self._clean = server.sql(_CLEAN).encode()
        self._listens = server.listen != "off"
        self._link: Link | None = None
        self._heard_until = 0.0  # until then we count as hearing
        self._probe_at = 0.0
        self._probe_gap = PROBE_AGAIN
        self._renew_at = 0.0
        self._pause = 0.01
        self._early: list[float] = []
        self._next_look = 0.0

    def open(self) -> None:
        now = _monotonic()
        self._link = self._pool.open(now + self._pool.server.timeout)
        if self._listens:
            self._ask(f'LISTEN "{self._channel}"'.encode())
            self._renew()
            self._probe()
            self._early = [now + each for each in EARLY]
        self.hurry()

    def close(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        if self._listens and not link.closed:
            with contextlib.suppress(OperationalError):  # the row lapses by itself
                link.query(self._clean, (text(self._channel),), deadline=_monotonic() + 1.0)
        link.close()

    def load(self, table: ResultTable, ids: list[str]) -> Mapping[str, bytes]:
        return table.get(self._open_link(), ids, self._until())

    def hurry(self) -> None:
        """There is something to wait for now: look soon, where looking is all we can do."""
        self._pause = 0.01
        self._next_look = _monotonic() + self._patience()

    def hear(self, bell: Alarm, *, waiting: bool) -> tuple[list[str], bool]:
        """Wait for notifications or the bell; what was heard, and whether to look at everything."""
        link = self._open_link()
        names = self._own(link.notes())
        if names is None:
            bell.wait(max(0.0, self._wake_at(waiting) - _monotonic()), link.fileno())
            bell.clear()
            names = self._own(link.notes())
            if names is not None:
                self._heard_until = _monotonic() + 2 * PROBE_EVERY
        now = _monotonic()
        if self._listens and now >= self._renew_at:
            self._renew()
        if self._listens and now >= self._probe_at:
            self._probe()
        return names or [], self._time_to_look(now)

    def _own(self, notes: Sequence[Note]) -> list[str] | None:
        """What notifications for us say; None when there is none."""
        own = [note for note in notes if note.channel == self._channel]
        return (
            [name for note in own for name in note.payload.decode("ascii", "replace").split()]
            if own
            else None
        )

    def _wake_at(self, waiting: bool) -> float:
        if not waiting:
            return _monotonic() + REST
        return min([self._next_look, self._probe_at, *self._early] if self._listens else [self._next_look])

    def _time_to_look(self, now: float) -> bool:
        early = [each for each in self._early if each > now]
        due = now >= self._next_look or len(early) < len(self._early)
        self._early = early
        if now >= self._next_look:
            self._pause = min(self._pause * 1.5, POLL)
            self._next_look = now + self._patience()
        return due

    def _patience(self) -> float:
        return SLOW_POLL if self._heard_until > _monotonic() else self._pause

    def _renew(self) -> None:
        self._ask(self._register, text(self._channel), float8(LEASE))
        self._renew_at = _monotonic() + LEASE / 3

    def _probe(self) -> None:
        """By way of another connection: our own would hear itself even behind a pooler."""
        now = _monotonic()
        self._probe_gap = PROBE_EVERY if self._heard_until > now else min(2 * self._probe_gap, PROBE_EVERY)
        self._probe_at = now + self._probe_gap
        self._pool.query(b"SELECT pg_notify($1, '')", (text(self._channel),))

    def _ask(self, sql: bytes, *params: Param) -> None:
        self._open_link().query(sql, params, deadline=self._until())

    def _open_link(self) -> Link:
        assert self._link is not None
        return self._link

    def _until(self) -> float:
        return _monotonic() + self._pool.server.timeout
