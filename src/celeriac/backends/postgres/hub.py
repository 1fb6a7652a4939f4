"""One listening connection per process and PostgreSQL store, for all who wait for results there.

1. `Hub`: a thread that owns the connection. It begins with the first watch and ends when nobody has waited
   for `IDLE` seconds: a connection that listens and is not read would fill the server's queue.
2. `PostgresWatch`: what arrives of its ids, in a pocket.

A notification names results by the beginnings of their digests and says nothing of what is in them; the
thread loads what is watched, a burst in one trip. New ids are loaded at once, after the listening began, so
that nothing falls between. What a store that did not see our row yet has stored is found by a few looks in
quick succession (`ear.EARLY`) after listening began.

Not here: the connection itself, and whether anything is heard on it (`ear.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Final

from celeriac.backends.postgres.ear import Ear
from celeriac.exceptions import OperationalError
from celeriac.transport.alarm import Alarm
from celeriac.transport.postgres.link import Refused
from celeriac.transport.postgres.pool import Pool, backoff
from celeriac.transport.postgres.results import ResultTable, mark

__all__ = ["Hub", "PostgresWatch"]

logger = logging.getLogger("celeriac.backend")

#: Seconds after which the thread ends when there are no ids.
IDLE: Final = 10.0
#: Seconds for which a lost server is sought before those who wait are told.
PATIENCE: Final = 30.0

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
            ear = Ear(self._pool)
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
            except BaseException as exc:  # a bug of ours, or the interpreter's end: who waits must hear of it
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

    def _serve(self, ear: Ear) -> bool:
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

    def _load(self, ear: Ear) -> None:
        with self.changed:
            ids, self._dirty = list(self._dirty), set()
        if not ids:
            return
        try:
            found = ear.load(self._table, ids)
        except BaseException:  # whatever it is goes on up; what was to be loaded must not be forgotten
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
