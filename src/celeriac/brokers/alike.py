"""A batch of messages that are alike: to one place, now, written from a pattern.

`Alike`: for brokers with the capability `envelopes`, which store envelopes and need not see messages; to all
others it is a sequence of `Outgoing`.

Not here: which calls are alike (`app/alike.py`), how an envelope is written (`wire/pattern.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from celeriac.brokers.base import Outgoing
from celeriac.utils.bulk import Composed
from celeriac.utils.identity import delivery_tags
from celeriac.wire.pattern import Pattern

__all__ = ["Alike", "Draft"]

_new: Any = tuple.__new__
_Destination = tuple[str, str, str, int, None, None]


class Draft(NamedTuple):
    """One message to be. `place`: its number in its group."""

    pattern: Pattern
    id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any] | None
    place: int | None


class Alike(Composed[Outgoing]):
    """A batch whose parts are written when they are asked for.

    Attributes:
        destination: what all have behind their message: queue, exchange, routing key, priority, no delay.
    """

    __slots__ = ("_drafts", "_written", "destination")

    def __init__(self, drafts: Sequence[Draft], destination: _Destination) -> None:
        super().__init__(len(drafts), self._outgoing)
        self._drafts = drafts
        self._written: list[bytes] = []
        self.destination = destination

    def envelopes(self, part: slice) -> list[bytes]:
        """The envelopes of `part`.

        Raises:
            EncodeError: arguments cannot be written.
        """
        if self._written:
            return self._written[part]
        drafts = self._drafts[part]
        return [
            pattern.envelope(id, args, kwargs, place, tag)
            for (pattern, id, args, kwargs, place), tag in zip(
                drafts, delivery_tags(len(drafts)), strict=True
            )
        ]

    def write(self) -> None:
        """Write all of them now: what cannot be written is found before anything else happens."""
        self._written = self.envelopes(slice(None))

    def _outgoing(self, part: slice) -> list[Outgoing]:
        behind = self.destination
        return [
            _new(Outgoing, (pattern.make(id=id, args=args, kwargs=kwargs, group_index=place), *behind))
            for pattern, id, args, kwargs, place in self._drafts[part]
        ]
