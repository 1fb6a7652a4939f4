"""Follow-ups on a cluster: a script reaches one slot only.

1. `Elsewhere.send`: publish what goes to other queues, confirmed, before the settlement itself is sent.
   Nothing gets lost; after a crash between the two steps it comes twice, under the same task id.

The fence holds as far as it can in two steps: nothing is published for a tag that is no longer held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from celeriac.brokers.base import Outgoing, Settlement
from celeriac.brokers.redis.keys import Layout
from celeriac.brokers.redis.routes import Routes
from celeriac.brokers.redis.scripts import BURY
from celeriac.brokers.routing import unroutable
from celeriac.transport.redis.pool import Pool
from celeriac.wire import virtual

__all__ = ["Elsewhere"]


class Elsewhere:
    def __init__(
        self, pool: Pool, layout: Layout, routes: Routes, publish: Callable[[Sequence[Outgoing]], None]
    ) -> None:
        self._pool = pool
        self._layout = layout
        self._routes = routes
        self._publish = publish

    def send(self, end: Settlement, consumer: str) -> Settlement:
        """Return what is left for the script of the settlement's own queue."""
        others = [out for out in end.followups if out.queue != end.queue]
        if not others or not self._is_held(end, consumer):
            return end._replace(followups=[]) if others else end
        found: list[Outgoing] = []
        for out in others:
            route = self._routes.route(out)
            if route.queues or route.channel:
                found.append(out)
            else:  # nobody is there to catch an error: it is kept where the operator sees it
                self._bury(out)
        self._publish(found)
        return end._replace(followups=[out for out in end.followups if out.queue == end.queue])

    def _is_held(self, end: Settlement, consumer: str) -> bool:
        key = self._layout.queue(end.queue).held_by(consumer)
        return bool(
            self._pool.run(key, lambda link, until: link.call(b"HEXISTS", key, end.tag, deadline=until))
        )

    def _bury(self, out: Outgoing) -> None:
        names = self._layout.queue(out.routing_key or out.exchange)
        keys = (names.dead, names.letters, names.seq)
        args = (str(unroutable(out)), virtual.encode(out.message))
        self._pool.run(keys[0], lambda link, until: BURY.run(link, keys, args, until))
