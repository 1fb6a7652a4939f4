"""The reply queue of `rpc://` and what came out of it.

1. `Pigeonholes`: documents by id, until somebody asks for them or newer ones push them out.
2. `Replies`: the queue and the thread that empties it, once per process.

The reply queue is durable and not exclusive, and expires some minutes after its process is gone: a lost
connection, or a restart of the server, loses no result that is `result_persistent`, and no other result
unless the server itself died. One queue serves all threads of a process.

Not here: the result store (`rpc.py`).
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Iterable
from typing import Final

from celeriac.exceptions import OperationalError
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import AmqpServer
from celeriac.transport.amqp.values import ChannelClosed
from celeriac.transport.memory import Board
from celeriac.wire.message import Message
from celeriac.wire.results import is_final

__all__ = ["Pigeonholes", "Replies"]

logger = logging.getLogger("celeriac.result")

#: Seconds for which a reply queue waits for its process to come back.
ABSENCE: Final = 600.0
#: Documents and bytes kept for whoever may ask; the oldest go first.
KEPT: Final = 50_000
KEPT_BYTES: Final = 64 << 20
#: Messages sent ahead to the thread that takes them in.
_PREFETCH: Final = 1000
_IDLE: Final = 60.0
_monotonic = time.monotonic


class Pigeonholes(Board):
    """Documents by id; when there are too many, those that came first go. Safe to use from any thread."""

    def __init__(self, serializer: str = "json") -> None:
        super().__init__()
        self._bytes = 0
        self._serializer = serializer

    def put(self, task_id: str, document: bytes, *, expires: float | None) -> None:
        """As `Board.put`; a state that is not final does not take the place of one that is."""
        with self._lock:
            there = self._documents.get(task_id)
            if there and is_final(there[0], self._serializer) and not is_final(document, self._serializer):
                return
            self._take_out(task_id)
            self._documents[task_id] = (document, expires)
            self._bytes += len(document)
            for watcher in self._watchers:
                watcher.notify(task_id, document)
            while len(self._documents) > KEPT or (self._bytes > KEPT_BYTES and len(self._documents) > 1):
                self._take_out(next(iter(self._documents)))

    def forget(self, ids: Iterable[str]) -> None:
        with self._lock:
            for task_id in ids:
                self._take_out(task_id)

    def expire(self, *, now: float) -> int:
        with self._lock:
            entries = self._documents.items()
            gone = [task_id for task_id, (_, expires) in entries if expires is not None and expires <= now]
            for task_id in gone:
                self._take_out(task_id)
            return len(gone)

    def _take_out(self, task_id: str) -> None:
        entry = self._documents.pop(task_id, None)
        if entry is not None:
            self._bytes -= len(entry[0])


class Replies:
    """The reply queue of one process, and the thread that empties it."""

    def __init__(self, server: AmqpServer, address: str, board: Board, ttl: float | None) -> None:
        self._server = server
        self._address = address
        self._board = board
        self._ttl = ttl
        self._over = threading.Event()
        self._link: Link | None = None
        self._channel: Channel | None = None
        self._thread = threading.Thread(target=self._run, name="celeriac-replies", daemon=True)

    def start(self) -> None:
        """Returns when the queue is there. Raises `OperationalError`."""
        self._open()
        self._thread.start()

    def _open(self) -> None:
        deadline = _monotonic() + self._server.timeout
        link = Link.dial(self._server, deadline=deadline)
        try:
            channel = link.channel(deadline=deadline)
            absence = ABSENCE if self._ttl is None else max(1.0, min(ABSENCE, self._ttl))
            channel.queue_declare(
                self._address, arguments={"x-expires": int(absence * 1000)}, deadline=deadline
            )
            channel.qos(_PREFETCH, deadline=deadline)
            channel.consume(self._address, deadline=deadline)
        except BaseException:  # nobody knows this connection yet: a signal's exception would leak it
            link.close()
            raise
        self._link, self._channel = link, channel

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            if self._link is not None:
                self._link.close()

    def _serve(self) -> None:
        attempt = 0
        while not self._over.is_set():
            try:
                if self._link is None:
                    self._open()
                    if self._over.is_set():
                        return
                    logger.info("Listening for results again.")
                self._take()
                attempt = 0
            except OperationalError as exc:
                link, self._link = self._link, None
                if link is not None:
                    link.close()
                if self._over.is_set():
                    return
                if not attempt:
                    logger.warning("Listening for results was interrupted: %s Trying again.", exc)
                attempt += 1
                longest = min(2.0, 0.05 * 2.0 ** min(attempt, 8))
                self._over.wait(longest * (0.5 + random.random() / 2))

    def _take(self) -> None:
        """Wait for results and keep them; then tell the server that they are kept."""
        link, channel = self._link, self._channel
        assert link is not None
        assert channel is not None
        if not channel.arrivals:  # some may have come together with the answer to `consume`
            link.read(_IDLE)
        if channel.error is not None:
            raise channel.error
        if channel.cancelled:
            raise ChannelClosed(404, "somebody deleted the reply queue", link.where)
        last = 0
        expires = None if self._ttl is None else time.time() + self._ttl
        while channel.arrivals:
            arrival = channel.arrivals.popleft()
            last = arrival.delivery_tag
            message = arrival.message
            task_id = message.properties.get("correlation_id") if isinstance(message, Message) else None
            if isinstance(message, Message) and task_id:
                self._board.put(task_id, message.body, expires=expires)
            else:
                logger.warning("Something that is not a result came to the reply queue; it was dropped.")
        if last:
            channel.ack(last, multiple=True)
            link.flush()

    def end(self) -> None:
        """Listen no more; the queue expires. Never blocks."""
        self._over.set()
        link = self._link
        if link is not None and link.usable:
            link.shut()

    def close(self) -> None:
        """Listen no more, and delete the queue; best effort: one that cannot be deleted expires."""
        self.end()
        if self._thread is not threading.current_thread():
            self._thread.join(2.0)
        with contextlib.suppress(OperationalError):
            deadline = _monotonic() + 1.0
            link = Link.dial(self._server, deadline=deadline, heartbeat=0)
            try:
                link.channel(deadline=deadline).queue_delete(self._address, deadline=deadline)
            finally:
                link.close(farewell=0.5)
