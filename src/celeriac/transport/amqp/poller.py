"""Waiting for one socket that does not block.

1. `Poller`: until it can be read, or written.
2. `would_block`: whether an exception of the socket says no more than that.
"""

from __future__ import annotations

import select

__all__ = ["Poller", "would_block"]


class Poller:
    """Waiting for one socket."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(descriptor, select.POLLIN)

    def wait(self, timeout: float, *, to_write: bool) -> None:
        if self._poll is None:  # Windows
            mine = [self._descriptor]
            select.select(mine, mine if to_write else (), (), timeout)
        elif to_write:
            self._poll.modify(self._descriptor, select.POLLIN | select.POLLOUT)
            self._poll.poll(timeout * 1000)
            self._poll.modify(self._descriptor, select.POLLIN)
        else:
            self._poll.poll(timeout * 1000)


def would_block(exc: OSError) -> bool:
    """TLS says in its own way that it would block."""
    return type(exc).__name__ in ("SSLWantReadError", "SSLWantWriteError")
