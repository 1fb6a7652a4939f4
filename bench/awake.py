"""Processors kept awake while measuring: one spinner each, at the lowest priority there is (SCHED_IDLE).

A processor that halts between two messages takes longer to wake than the message takes to handle: on a
virtual machine this alone halves what one sender can do, and it comes and goes with whatever else is running.
A spinner gives way at once to anything that wants to run. It counts as the harness's, not as foreign load.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SPIN = """
import os
parent = os.getppid()
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextmanager
def awake() -> Iterator[None]:
    """Keep every processor awake inside this block."""
    spinners = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
