"""What all nodes must know: a stream that everybody reads from its beginning, and nobody takes anything from.

1. `Revocations.revoke` appends a record: ids, and until when they count (epoch seconds).
2. `Revocations.revoked`: all ids that count now. The first call reads the stream to its end, which it
   recognises by a mark that it appends itself; the later ones read what has come since.
3. The homes whose nodes hold messages (`Broker.attend`): ours is announced now and then, `homes` are all that
   were within `HOME_AGE`.

RabbitMQ drops records after a week (`names.REVOKED_ARGUMENTS`). It may not find the stream after a restart:
one that was declared moments before a power cut stays "inaccessible" for ever (seen with 3.10). Revocations
must not stop a worker, so then what is known counts, and after `_GIVE_UP` seconds the stream is made anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Final

from celeriac.brokers.amqp import names
from celeriac.brokers.amqp.inquiry import letter, read_letter
from celeriac.brokers.amqp.lines import Desk
from celeriac.brokers.amqp.publisher import Post, Publisher
from celeriac.brokers.amqp.topology import Topology
from celeriac.exceptions import OperationalError
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import AmqpServer
from celeriac.transport.amqp.values import Arrival, ChannelClosed
from celeriac.utils.identity import uuid

__all__ = ["Revocations"]

#: Seconds between announcements of a home; after `HOME_AGE` without one it is forgotten.
HOME_EVERY: Final = 600.0
HOME_AGE: Final = 1800.0

#: Records that the server sends ahead.
_AHEAD: Final = 500
#: Seconds for the mark; without it (an alarm is on) the stream ends where it is silent for `_SILENCE`.
_MARK_TIMEOUT: Final = 2.0
_SILENCE: Final = 0.3
#: Seconds for which a stream that the server has lost may come back, with the node that has it.
_GIVE_UP: Final = 10.0
_NOT_FOUND: Final = 404
logger = logging.getLogger("celeriac.brokers.amqp")


class Revocations:
    """Thread-safe and fork-safe.

    Attributes:
        home: what is announced by `revoked`; empty: nothing.
    """

    def __init__(self, server: AmqpServer, publisher: Publisher, topology: Topology) -> None:
        self._server = server
        self._publisher = publisher
        self._topology = topology
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._link: Link | None = None
        self._channel: Channel | None = None
        self._until: dict[str, float] = {}
        self.home = ""
        self._announce_at = 0.0
        self._homes: dict[str, float] = {}  # when it was announced (epoch seconds); 0: it was given up
        self._next = 0  # offset of the first record that was not read
        self._calls = 0
        self._lost_since: float | None = None

    def revoke(self, ids: Sequence[str], *, ttl: float) -> None:
        """See `Broker.revoke`."""
        if ids:
            self._append({"ids": list(ids), "until": time.time() + ttl}, self._server.timeout)

    def give_up_home(self) -> None:
        """The last node of our home has given back what it held."""
        home, self.home = self.home, ""
        if home:
            self._append({"home": home, "at": 0.0}, self._server.timeout)

    @property
    def homes(self) -> Sequence[str] | None:
        """None: nobody has read them yet."""
        if not self._calls:
            return None
        since = time.time() - HOME_AGE
        return [home for home, at in list(self._homes.items()) if at > since]

    def revoked(self) -> Sequence[str]:
        """See `Broker.revoked`."""
        with self._lock:
            if self._pid != os.getpid():
                self._link, self._channel, self._pid = None, None, os.getpid()
            try:
                if self.home and time.time() >= self._announce_at:
                    self._append({"home": self.home, "at": time.time()}, self._server.timeout)
                    self._announce_at = time.time() + HOME_EVERY
                self._read(to_the_end=not self._calls)
            except OperationalError as exc:
                self._close()
                if not _is_lost(exc):
                    raise
                self._mend(exc)
            self._calls += 1
            if self._calls == 1 and not self.home:
                self._close()  # most processes ask once
            now = time.time()
            self._until = {name: until for name, until in self._until.items() if until > now}
            return list(self._until)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _append(self, record: dict[str, object], timeout: float) -> None:
        message = letter(record)
        message.properties["delivery_mode"] = 2
        post = Post("", names.REVOKED, message, names.REVOKED)
        if self._publisher.post([post], time.monotonic() + timeout):
            raise OperationalError(
                "RabbitMQ has no stream for revoked ids; 3.9 is the first version that can."
            )

    def _read(self, *, to_the_end: bool) -> None:
        mark = uuid()
        if to_the_end:
            try:
                self._append({"mark": mark}, _MARK_TIMEOUT)
            except OperationalError:
                mark = ""
        link, channel = self._open()
        deadline = time.monotonic() + self._server.timeout
        while True:
            heard = link.read(_SILENCE if to_the_end else 0.0)
            if channel.error is not None:
                raise channel.error
            last, ended = 0, False
            while channel.arrivals:
                arrival = channel.arrivals.popleft()
                last = arrival.delivery_tag
                ended = self._take_in(arrival) == mark or ended
            if last:
                channel.ack(last, multiple=True)
                link.flush(deadline)
            if ended or not to_the_end or (not mark and not heard):
                return
            if time.monotonic() > deadline:
                raise OperationalError("RabbitMQ did not send the end of the stream of revoked ids in time.")

    def _take_in(self, arrival: Arrival) -> object:
        """Remember one record; its mark, if it is one."""
        offset = getattr(arrival.message, "headers", {}).get("x-stream-offset")
        if type(offset) is int:
            if offset < self._next:  # the server sends whole chunks, from before where we asked
                return None
            self._next = offset + 1
        record = read_letter(arrival.message)
        ids, until = record.get("ids"), record.get("until")
        if isinstance(ids, list) and isinstance(until, (int, float)):
            for name in ids:
                if isinstance(name, str):
                    self._until[name] = max(until, self._until.get(name, 0.0))
        home, at = record.get("home"), record.get("at")
        if isinstance(home, str) and isinstance(at, (int, float)):
            self._homes[home] = at
            if home == self.home and not at:  # somebody did not know that we are here, too
                self._announce_at = 0.0
        return record.get("mark")

    def _open(self) -> tuple[Link, Channel]:
        if self._link is not None and not self._link.closed and self._channel is not None:
            if self._channel.error is None and not self._channel.cancelled:
                return self._link, self._channel
            self._close()
        deadline = time.monotonic() + self._server.timeout
        self._link = Link.dial(self._server, deadline=deadline, heartbeat=60)
        self._topology.forget(names.REVOKED)
        self._topology.ensure(Desk(self._link), names.REVOKED, deadline)
        self._channel = self._link.channel(deadline=deadline)
        self._channel.qos(_AHEAD, deadline=deadline)
        self._next = 0  # it may be another stream
        self._channel.consume(
            names.REVOKED, "revoked", arguments={"x-stream-offset": "first"}, deadline=deadline
        )
        self._lost_since = None
        return self._link, self._channel

    def _mend(self, why: OperationalError) -> None:
        """Wait for the stream to come back; not for ever."""
        now = time.monotonic()
        if self._lost_since is None:
            self._lost_since = now
            logger.warning("The stream of revoked ids cannot be read; what is known of them counts: %s", why)
        elif now - self._lost_since > _GIVE_UP:
            self._lost_since = None
            deadline = now + self._server.timeout
            link = Link.dial(self._server, deadline=deadline)
            try:
                link.channel(deadline=deadline).queue_delete(names.REVOKED, deadline=deadline)
            finally:
                link.close()
            logger.warning("The stream of revoked ids is made anew; ids revoked before are forgotten.")

    def _close(self) -> None:
        if self._link is not None:
            with contextlib.suppress(OperationalError):
                self._link.close()
        self._link = self._channel = None


def _is_lost(exc: OperationalError) -> bool:
    """The stream is declared, and the server cannot find it."""
    return isinstance(exc, ChannelClosed) and exc.code == _NOT_FOUND and "inaccessible" in exc.text
