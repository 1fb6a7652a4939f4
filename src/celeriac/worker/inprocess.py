"""A worker inside this process: the real courier, lane and heart, without supervisor and children.

For tests and for `memory://`, whose messages live in one process. Bodies run in threads; hard limits give up
the thread. Not for production: a crash of the process is a crash of everything.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from celeriac.app.queues import declarations
from celeriac.brokers.base import ConsumerSpec
from celeriac.worker.child import make_processor, make_storing
from celeriac.worker.chords import Keeper
from celeriac.worker.courier import Courier
from celeriac.worker.heart import Heart
from celeriac.worker.lanes import ThreadLane
from celeriac.worker.options import WorkerOptions

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["InProcessWorker"]

logger = logging.getLogger("celeriac.worker")


class InProcessWorker:
    """Runs an application's tasks in threads of this process, between `start` and `stop`.

    Args:
        app: the application; it is finalised.
        queues: names to consume from; None: what the settings say.
        concurrency: threads.

    Example:
        >>> from celeriac import Celeriac
        >>> app = Celeriac("demo", broker="memory://", backend="memory://")
        >>> @app.task(name="add")
        ... def add(x, y):
        ...     return x + y
        >>> with InProcessWorker(app):
        ...     add.delay(2, 2).get(timeout=5)
        4
    """

    def __init__(
        self,
        app: Celeriac,
        *,
        queues: Sequence[str] | None = None,
        concurrency: int = 2,
        hostname: str | None = None,
    ) -> None:
        app.finalize(auto=True)
        self.app = app
        self.hostname = hostname or f"celery@{socket.gethostname()}"
        self.queues = tuple(app.queues_to_consume(tuple(queues) if queues else None, ()))
        self.concurrency = concurrency
        self._main: threading.Thread | None = None

    def start(self) -> InProcessWorker:
        """Begin to consume; return when the lease is taken."""
        app, broker = self.app, self.app.broker
        broker.declare(declarations([app.queues[name] for name in self.queues]))
        self.processor = make_processor(app, self.hostname, WorkerOptions(), broker)
        target = app.backend.target() if self.processor.carried else None
        identity = f"{self.hostname}:{os.getpid()}:{secrets.token_hex(4)}"
        ttl = app.conf.worker_lease_ttl
        consumer = broker.consumer(ConsumerSpec(identity, self.queues, ttl, target))
        self.lane = ThreadLane(self.processor, self.concurrency, None)
        self.courier = Courier(consumer, make_storing(app), self.lane, None, on_lost=self.lane.stop)
        self.lane.courier = self.processor.courier = self.courier
        if not broker.capabilities.leases:
            self.courier.without_leases()
        self.heart = Heart(
            broker,
            app.backend,
            self.queues,
            ttl=ttl,
            store="",
            target=target,
            alive=lambda: {identity: self.queues},
            on_lost=lambda ids: self.lane.stop(),
            on_revoked=self.processor.revoked.update,
            conclude=self.processor.stopped,
            gone=self.processor.gone,
            storing=make_storing(app),
            chords=Keeper(app),
            machine=False,
        )
        self._main = threading.Thread(target=self.lane.run, name="lane", daemon=True)
        self._main.start()
        self.courier.start()
        self.heart.start()
        return self

    def stop(self) -> None:
        """Warm shutdown: running bodies finish, what was not started goes back."""
        assert self._main is not None
        self.lane.stop()
        self._main.join()
        self.courier.finish()
        self.heart.stop()
        self.heart.join()

    def __enter__(self) -> InProcessWorker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
