"""One listening connection per process and PostgreSQL store, for all who wait for results there.

1. `Hub`: a thread that owns the connection. It begins with the first watch and ends when nobody has waited
   for `IDLE` seconds: a connection that listens and is not read would fill the server's queue.
2. `PostgresWatch`: what arrives of its ids, in a pocket.

A notification names results by the beginnings of their digests and says nothing of what is in them; the
thread loads what is watched, a burst in one trip. New ids are loaded at once, after the listening began, so
that nothing falls between. What a store that did not see our row yet has stored is found by a few looks in
quick succession (`EARLY`) after listening began.

A notification sent to ourselves by way of another connection shows whether anything is heard. Behind a pooler
that changes connections (pgbouncer in transaction mode) nothing is, nor with the option ``listen=off``: then
the thread looks by itself, ever more slowly, up to `POLL`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Final

from celeriac.exceptions import OperationalError
from celeriac.transport.alarm import Alarm
from celeriac.transport.postgres.link import Link, Refused
from celeriac.transport.postgres.pool import Pool, backoff
from celeriac.transport.postgres.results import ResultTable, mark
from celeriac.transport.postgres.values import float8, text

__all__ = ["Hub", "PostgresWatch"]

logger = logging.getLogger("celeriac.backend")

#: Seconds after which the thread ends when there are no ids.
IDLE: Final = 10.0
#: Seconds for which our row says that we listen; it is renewed after a third.
LEASE: Final = 60.0
#: Seconds between two looks although nothing was heard: while we know that we hear; otherwise, at most.
SLOW_POLL: Final = 10.0
POLL: Final = 0.25
#: Seconds after the beginning at which to look once more.
EARLY: Final = (0.05, 0.25, 1.0)
#: Seconds between two probes, and for which an answer is waited for.
PROBE_EVERY: Final = 30.0
PROBE_PATIENCE: Final = 2.0
#: Seconds for which a lost server is sought before those who wait are told.
PATIENCE: Final = 30.0

_REGISTER: Final = """
    INSERT INTO {s}watcher (channel, expires) VALUES ($1, clock_timestamp() + $2 * interval '1 second')
    ON CONFLICT (channel) DO UPDATE SET expires = excluded.expires"""
_CLEAN: Final = "DELETE FROM {s}watcher WHERE channel = $1 OR expires < clock_timestamp()"

_monotonic = time.monotonic


class PostgresWatch:
    """See `celeriac.backends.base.Watch`."""

    replays = True

    def __init__(self, hub: Hub, ids: Iterable[str]) -> None:
        self._hub = hub
        self._ids: set[str] = set()
        self._pocket: dict[str, bytes] = {}
        self._woken = False
        self.add(ids)

    def add(self, ids: Iterable[str]) -> None:
        hub = self._hub
        with hub.changed:
            new = [task_id for task_id in ids if task_id not in self._ids]
            self._ids.update(new)
            hub.join(self, new)

    def discard(self, ids: Iterable[str]) -> None:
        hub = self._hub
        with hub.changed:
            gone = [task_id for task_id in ids if task_id in self._ids]
            self._ids.difference_update(gone)
            for task_id in gone:
                self._pocket.pop(task_id, None)
            hub.leave(self, gone)

    def wait(self, timeout: float | None) -> Mapping[str, bytes]:
        hub = self._hub
        with hub.changed:
            hub.join(self, ())  # the thread may have ended meanwhile
            hub.changed.wait_for(lambda: self._pocket or self._woken or (self._ids and hub.failure), timeout)
            if hub.failure and self._ids and not self._pocket:
                raise OperationalError(str(hub.failure))
            new, self._pocket, self._woken = self._pocket, {}, False
            return new

    def take(self, task_id: str, document: bytes) -> None:
        """Called by the hub with its lock held."""
        if task_id in self._ids:
            self._pocket[task_id] = document

    def wake(self) -> None:
        with self._hub.changed:
            self._woken = True
            self._hub.changed.notify_all()

    def close(self) -> None:
        self.discard(list(self._ids))
        self.wake()


class Hub:
    """Listens for all watches of this process.

    Args:
        pool: of the store.
        table: its results.

    Attributes:
        changed: guards everything, and is notified of all that watches wait for.
        failure: why nothing can be heard, for `PATIENCE` seconds now.
    """

    def __init__(self, pool: Pool, table: ResultTable) -> None:
        self.changed = threading.Condition()
        self.failure: Exception | None = None
        self._pool = pool
        self._table = table
        self._watches: dict[str, list[PostgresWatch]] = {}  # by id
        self._marks: dict[str, set[str]] = {}  # ids by what notifications call them
        self._dirty: set[str] = set()  # ids of which there may be news
        self._given: dict[str, int] = {}  # hashes of the documents that were given last
        self._thread: threading.Thread | None = None
        self._bell = Alarm()

    # -- called by watches, with `changed` held --------------------------------------------------------------

    def join(self, watch: PostgresWatch, ids: Iterable[str]) -> None:
        for task_id in ids:
            self._watches.setdefault(task_id, []).append(watch)
            self._marks.setdefault(mark(task_id), set()).add(task_id)
            self._given.pop(task_id, None)  # whoever comes later gets what is there, too
            self._dirty.add(task_id)
        if not self._watches:
            return
        if self._thread is None:
            self.failure = None
            self._thread = threading.Thread(target=self._run, name="celeriac-results-pg", daemon=True)
            self._thread.start()
        elif self._dirty:
            self._bell.ring()

    def leave(self, watch: PostgresWatch, ids: Iterable[str]) -> None:
        for task_id in ids:
            others = [each for each in self._watches.get(task_id, ()) if each is not watch]
            if others:
                self._watches[task_id] = others
                continue
            self._watches.pop(task_id, None)
            self._dirty.discard(task_id)
            self._given.pop(task_id, None)
            name = mark(task_id)
            same = self._marks.get(name, set())
            same.discard(task_id)
            if not same:
                self._marks.pop(name, None)

    def close(self) -> None:
        """End the thread; a later `wait` starts another one."""
        with self.changed:
            thread, self._thread = self._thread, None
            self._bell.ring()
        if thread is not None:
            thread.join(5.0)

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        attempt, lost_since = 0, 0.0
        while True:
            ear = _Ear(self._pool)
            try:
                ear.open()
                with self.changed:
                    self.failure = None
                    self._dirty.update(self._watches)
                attempt = 0
                if self._serve(ear):
                    return
            except OperationalError as exc:
                if isinstance(exc, Refused):
                    self._pool.forget_tables()  # they may have been dropped
                now = _monotonic()
                lost_since = lost_since if attempt else now
                attempt += 1
                self._tell_of(exc, now - lost_since)
            except BaseException as exc:  # a bug of ours: those who wait must hear of it
                self._tell_of(exc, PATIENCE)
                with self.changed:
                    if self._thread is threading.current_thread():
                        self._thread = None
                raise
            finally:
                ear.close()
            if self._ended(wait=backoff(attempt)):
                return

    def _tell_of(self, exc: BaseException, lost_for: float) -> None:
        logger.warning("Waiting for results was interrupted: %s", exc)
        if lost_for >= PATIENCE:
            with self.changed:
                self.failure = exc if isinstance(exc, Exception) else RuntimeError(repr(exc))
                self.changed.notify_all()

    def _ended(self, wait: float) -> bool:
        """Pause; True when the thread is not wanted any more."""
        self._bell.wait(wait)
        self._bell.clear()
        with self.changed:
            if self._thread is threading.current_thread() and not self._watches:
                self._thread = None
            return self._thread is not threading.current_thread()

    def _serve(self, ear: _Ear) -> bool:
        """Until the connection is lost (raises) or nobody wants us (True)."""
        idle_since = _monotonic()
        while True:
            self._load(ear)
            now = _monotonic()
            with self.changed:
                if self._watches:
                    idle_since = now
                if self._thread is not threading.current_thread():
                    return True
                if now - idle_since > IDLE:
                    self._thread = None
                    return True
                dirty = bool(self._dirty)
                waiting = bool(self._watches)
            if dirty:
                ear.hurry()
                continue
            names, look = ear.hear(self._bell, waiting=waiting)
            with self.changed:
                if look:
                    self._dirty.update(self._watches)
                for name in names:
                    self._dirty |= self._marks.get(name, set())

    def _load(self, ear: _Ear) -> None:
        with self.changed:
            ids, self._dirty = list(self._dirty), set()
        if not ids:
            return
        try:
            found = ear.load(self._table, ids)
        except BaseException:
            with self.changed:
                self._dirty.update(ids)
            raise
        with self.changed:
            news = False
            for task_id, document in found.items():
                seen = hash(document)
                if task_id not in self._watches or self._given.get(task_id) == seen:
                    continue
                self._given[task_id] = seen
                news = True
                for watch in self._watches[task_id]:
                    watch.take(task_id, document)
            if news:
                ear.hurry()
                self.changed.notify_all()


class _Ear:
    """The connection that listens: registered, probed, and a clock that says when to look all the same.

    Not shared by threads.
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
        self._probed = 0.0
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
        notes = link.notes()
        if not notes:
            bell.wait(max(0.0, self._wake_at(waiting) - _monotonic()), link.fileno())
            bell.clear()
            notes = link.notes()
        now = _monotonic()
        names: list[str] = []
        for note in notes:
            if note.channel == self._channel:
                self._heard_until = now + PROBE_EVERY + PROBE_PATIENCE
                names += note.payload.decode("ascii", "replace").split()
        if self._listens and now >= self._renew_at:
            self._renew()
        if self._listens and now - self._probed >= PROBE_EVERY:
            self._probe()
        return names, self._time_to_look(now)

    def _wake_at(self, waiting: bool) -> float:
        if not waiting:
            return _monotonic() + IDLE / 4
        return min([self._next_look, *self._early])

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
        self._probed = _monotonic()
        self._pool.query(b"SELECT pg_notify($1, '')", (text(self._channel),))

    def _ask(self, sql: bytes, *params: object) -> None:
        self._open_link().query(sql, params, deadline=self._until())  # type: ignore[arg-type]

    def _open_link(self) -> Link:
        assert self._link is not None
        return self._link

    def _until(self) -> float:
        return _monotonic() + self._pool.server.timeout
