"""Being woken: LISTEN on the consumer's own connection, and how to tell that it does not work.

1. `Ear.attach`: listen on a link, once; a notification from another connection proves that they arrive.
2. `Ear.heard`: what has come.
3. `Ear.pause`: how long one may sleep without looking.

A notification is only a hint: whoever waits looks now and then. Behind a pooler in transaction mode LISTEN
is lost without a word, and listening there would leave listeners behind in sessions of others, so it is not
tried where the server process is not the one that we logged in to. Anything else that swallows notifications
is noticed because the proof does not come.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from celeriac.exceptions import OperationalError
from celeriac.transport.postgres.link import Link
from celeriac.transport.postgres.pool import Pool
from celeriac.transport.postgres.values import integer, text

__all__ = ["Ear"]

logger = logging.getLogger(__name__)

#: Seconds after which a sleeper who hears looks nevertheless; the first looks come sooner, because a message
#: may have been on its way to its commit when the sleeper lay down.
LOOKS: Final = (0.02, 0.15, 1.0)
#: The same for one who hears nothing.
DEAF: Final = 0.1
#: Seconds after which a proof that has not come is doubted.
PROOF: Final = 3.0
_PROOF: Final = b"proof"


class Ear:
    """Owned by one consumer.

    Args:
        pool: where the other connection comes from.
        lease, queues: numbers; each is a channel.
    """

    def __init__(self, pool: Pool, lease: int, queues: Sequence[int]) -> None:
        self._pool = pool
        channel = pool.server.channel
        self._own = channel(f"lease{lease}")
        self._queues = [channel(f"queue{queue}") for queue in dict.fromkeys(queues)]
        self._link: Link | None = None
        self.hears = False
        self._asked_at = 0.0
        self._has_warned = False

    def attach(self, link: Link, deadline: float) -> None:
        """Listen on `link`, unless we do."""
        if link is self._link:
            return
        self._link, self.hears, self._asked_at = link, False, 0.0
        if self._pool.server.listen == "off":
            return
        ((pid,),) = link.query(b"SELECT pg_backend_pid()", deadline=deadline)
        link.pooled = integer(pid) != link.backend_pid()
        if link.pooled:
            logger.info("There is a pooler before PostgreSQL at %s: looking every %.1f s.", link.where, DEAF)
            return
        listen = "; ".join(f'LISTEN "{name}"' for name in (self._own, *self._queues))
        link.script(listen.encode(), deadline=deadline)
        self._prove()

    def _prove(self) -> None:
        """Have another connection notify us. It is closed again: a child has one connection, no more."""
        self._asked_at = time.monotonic()
        try:
            link = self._pool.open(self._asked_at + 2.0)
        except OperationalError:
            return  # no connection is free: the first notification that comes will be the proof
        try:
            link.query(
                b"SELECT pg_notify($1, $2)",
                (text(self._own), text(_PROOF.decode())),
                deadline=self._asked_at + 2.0,
            )
        except OperationalError:
            return
        finally:
            link.close()

    def heard(self) -> tuple[bool, bool]:
        """Whether somebody woke us; whether for a message that may be ahead of its queue's known front."""
        if self._link is None:
            return False, False
        notes = self._link.notes()
        if notes:
            self.hears = True
        woken = [note for note in notes if note.payload != _PROOF]
        return bool(woken), any(note.channel != self._own for note in woken)

    def pause(self, looks: int) -> float:
        """Seconds until the next look, when there were `looks` since the sleeper lay down."""
        if self.hears:
            return LOOKS[min(looks, len(LOOKS) - 1)]
        if self._asked_at and not self._has_warned and time.monotonic() > self._asked_at + PROOF:
            self._has_warned = True
            logger.warning(
                "PostgreSQL at %s takes LISTEN, but nothing arrives: looking every %.1f s.",
                self._pool.server.where,
                DEAF,
            )
        return DEAF
