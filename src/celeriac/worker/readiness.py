"""A file that says to the outside whether this node is at work.

1. `ReadyFile`: exists while the node is ready, its time of change never older than a few seconds; removed as
   soon as it is not, and at the end.

What ready means is decided in `supervisor.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Final

__all__ = ["ReadyFile"]

logger = logging.getLogger("celeriac.worker")

#: Seconds between touches.
EVERY: Final = 1.0


class ReadyFile:
    """Args:
    path: of the file; its folder must exist. It holds the supervisor's process id.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.is_ready = False
        self._touched = 0.0
        self.remove()  # a node that was killed may have left it

    def update(self, is_ready: bool) -> None:
        """Say how it is; cheap, to be called often."""
        now = time.monotonic()
        if is_ready and (not self.is_ready or now - self._touched >= EVERY):
            self._touched = now
            try:
                self.path.write_text(f"{os.getpid()}\n")
            except OSError as exc:
                logger.error("Cannot write the ready file: %s", exc)
        elif self.is_ready and not is_ready:
            self.remove()
        self.is_ready = is_ready

    def remove(self) -> None:
        with contextlib.suppress(OSError):  # not there, or not ours: nothing to be done about it
            self.path.unlink()
