"""Which Python functions a piece of work calls: `called`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import CodeType, FrameType

__all__ = ["called"]


def called(work: Callable[[], object]) -> list[CodeType]:
    """The Python functions that `work` calls in this thread, `work` itself not among them."""
    seen: list[CodeType] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            seen.append(frame.f_code)

    gc.disable()  # others may have hung functions on the collector
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return seen[1:]
