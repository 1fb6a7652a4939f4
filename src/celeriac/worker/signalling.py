"""Signals to the supervisor: caught at once, obeyed in its loop.

1. `Signals`: handlers that only take note, and a descriptor that wakes the loop.

Not here: what a signal means (`supervisor.py`).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

__all__ = ["Signals"]

_NAMES = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGTTIN", "SIGTTOU")


class Signals:
    """Made in the main thread. The environment variable ``REMAP_SIGTERM=SIGQUIT`` makes TERM mean QUIT."""

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._wake_r, self._wake_w = os.pipe()
        for end in (self._wake_r, self._wake_w):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        remap = getattr(signal, os.environ.get("REMAP_SIGTERM", ""), None)
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None:
                meaning = remap if isinstance(remap, signal.Signals) and name == "SIGTERM" else number
                signal.signal(number, lambda *_, meaning=meaning: self._pending.append(meaning))

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._wake_r

    def drain(self) -> None:
        """Make the descriptor unreadable again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_r, 4096)

    def take(self) -> Iterator[int]:
        """The signals that have come, in their order."""
        while self._pending:
            yield self._pending.pop(0)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
