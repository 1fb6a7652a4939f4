"""The processes of a raw loop. Only the standard library is used: see `site.py`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

__all__ = ["fork"]


def fork(work: Callable[[int], None]) -> None:
    """As many processes as the first argument of the command line says; each does `work`, given its number,
    until all are told to stop."""
    children: list[int] = []
    for number in range(int(sys.argv[1])):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            work(number)
        children.append(child)

    def stop(*_: object) -> None:
        for child in children:
            os.kill(child, signal.SIGTERM)
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    for child in children:
        os.waitpid(child, 0)
