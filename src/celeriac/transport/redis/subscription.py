"""Channels of one server, for one waiting thread; others may add, discard and wake.

1. `Subscription.add`: SUBSCRIBE, and on the same connection MGET of keys of the same names: what was stored
   before the subscription took effect comes as a value, what is stored after it as a message. No gap.
2. `Subscription.wait`: the next messages and values; reconnects and subscribes anew by itself.

Where one connection cannot do both (RESP2, or a cluster, where the keys lie elsewhere) `load` is called for
the channels once the server has confirmed them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from celeriac.transport.alarm import Alarm
from celeriac.transport.redis.link import Disconnected, Link, NotNow, PushNotification, ReplyError, pack
from celeriac.transport.redis.pool import Pool, backoff

__all__ = ["Subscription"]

#: Channels in one command.
_CHUNK: Final = 500
#: Discarded channels that the server may go on telling us of.
_MANY: Final = 100
#: Seconds for which a lost server is sought before `wait` raises.
PATIENCE: Final = 30.0
_monotonic = time.monotonic
Load = Callable[[Sequence[bytes]], Mapping[bytes, bytes]]


class Subscription:
    """Args:
    pool: where to.
    load: values of keys by name, over another connection; None when channels have no keys of their names.
    """

    def __init__(self, pool: Pool, load: Load | None = None) -> None:
        self._pool = pool
        self._load = load
        self._lock = threading.Lock()  # guards names, the link's sending side, and `_asked`
        self._names: set[bytes] = set()
        self._link: Link | None = None
        self._asked: deque[tuple[bytes, ...]] = deque()  # MGETs whose replies are still to come
        self._told: dict[bytes, bytes | None] = {}  # names with news: the value looked up, None for a message
        self._gone: set[bytes] = set()  # discarded names that the server still tells us of
        self._closed = False
        self._waiting = False  # somebody is in `wait`
        self._rung = False  # `wake` was called
        self._alarm = Alarm()  # lets a blocked `wait` look at everything again

    def add(self, names: Iterable[bytes]) -> None:
        """Returns when the subscription is on its way; see the head of the module for why that is enough."""
        with self._lock:
            new = [name for name in dict.fromkeys(names) if name not in self._names]
            self._names.update(new)
            if not new or self._closed:
                return
            try:
                if self._link is None or self._link.closed:
                    self._connect(_monotonic() + self._pool.server.timeout)
                else:
                    self._subscribe(self._link, new)
            except (Disconnected, NotNow):
                self._drop()  # `wait` connects anew, with all names
            if self._waiting:
                self._alarm.ring()

    def discard(self, names: Iterable[bytes]) -> None:
        """The server hears of it with the next `add`, or when there are many."""
        with self._lock:
            gone = [name for name in names if name in self._names]
            self._names.difference_update(gone)
            for name in gone:
                self._told.pop(name, None)
            self._gone.update(gone)
            link = self._link
            if len(self._gone) < _MANY or link is None or link.closed:
                return
            try:
                link.send(self._farewell(), _monotonic() + self._pool.server.timeout)
            except (Disconnected, NotNow):
                self._drop()

    def _farewell(self) -> bytes:
        """UNSUBSCRIBE for all names that are gone; empty when there are none."""
        commands = b"".join(pack((b"UNSUBSCRIBE", *some)) for some in _chunks(list(self._gone)))
        self._gone.clear()
        return commands

    def wait(self, timeout: float | None) -> list[tuple[bytes, bytes]]:
        """(channel, payload) pairs, in order; empty after `timeout` seconds or `wake`.

        Raises `OperationalError` when the server was away for `PATIENCE` seconds (or the whole `timeout`).
        """
        deadline = None if timeout is None else _monotonic() + timeout
        while not self._answer_call():
            link = self._connected(deadline)
            try:
                found = self._read(link) if link else []
            except (Disconnected, NotNow):
                with self._lock:
                    self._drop()
                continue
            if found or not self._block(link, deadline):
                self._waiting = False
                return found
        return []

    def _answer_call(self) -> bool:
        """True when `wake` or `close` was called."""
        self._alarm.clear()
        with self._lock:
            rung, self._rung = self._rung, False
            self._waiting = not (rung or self._closed)
            return not self._waiting

    def wake(self) -> None:
        with self._lock:
            self._rung = True
        self._alarm.ring()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop()
        self._alarm.ring()

    def _connected(self, deadline: float | None) -> Link | None:
        """The link, made anew when it is lost; None while there are no names."""
        until = _monotonic() + PATIENCE
        if deadline is not None:
            until = min(until, deadline)
        attempt = 0
        while True:
            with self._lock:
                if self._link is not None and not self._link.closed:
                    return self._link
                if not self._names or self._closed or self._rung:
                    return None
                try:
                    return self._connect(until)
                except (Disconnected, NotNow):
                    self._drop()
                    attempt += 1
                    pause = backoff(attempt)
                    if _monotonic() + pause >= until:
                        raise
            self._alarm.wait(pause)

    def _connect(self, deadline: float) -> Link:
        self._asked.clear()
        self._told.clear()
        self._gone.clear()
        link = self._link = self._pool.open(next(iter(self._names)), deadline)
        self._subscribe(link, list(self._names))
        return link

    def _subscribe(self, link: Link, names: Sequence[bytes]) -> None:
        deadline = _monotonic() + self._pool.server.timeout
        self._gone.difference_update(names)
        farewell = self._farewell() if self._gone else b""
        for some in _chunks(names):
            commands = farewell + pack((b"SUBSCRIBE", *some))
            farewell = b""
            if self._load is not None and self._is_whole(link):
                commands += pack((b"MGET", *some))
                self._asked.append(tuple(some))
            link.send(commands, deadline)

    def _is_whole(self, link: Link) -> bool:
        """True when this connection can both listen and read all keys."""
        return link.protocol == 3 and not self._pool.is_cluster

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _block(self, link: Link | None, deadline: float | None) -> bool:
        """False after the deadline; True when there may be something to look at."""
        if link is not None and link.buffered():
            return True
        left = None if deadline is None else deadline - _monotonic()
        if left is not None and left <= 0:
            return False
        with self._lock:  # `close` may be about to close the socket
            sockets = [] if link is None or link.closed else [link.fileno()]
        return self._alarm.wait(left, *sockets)

    def _read(self, link: Link) -> list[tuple[bytes, bytes]]:
        """Everything that has arrived; does not block for more."""
        found: list[tuple[bytes, bytes]] = []
        confirmed: list[bytes] = []
        while link.readable(0):
            reply = link.next(_monotonic() + self._pool.server.timeout)
            if type(reply) is ReplyError:
                raise Disconnected(f"Redis at {link.where} refused a subscription: {reply}")
            kind = reply[0] if self._is_event(link, reply) else None
            if kind == b"message":
                found += self._heard(reply[1], reply[2])
            elif kind == b"subscribe" and self._load is not None and not self._is_whole(link):
                confirmed.append(reply[1])
            elif kind is None:
                found += self._looked_up(zip(self._asked.popleft(), reply, strict=True))
        if confirmed and self._load is not None:
            found += self._looked_up(self._load(confirmed).items())
        return [pair for pair in found if pair[0] in self._names]  # the others were discarded meanwhile

    def _heard(self, name: bytes, payload: bytes) -> list[tuple[bytes, bytes]]:
        """A message, unless it tells what a look-up has told already."""
        before = self._told.get(name)
        self._told[name] = None
        return [] if before == payload else [(name, payload)]

    def _looked_up(self, values: Iterable[tuple[bytes, bytes | None]]) -> list[tuple[bytes, bytes]]:
        """Values of keys; a message about the same name is as new, or a newer one is on its way."""
        found = [(name, value) for name, value in values if value is not None and name not in self._told]
        self._told.update(found)
        return found

    def _is_event(self, link: Link, reply: Any) -> bool:
        """Pushes in RESP3; in RESP2 a subscribed connection carries nothing else."""
        return type(reply) is PushNotification or link.protocol == 2


def _chunks(names: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK))
