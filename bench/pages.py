"""Executions counted in shared memory, equally and cheaply for every contender.

1. In a contender's process: `hit()` counts one execution, `note(value)` counts one and keeps a number.
2. In the harness: `Pages` adds up what all processes of one trial wrote.

Each process writes a page (a mapped file named by its pid) of its own, so nothing is locked: item 0 is the
count, 1 the time of the first execution, 2 of the last (both `time.monotonic()`, which all processes of one
machine share), 3 the number of kept values, then the values. About a quarter of a microsecond per call.

Only the standard library is used here, since this module is imported in every contender's environment.
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path
from time import monotonic
from typing import NamedTuple

COUNT, FIRST, LAST, KEPT, HEADER = range(5)
CAPACITY = 131_072
SIZE = 8 * (HEADER + CAPACITY)
FOLDER_VARIABLE = "BENCH_PAGES"

_view: memoryview[float] | None = None
_lock = threading.Lock()


def _open_own() -> memoryview[float]:
    global _view
    with _lock:
        if _view is None:
            path = Path(os.environ[FOLDER_VARIABLE], f"{os.getpid()}.page")
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.ftruncate(handle, SIZE)
            _view = memoryview(mmap.mmap(handle, SIZE)).cast("B").cast("d")
            os.close(handle)
        return _view


def _forget_parents_page() -> None:
    global _view, _lock
    _view = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_parents_page)


def begin() -> None:
    """Note that an execution starts (only the first one's time is kept)."""
    view = _view or _open_own()
    if not view[FIRST]:
        view[FIRST] = monotonic()


def hit() -> None:
    """Count one execution."""
    view = _view or _open_own()
    now = monotonic()
    if not view[FIRST]:
        view[FIRST] = now
    view[LAST] = now
    view[COUNT] += 1.0  # no thread switch can fall inside this statement: it makes no Python call


def note(value: float) -> None:
    """Count one execution and keep `value`."""
    view = _view or _open_own()
    with _lock:
        kept = int(view[KEPT])
        if kept < CAPACITY:
            view[HEADER + kept] = value
            view[KEPT] = kept + 1.0
    hit()


class Totals(NamedTuple):
    """What all processes of a trial have counted; times are `time.monotonic()` seconds, 0 when none."""

    executions: int
    first: float
    last: float
    by_process: tuple[int, ...]


class Pages:
    """The harness's view of one trial's pages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._views: dict[str, memoryview[float]] = {}

    def totals(self) -> Totals:
        """Add up all pages as they are now."""
        self._adopt_new()
        views = [view for view in self._views.values() if view[COUNT]]
        return Totals(
            executions=int(sum(view[COUNT] for view in views)),
            first=min((view[FIRST] for view in views), default=0.0),
            last=max((view[LAST] for view in views), default=0.0),
            by_process=tuple(int(view[COUNT]) for view in views),
        )

    def values(self) -> list[float]:
        """All kept values, in no order."""
        self._adopt_new()
        return [value for view in self._views.values() for value in view[HEADER : HEADER + int(view[KEPT])]]

    def _adopt_new(self) -> None:
        for entry in os.scandir(self.folder):
            if entry.name not in self._views and entry.stat().st_size == SIZE:
                with open(entry.path, "r+b") as file:
                    self._views[entry.name] = memoryview(mmap.mmap(file.fileno(), SIZE)).cast("B").cast("d")
