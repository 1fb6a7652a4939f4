"""How much the server sends ahead: the consumers of one channel and their prefetch.

1. `Window.widen`: consumes with a window that fits what is asked for. `Window.stop`: nothing is sent ahead
   any more. `Window.is_too_wide`: stop it, and begin with a narrower one.
2. `Window.check`: notices that the server has forgotten our consumers, or sends them nothing.

Calls take arrivals in (`Channel.arrivals`); who calls sorts them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from celeriac.brokers.amqp.lines import Desk
from celeriac.brokers.amqp.topology import Topology
from celeriac.exceptions import OperationalError
from celeriac.transport.amqp.channel import Channel

__all__ = ["Window"]

#: Windows are exact up to this; above, they are powers of two.
EXACT: Final = 8
#: Seconds for which a window must have been too wide before it is narrowed.
PATIENCE: Final = 1.0
#: Seconds for which a consumer is new: the server need not have counted it yet.
NEW: Final = 1.5
#: Such looks in a row at which messages waited and none came, after which we consume anew.
STARVED: Final = 2
#: Looks in a row at which nothing was here and nothing came, after which we consume quorum queues anew: 9 s.
SILENT: Final = 6
#: Seconds for what the server has sent already, and at most, when it has more to send and is slow.
ON_ITS_WAY: Final = 0.02
AT_LEISURE: Final = 0.3
#: Consumers that have ended whose queue is still known.
REMEMBERED: Final = 100
_monotonic = time.monotonic


class Window:
    """Used by one thread.

    Args:
        timeout: seconds for each question to the server.

    Attributes:
        size: messages that the server may have sent ahead of each queue; 0: nothing is consumed.
        queue_of: queues by consumer tag.
        starved: looks in a row at which messages waited and none came. Whoever sorts arrivals sets it to 0.
        silent: looks in a row at which nothing was here and none came; set to 0 likewise.
    """

    def __init__(self, queues: Sequence[str], topology: Topology, timeout: float) -> None:
        self._queues = queues
        self._topology = topology
        self._timeout = timeout
        self.size = 0
        self.queue_of: dict[str, str] = {}
        self.starved = 0
        self.silent = 0
        self._consumers: list[str] = []  # their tags
        self._number = 0  # of the last tag: none is used twice, see `_tag`
        self._narrow_at = 0.0
        self._consumed_at = 0.0

    def reset(self) -> None:
        """The channel is another one."""
        self.size = self.silent = 0
        self._consumers.clear()

    def is_too_wide(self, need: int, now: float) -> bool:
        """Whether the window has been too wide for `need` messages for a while: stop it first."""
        if _fitting(need) >= self.size:
            self._narrow_at = now + PATIENCE
            return False
        return now >= self._narrow_at

    def widen(self, channel: Channel, need: int, now: float) -> None:
        """Have `need` messages sent ahead, if it is less so far."""
        size = _fitting(need)
        if size > self.size:
            self._consume(channel, size)
            self._narrow_at = now + PATIENCE

    def _consume(self, channel: Channel, size: int) -> None:
        """Have that much sent ahead of each queue. A window is widened by another consumer beside the first:
        what is on its way to one that is cancelled goes back as if it had been delivered (quorum queues)."""
        deadline = _monotonic() + self._timeout
        channel.qos(size - self.size, deadline=deadline)
        for queue in self._queues:
            channel.consume(queue, self._tag(queue), deadline=deadline)
        self.size = size
        self._consumed_at = _monotonic()

    def _tag(self, queue: str) -> str:
        """A new consumer's. RabbitMQ (before 3.10.9) ends the connection (541) when a message of a quorum
        queue is on its way to a consumer that is cancelled, and the next one has the same tag."""
        self._number += 1
        tag = f"c{self._number}"
        self._consumers.append(tag)
        self.queue_of[tag] = queue
        if len(self.queue_of) > len(self._consumers) + REMEMBERED:
            del self.queue_of[next(iter(self.queue_of))]
        return tag

    def stop(self, channel: Channel, delivered: int) -> None:
        """Have nothing sent ahead from now on.

        Args:
            delivered: deliveries that are not acknowledged, beside those in `channel.arrivals`.
        """
        if not self.size:
            return
        self._await_full(channel, delivered)
        self.size = 0
        for tag in self._consumers:
            channel.cancel(tag, deadline=_monotonic() + self._timeout)
        self._consumers.clear()

    def _await_full(self, channel: Channel, delivered: int) -> None:
        """Let what is on its way arrive: a quorum queue takes back as if it had been delivered what meets a
        cancelled consumer. That is a moment; a longer one while the queues have more to send."""
        begun = _monotonic()
        missing = self.size * len(self._queues) - delivered
        while len(channel.arrivals) < missing:
            channel.link.read(ON_ITS_WAY / 4)
            passed = _monotonic() - begun
            if passed >= ON_ITS_WAY and (passed >= AT_LEISURE or not self._have_more(channel)):
                return

    def _have_more(self, channel: Channel) -> bool:
        deadline = _monotonic() + self._timeout
        return any(
            channel.queue_declare(queue, passive=True, deadline=deadline).messages for queue in self._queues
        )

    def check(self, desk: Desk, *, has_open: bool, now: float) -> None:
        """A quorum queue that is deleted and declared again does not always tell its consumers, and may count
        them on.

        Raises:
            OperationalError: nothing would come any more; connect anew.
        """
        if not self.size or now < self._consumed_at + NEW:
            return
        self.silent = 0 if has_open else self.silent + 1
        deadline = now + self._timeout
        for queue in self._queues:
            state = desk.desk(deadline).queue_declare(queue, passive=True, deadline=deadline)
            if not state.consumers:
                raise OperationalError(f"RabbitMQ has forgotten the consumer of {queue!r}; consuming anew.")
            arguments = dict(self._topology.described(queue)[0].arguments)
            if state.messages and not has_open and not arguments.get("x-single-active-consumer"):
                self.starved += 1
                if self.starved > STARVED:
                    self.starved = 0
                    raise OperationalError(f"RabbitMQ sends nothing of {queue!r}; consuming anew.")

    def is_doubtful(self) -> bool:
        """Whether so little comes that the channel should be another one, to be sure.

        When a quorum queue is deleted and declared again at once, RabbitMQ (3.10) takes over the old one's
        consumers without telling them: it counts what it hands to them as delivered, and it never arrives,
        before their channel is closed. Nothing that can be asked shows it.
        """
        return self.silent >= SILENT and any(
            ("x-queue-type", "quorum") in self._topology.described(queue)[0].arguments
            for queue in self._queues
        )


def _fitting(need: int) -> int:
    """The window for so many messages.

    Example:
        >>> _fitting(5), _fitting(9)
        (5, 16)
    """
    return need if need <= EXACT else 1 << (need - 1).bit_length()
