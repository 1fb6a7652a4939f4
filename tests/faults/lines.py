"""The lines that bodies leave in a journal: each written at once, and read only if it is whole.

A write is not all or nothing: SIGKILL may cut it where a page ends, and a reader may see a part of it.
So each line begins with a line break, whatever stands before, and ends with a mark.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Event", "events", "written"]

_END = "."


class Event(NamedTuple):
    what: str
    key: str
    pid: int
    at: float


def written(what: object, key: object, pid: int, at: float) -> bytes:
    """One line, for one write with O_APPEND. `at`: epoch seconds."""
    return f"\n{what} {key} {pid} {at} {_END}\n".encode()


def events(text: str) -> Iterator[Event]:
    """The whole lines of `text`.

    Example:
        >>> list(events(written("end", "k1", 12, 0.5).decode() + "end k2 1"))
        [Event(what='end', key='k1', pid=12, at=0.5)]
    """
    for line in text.splitlines():
        match line.split():
            case what, key, pid, at, end if end == _END:
                yield Event(what, key, int(pid), float(at))
