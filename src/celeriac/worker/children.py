"""A process of the node, as the supervisor sees it.

1. `Child`: told by its control socket, killed with its group, dumped.

Not here: what happens in it (`child.py`), how it is made (`template.py`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import time
from typing import Any

from celeriac.worker.ledger import Ledger

__all__ = ["Child"]

logger = logging.getLogger("celeriac.worker")


class Child:
    """One process of this node.

    Attributes:
        role, slot: as in its `Order`.
        ledger: its page; None for helpers.
        innocent: it was ended on purpose, what ran in it did not kill it.
        verdicts: what is to be concluded for calls that ran, by id.
        retiring: it was told to stop and nobody takes its place.
        condemned: it was killed.
    """

    def __init__(self, role: str, slot: int, pid: int, control: socket.socket, ledger: Ledger | None) -> None:
        self.role = role
        self.slot = slot
        self.pid = pid
        self.control = control
        self.ledger = ledger
        self.born = time.monotonic()
        self.innocent = False
        self.verdicts: dict[str, str] = {}
        self.retiring = False
        self.condemned = False

    def tell(self, **message: Any) -> None:
        try:
            self.control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            logger.debug("Child %d is gone already.", self.pid)

    def kill(self) -> None:
        """End the process and everything it started in its group (which it may not have made yet)."""
        self.condemned = True
        if self.innocent and self.ledger is not None:
            self.ledger.absolve()
        for end in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(self.pid, signal.SIGKILL)

    def dump_stacks(self) -> None:
        """Make it write the stacks of its threads to its standard error."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)
