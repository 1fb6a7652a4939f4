"""The versions of the tables, for the command line. It makes nothing unless it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable

from celeriac.transport.postgres import schema
from celeriac.transport.postgres.link import Link
from celeriac.transport.postgres.url import Server

__all__ = ["PostgresTables"]

#: Seconds for a migration.
PATIENCE = 600.0


class PostgresTables:
    """See `celeriac.brokers.base.Tables`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __str__(self) -> str:
        return " ".join(self._server.location)

    def status(self) -> schema.Status:
        return self._on_link(schema.status)

    def migrate(self) -> schema.Status:
        return self._on_link(schema.migrate)

    def script(self, version: int = 0) -> str:
        return schema.script(self._server, version)

    def _on_link(self, work: Callable[[Link, Server, float], schema.Status]) -> schema.Status:
        deadline = time.monotonic() + PATIENCE
        link = Link.dial(self._server, deadline)
        try:
            return work(link, self._server, deadline)
        finally:
            link.close()
