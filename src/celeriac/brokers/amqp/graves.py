"""Dead letters: looking at a queue without keeping anything, moving back, deleting.

RabbitMQ shows a message only by handing it over. So a look fetches what it wants to see on a channel of its
own and gives all of it back, in the order it was in; meanwhile another look sees less. What is moved is first
stored in its queue, then taken from here: a crash between the two leaves both, and the second try moves it
again (its name is another then).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from celeriac.brokers.amqp import copies, names
from celeriac.brokers.amqp.lines import Line, Lines
from celeriac.brokers.amqp.publisher import Publisher
from celeriac.brokers.base import DeadLetter
from celeriac.exceptions import OperationalError
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.values import ChannelClosed

__all__ = ["Graves"]

_NOT_FOUND: Final = 404
#: Seconds for one look through a queue, however long it is.
TIMEOUT: Final = 60.0


class Graves:
    """Thread-safe: each call works over a line of its own."""

    def __init__(self, lines: Lines, publisher: Publisher) -> None:
        self._lines = lines
        self._publisher = publisher

    def letters(self, queue: str, limit: int = 100, offset: int = 0) -> Sequence[DeadLetter]:
        """See `Broker.dead`."""
        found: dict[str, DeadLetter] = {}

        def look(letter: DeadLetter) -> bool:
            found.setdefault(letter.id, letter)
            return False

        self._walk(queue, look, lambda: len(found) >= offset + limit)
        return list(found.values())[offset : offset + limit]

    def revive(self, queue: str, ids: Sequence[str]) -> int:
        """See `Broker.revive`."""
        wanted, moved = set(ids), set[str]()

        def move(letter: DeadLetter) -> bool:
            if letter.id not in wanted:
                return False
            if letter.id not in moved:
                lost = self._publisher.post([copies.revived(letter)], time.monotonic() + TIMEOUT)
                if lost:
                    raise OperationalError(f"The queue {queue!r} takes no messages; the dead letter stays.")
                moved.add(letter.id)
            return True

        self._walk(queue, move, lambda: moved >= wanted)
        return len(moved)

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        """See `Broker.drop`."""
        wanted, dropped = set(ids), set[str]()

        def take(letter: DeadLetter) -> bool:
            if letter.id in wanted:
                dropped.add(letter.id)
            return letter.id in wanted

        self._walk(queue, take, lambda: dropped >= wanted)
        return len(dropped)

    def _walk(self, queue: str, take: Callable[[DeadLetter], bool], enough: Callable[[], bool]) -> None:
        """Show the dead letters of `queue` to `take`, oldest first; those that it says yes to are gone."""
        with self._lines.line(TIMEOUT) as (line, deadline):
            channel = self._open(line, queue, deadline)
            if channel is None:
                return
            try:
                self._pass_by(channel, queue, take, enough, deadline)
            finally:
                channel.close(deadline=deadline)

    def _open(self, line: Line, queue: str, deadline: float) -> Channel | None:
        try:
            line.desk(deadline).queue_declare(names.dead_queue(queue), passive=True, deadline=deadline)
        except ChannelClosed as exc:
            if exc.code != _NOT_FOUND:
                raise
            return None
        return line.link.channel(deadline=deadline)

    def _pass_by(
        self,
        channel: Channel,
        queue: str,
        take: Callable[[DeadLetter], bool],
        enough: Callable[[], bool],
        deadline: float,
    ) -> None:
        kept = 0
        while not enough():
            arrival = channel.get(names.dead_queue(queue), deadline=deadline)
            if arrival is None:
                break
            if take(copies.letter_of(queue, arrival)):
                channel.ack(arrival.delivery_tag)
            else:
                kept = arrival.delivery_tag
        if kept:
            channel.nack(kept, multiple=True, requeue=True)
