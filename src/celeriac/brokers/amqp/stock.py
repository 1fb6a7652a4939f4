"""What the server has delivered over one channel, and where each delivery is now.

1. `Stocked`, `Held`: a delivery that was sent ahead, and one that is handed out.
2. `Stock`: hands out, takes back, and acknowledges with one frame for everything up to the oldest delivery
   that is still open.

Not here: what arrives and when (`intake.py`, `window.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from celeriac.brokers.base import Delivery, Place
from celeriac.transport.amqp.channel import Channel
from celeriac.wire.message import Message, Unreadable

__all__ = ["Held", "Stock", "Stocked"]

_new = tuple.__new__


class Held(NamedTuple):
    """A delivery that is handed out and not settled."""

    delivery_tag: int
    message: Message | Unreadable
    crashes: int = 0


class Stocked(NamedTuple):
    """A delivery that was sent ahead. `ended`: why it must not run any more."""

    queue: str
    tag: int
    delivery_tag: int
    message: Message | Unreadable
    ended: str = ""


class Stock:
    """Used by one thread.

    Attributes:
        waiting: sent ahead and not handed out.
        held: handed out and not settled, by (queue, tag).
        open: delivery tags without an acknowledgement, ascending.
    """

    def __init__(self) -> None:
        self.waiting: deque[Stocked] = deque()
        self.held: dict[Place, Held] = {}
        self.open: dict[int, None] = {}

    def hand_out(self, limit: int) -> list[Delivery]:
        """Up to `limit` of what waits; held from now on. Hot."""
        waiting, held = self.waiting, self.held
        taken: list[Delivery] = []
        for _ in range(min(limit, len(waiting))):
            queue, tag, delivery_tag, message, ended = waiting.popleft()
            while (queue, tag) in held:  # another copy of a message that is here already
                tag = _next(tag)
            held[queue, tag] = _new(Held, (delivery_tag, message, 0))
            taken.append(_new(Delivery, (queue, tag, message, 0, ended)))
        return taken

    def hold_waiting(self) -> list[Place]:
        """Take what waits, as if it were handed out; where it is. What was killed to end it stays: a copy
        would run again."""
        places: list[Place] = []
        waiting, self.waiting = self.waiting, deque(one for one in self.waiting if one.ended)
        for queue, tag, delivery_tag, message, ended in waiting:
            if ended:
                continue
            while (queue, tag) in self.held:
                tag = _next(tag)
            self.held[queue, tag] = Held(delivery_tag, message)
            places.append((queue, tag))
        return places

    def restock(self, place: Place) -> None:
        """Put back what was handed out and did not start."""
        one = self.held.pop(place)
        self.waiting.append(Stocked(*place, one.delivery_tag, one.message))

    def has(self, place: Place) -> bool:
        """Whether a copy with that name waits here or is held."""
        return place in self.held or any((one.queue, one.tag) == place for one in self.waiting)

    def acknowledge(self, channel: Channel, delivery_tags: Iterable[int]) -> None:
        """One frame for all up to the oldest that is still open, one for each of the others."""
        opened, closing = self.open, set(delivery_tags)
        upto = 0
        front: list[int] = []
        for delivery_tag in opened:
            if delivery_tag not in closing:
                break
            front.append(delivery_tag)
        for upto in front:
            del opened[upto]
        closing.difference_update(front)
        if upto:
            channel.ack(upto, multiple=True)
        for delivery_tag in sorted(closing):
            del opened[delivery_tag]
            channel.ack(delivery_tag)

    def clear(self) -> list[int]:
        """The channel is lost, and the server has taken everything back; the tags of what waited."""
        dropped = [each.tag for each in self.waiting]
        self.waiting.clear()
        self.held = {}
        self.open.clear()
        return dropped


def _next(tag: int) -> int:
    return (tag + 1) % (1 << 62)
