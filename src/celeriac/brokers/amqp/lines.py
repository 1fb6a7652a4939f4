"""Connections for everything but consuming: publishing, declaring, looking.

1. `Desk`: a channel of a link for declarations and questions, opened anew when the server closes it.
2. `Line`: one link with a channel that confirms publishes, and a desk.
3. `Lines`: those that are free; whoever needs one takes it or opens another. Threads never share one, a
   forked child starts with none.

A connection that publishes is stopped by the server when memory or disk run short. So consumers, which must
be able to acknowledge then, never publish over theirs.

Not here: what is sent (`publisher.py`), consuming (`consumer.py`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from celeriac.exceptions import OperationalError
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import AmqpServer
from celeriac.transport.amqp.values import ChannelClosed, Refused

__all__ = ["Desk", "Line", "Lines"]

T = TypeVar("T")

#: Free lines that are kept; more are closed.
KEEP: Final = 16
#: Seconds after which a line that nobody used is looked at before it is.
STALE: Final = 1.0
#: Seconds between attempts to connect: first and longest.
PAUSES: Final = (0.05, 0.5)


class Desk:
    """Where an open link is asked; used by the link's thread."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._desk: Channel | None = None

    def desk(self, deadline: float) -> Channel:
        """The channel; another one after the server has closed the last."""
        if self._desk is None or self._desk.error is not None:
            self._desk = self.link.channel(deadline=deadline)
        return self._desk


class Line(Desk):
    """One connection of one thread at a time."""

    def __init__(self, link: Link, deadline: float) -> None:
        super().__init__(link)
        self.sender = self._open_sender(deadline)
        self.used = time.monotonic()

    def _open_sender(self, deadline: float) -> Channel:
        channel = self.link.channel(deadline=deadline)
        channel.confirm_select(deadline=deadline)
        return channel

    def renew(self, deadline: float) -> None:
        """Open another sending channel after the server has closed the last."""
        if self.sender.error is not None:
            self.sender = self._open_sender(deadline)

    def is_usable(self) -> bool:
        """Whether the connection is still there, as far as can be told without asking."""
        if self.link.closed:
            return False
        if time.monotonic() - self.used > STALE:
            try:
                self.link.read(0)
            except OperationalError:
                return False
        return not self.link.closed and not self.link.blocked

    def close(self) -> None:
        self.link.close()


class Lines:
    """Thread-safe and fork-safe."""

    def __init__(self, server: AmqpServer, on_connect: Callable[[Link], None]) -> None:
        self.server = server
        self._on_connect = on_connect
        self._free: list[Line] = []
        self._pid = os.getpid()

    def take(self, deadline: float) -> Line:
        """A line that nobody else has; tries to connect until `deadline`.

        Raises:
            Refused: the server does not let us in.
            OperationalError: nobody could be reached in time.
        """
        if self._pid != os.getpid():
            self._free, self._pid = [], os.getpid()  # the parent's own go on there
        while True:
            try:
                line = self._free.pop()
            except IndexError:
                return self._connect(deadline)
            if line.is_usable():
                return line
            line.close()

    def _connect(self, deadline: float) -> Line:
        pause = PAUSES[0]
        while True:
            try:
                link = Link.dial(self.server, deadline=deadline, heartbeat=0)
                line = Line(link, deadline)
            except Refused:
                raise
            except OperationalError:
                if time.monotonic() + pause >= deadline:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, PAUSES[1])
                continue
            self._on_connect(link)
            return line

    def give(self, line: Line) -> None:
        """Put back a line that is in order; close any other."""
        if line.link.closed or line.link.blocked or line.sender.unconfirmed or len(self._free) >= KEEP:
            line.close()
            return
        line.used = time.monotonic()
        self._free.append(line)

    @contextlib.contextmanager
    def line(self, timeout: float | None = None) -> Iterator[tuple[Line, float]]:
        """A line and the deadline of what is done over it."""
        deadline = time.monotonic() + (self.server.timeout if timeout is None else timeout)
        line = self.take(deadline)
        try:
            yield line, deadline
        except ChannelClosed:
            self.keep(line, deadline)
            raise
        except BaseException:  # a signal's exception too: answers are still to come, out of step
            line.close()
            raise
        else:
            self.keep(line, deadline)

    def keep(self, line: Line, deadline: float) -> None:
        """Put back a line whose channel the server has closed."""
        try:
            line.renew(deadline)
        except OperationalError:
            line.close()
        else:
            self.give(line)

    def ask(self, work: Callable[[Channel, float], T], timeout: float | None = None) -> T:
        """Do `work` (repeatable) on a desk; again on another line when the connection was lost.

        Raises:
            ChannelClosed: the server refused.
        """
        for attempt in (1, 2):
            try:
                with self.line(timeout) as (line, deadline):
                    return work(line.desk(deadline), deadline)
            except ChannelClosed:
                raise
            except OperationalError:
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        while self._free:
            self._free.pop().close()
