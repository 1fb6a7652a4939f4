"""Which of several hosts: the order of preference, and how each has fared.

1. `Hosts.order`: the first one that is not known to be ill stands first.
2. `Hosts.failed`, `Hosts.reached`: what was found out, and one line in the log for each change.
3. `Borrowed`: a link to a host that is not the preferred one; it ends after a while, so that everybody comes
   back to the preferred one soon after that is well again.

All processes of a worker must end up at the same host, for leases are kept there: therefore a fixed order and
a return, and no drifting.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Sequence
from typing import Any, Final

from celeriac.transport.redis.link import Disconnected, Link

__all__ = ["Borrowed", "Hosts"]

logger = logging.getLogger("celeriac.transport")
Address = tuple[str, int]

#: Seconds for which a host that failed is tried last: after the first failure, and at most.
ILL: Final = (2.0, 30.0)
#: Seconds for which a link to another than the preferred host is used.
BORROWED: Final = 5.0
_monotonic = time.monotonic


class Borrowed(Link):
    """A link that refuses to be used after `BORROWED` seconds, before anything is sent."""

    __slots__ = ("until",)

    def __init__(self, sock: socket.socket, where: str, *, is_tls: bool) -> None:
        super().__init__(sock, where, is_tls=is_tls)
        self.until = _monotonic() + BORROWED

    def _check(self) -> None:
        if _monotonic() > self.until:
            self.close()
            raise Disconnected(f"The connection to {self.where} ends: the preferred Redis may be back.")

    def request(self, data: bytes, deadline: float) -> Any:
        self._check()
        return super().request(data, deadline)

    def pipeline(self, commands: Sequence[bytes], deadline: float) -> list[Any]:
        self._check()
        return super().pipeline(commands, deadline)


class Hosts:
    """The hosts of one list. Safe to use from any thread: values are replaced whole."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.addresses = tuple(addresses)
        self.current: Address | None = None
        self._ill: dict[Address, tuple[float, int]] = {}  # until when, and how often it failed

    def order(self) -> list[Address]:
        """The hosts as they are to be tried."""
        now = _monotonic()
        return sorted(self.addresses, key=lambda address: self._ill.get(address, (0.0, 0))[0] > now)

    def failed(self, address: Address, why: Exception) -> None:
        failures = self._ill.get(address, (0.0, 0))[1] + 1
        pause = min(ILL[1], ILL[0] * 2.0 ** min(failures - 1, 8))
        self._ill[address] = (_monotonic() + pause, failures)
        if address == self.current and len(self.addresses) > 1:
            logger.warning("%s Going on with the next host of the list.", why)

    def reached(self, address: Address, *, master: bool = False) -> None:
        """`master`: as the sentinels named it."""
        self._ill.pop(address, None)
        before, self.current = self.current, address
        if address == before or (before is None and (master or address == self.addresses[0])):
            return
        logger.warning("Connected to the Redis %s at %s:%d.", "master" if master else "server", *address)

    def is_preferred(self, address: Address) -> bool:
        return address == self.addresses[0]
