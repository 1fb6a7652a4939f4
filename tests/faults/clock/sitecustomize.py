"""Shifts the wall clock of a Python process, and of all that it forks, while it runs; monotonic time stays.

Imported by every interpreter whose PYTHONPATH names this folder. FAULTS_CLOCK names a file of 8 bytes: by how
many nanoseconds (little endian, signed) `time.time`, `datetime.now` and their kin are wrong.
"""

import mmap
import os

import time_machine
from time_machine import _time_machine

_fd = os.open(os.environ["FAULTS_CLOCK"], os.O_RDONLY)
_page = mmap.mmap(_fd, 8, mmap.MAP_SHARED, mmap.PROT_READ)
os.close(_fd)


def _shifted() -> int:
    return int(_time_machine.original_time_ns()) + int.from_bytes(_page[:8], "little", signed=True)


time_machine.travel(0).start().time_ns = _shifted  # type: ignore[method-assign]
