"""How a running scheduler is told to stop, and how it sleeps meanwhile.

Anything with `is_set` and `wait` will do, a `threading.Event` for instance. These two need no thread:

1. `StopPipe`: set by a signal handler. (An event's lock may be held by the code that the signal interrupts.)
2. `StopDescriptor`: set when a file descriptor becomes readable or its other end is closed.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import Protocol

__all__ = ["StopDescriptor", "StopPipe", "StopSource"]


class StopSource(Protocol):
    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool:
        """Block for `timeout` seconds or until it is set; say whether it is set."""


class StopDescriptor:
    """Set when `fd` can be read. It is never read, and not closed here."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def is_set(self) -> bool:
        return self.wait(0.0)

    def wait(self, timeout: float) -> bool:
        return bool(select.select([self._fd], [], [], max(0.0, timeout))[0])


class StopPipe(StopDescriptor):
    """A switch that may be set from a signal handler, from any thread, more than once."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        super().__init__(self._read)

    def set(self) -> None:
        with contextlib.suppress(BlockingIOError):  # set sixty thousand times: it is set
            os.write(self._write, b"\0")

    def __del__(self) -> None:
        os.close(self._read)
        os.close(self._write)
