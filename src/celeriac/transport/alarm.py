"""Blocking until sockets are ready.

1. `readable`, `writable`: with a timeout, for any number of a descriptor.
2. `Alarm`: a pipe that ends a wait on sockets from any thread.
"""

from __future__ import annotations

import math
import os
import select
import threading
from collections.abc import Sequence

__all__ = ["Alarm", "readable", "writable"]


def readable(descriptors: Sequence[int], timeout: float | None) -> bool:
    """Block until one of `descriptors` can be read; False after `timeout` seconds (None: for ever)."""
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select(descriptors, (), (), timeout)[0])
    return _poll(descriptors, select.POLLIN, timeout)


def writable(descriptor: int, timeout: float | None) -> bool:
    """As `readable`, for room to write."""
    if not hasattr(select, "poll"):
        return bool(select.select((), [descriptor], (), timeout)[1])
    return _poll([descriptor], select.POLLOUT, timeout)


def _poll(descriptors: Sequence[int], events: int, timeout: float | None) -> bool:
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, events)
    return bool(poller.poll(None if timeout is None else math.ceil(max(0.0, timeout) * 1000)))


class Alarm:
    """`ring` from any thread, `wait` and `clear` from the one that waits."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        os.set_blocking(self._out, False)
        os.set_blocking(self._in, False)
        self._lock = threading.Lock()
        self._closed = False
        self.ringing = False

    def ring(self) -> None:
        with self._lock:
            if not self.ringing and not self._closed:
                self.ringing = True
                os.write(self._in, b"!")

    def clear(self) -> bool:
        """Silence it; True when it was ringing."""
        with self._lock:
            if not self.ringing or self._closed:
                return False
            self.ringing = False
            os.read(self._out, 1)
            return True

    def wait(self, timeout: float | None, *descriptors: int) -> bool:
        """True when it rang or one of `descriptors` can be read; False after `timeout` seconds."""
        with self._lock:
            if self._closed:
                return True
        return readable([self._out, *descriptors], timeout)

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._out)
                os.close(self._in)

    def __del__(self) -> None:
        self.close()
