"""Idle links, repetition within a deadline, the tables made on first use.

1. `Pool`: thread-safe, last in first out, empty again in a forked child. `pool()` shares one per server in
   this process, so that broker and results use the same connections.
2. `Pool.run`: work on a link, repeated over reconnections until a deadline.
3. `Channel`: under which number a publish is repeated.

What `run` repeats must be repeatable: the answer to a statement that was done may have been lost.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from celeriac.transport.postgres.link import Disconnected, Link, NotNow, Refused, Rows
from celeriac.transport.postgres.schema import prepare
from celeriac.transport.postgres.url import Server
from celeriac.transport.postgres.values import Param

__all__ = ["Channel", "Pool", "backoff", "pool"]

T = TypeVar("T")
_monotonic = time.monotonic
#: SQLSTATE of tables, functions and schemas that are not there.
_DROPPED: Final = ("42P01", "42883", "3F000")
#: Idle links that are kept; more are closed when they come back.
KEPT: Final = 8


def backoff(attempt: int) -> float:
    """Seconds to pause before a further try: 20 ms doubled up to 1 s, with jitter of half."""
    longest: float = min(1.0, 0.02 * 2.0 ** min(attempt, 8))
    return longest * (0.5 + random.random() / 2)


class Channel:
    """Where one thread at a time publishes. `name` and `turn` identify what is repeated."""

    __slots__ = ("name", "turn")

    def __init__(self) -> None:
        self.name = os.urandom(12)
        self.turn = 0


class Pool:
    """Links to one server (or to whichever of its hosts takes us).

    Attributes:
        channels: those nobody uses; take one, or make one, and give it back. A forked child has none of its
            parent's: two processes that count on under one name would each drop what the other sends.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._lock = threading.Lock()
        self._start()
        _pools.add(self)

    def _start(self) -> None:
        self._idle: list[Link] = []
        self.channels: list[Channel] = []
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._is_prepared = False

    def after_fork(self) -> None:
        for link in list(self._links):
            link.abandon()
            _abandoned.append(link)
        self._lock = threading.Lock()
        self._start()

    def open(self, deadline: float) -> Link:
        """A new link for the caller alone, on a server whose tables are as this version wants them."""
        link = Link.dial(self.server, deadline)
        self._links.add(link)
        try:
            if not self._is_prepared:
                self._prepare(link, deadline)
        except BaseException:
            link.close()
            raise
        return link

    def _prepare(self, link: Link, deadline: float) -> None:
        """One thread looks after the tables; others wait for it, no longer than they may."""
        if not self._lock.acquire(timeout=max(0.0, deadline - _monotonic())):
            raise Disconnected(f"The tables at {self.server.where} are still being looked after.")
        try:
            if not self._is_prepared:
                prepare(link, self.server, deadline)
                self._is_prepared = True
        finally:
            self._lock.release()

    def forget_tables(self) -> None:
        """Look again whether the tables are there, with the next link: somebody may have dropped them."""
        self._is_prepared = False
        self.close()

    def adopt(self) -> Link | None:
        """An idle link that becomes the caller's own; None when there is none."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def run(self, work: Callable[[Link, float], T], *, timeout: float | None = None) -> T:
        """Do `work(link, deadline)`; reconnect and repeat until the deadline.

        Raises:
            OperationalError: the last failure, or the server's refusal.
        """
        deadline = _monotonic() + (self.server.timeout if timeout is None else timeout)
        attempt = remade = 0
        while True:
            link: Link | None = None
            try:
                try:
                    link = self._idle.pop()
                except IndexError:
                    attempt += 1  # a link from the pool may have gone stale: its failure costs no pause
                    link = self.open(deadline)
                return work(link, deadline)
            except Refused as exc:
                # Somebody has dropped our tables: they are made anew, or it is said why not. Other threads
                # may find out at the same time, and give back links on which nobody has looked yet.
                remade += 1
                if exc.code not in _DROPPED or remade > 3:
                    raise
                if link is not None:
                    link.close()
                self.forget_tables()
            except (Disconnected, NotNow) as exc:
                if isinstance(exc, NotNow):
                    attempt += 1
                pause = backoff(attempt) if attempt else 0.0
                if _monotonic() + pause >= deadline:
                    raise
                if link is not None:
                    self._give(link)
                    link = None
                time.sleep(pause)
            finally:
                if link is not None:
                    self._give(link)

    def query(self, sql: bytes, params: Sequence[Param] = (), *, timeout: float | None = None) -> Rows:
        """One statement, repeated as by `run`."""
        return self.run(lambda link, deadline: link.query(sql, params, deadline=deadline), timeout=timeout)

    def _give(self, link: Link) -> None:
        if link.closed:
            return
        if len(self._idle) < KEPT:
            self._idle.append(link)
        else:
            link.close()

    def close(self) -> None:
        """Close the links that are not in use."""
        idle, self._idle = self._idle, []
        for link in idle:
            link.close()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_shared: weakref.WeakValueDictionary[Server, Pool] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()
_abandoned: list[Link] = []  # of parent processes: never finished, for that would end the parent's session


def pool(url: str, options: Mapping[str, Any]) -> Pool:
    """The pool of `url` in this process; nothing is connected yet."""
    server = Server.parse(url, options)
    with _shared_lock:
        found = _shared.get(server)
        if found is None:
            found = _shared[server] = Pool(server)
        return found


def _after_fork() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()
    for each in list(_pools):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
