"""Watching results come in: `AsyncResult.watch`, `GroupResult.watch`.

1. `Meter`: how far one call or many are, worked out from their updates.
2. `watch`: shows a meter until its stream ends, on the screen that is there: a bar of `rich`, a line that is
   redrawn, or a line now and then where nobody watches live.

Not here: the bar of `rich` (`bars.py`).
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self, TextIO

from celeriac import states
from celeriac.execution.progress import Progress
from celeriac.result.streams import Update

if TYPE_CHECKING:
    from celeriac.result.state import CallState

__all__ = ["Meter", "Screen", "watch"]

#: Seconds between two drawings of a line, and between two lines of a log.
REDRAW: Final = 0.05
SAY: Final = 2.0
#: Seconds that are too short to tell a rate from.
BRIEF: Final = 0.2
#: Cells of a bar: the fewest and the most.
NARROW, WIDE = 10, 40


class Meter:
    """How far they are.

    Attributes:
        label: what they are called.
        count: how many calls.
        done: how many of them have ended.
        failed: how many of these have failed or were revoked.

    Example:
        >>> meter = Meter(2, "files")
        >>> meter.take(Update("a", "SUCCESS"))
        >>> meter.take(Update("b", "PROGRESS", None, Progress(1, 4)))
        >>> meter.done, meter.fraction, meter.position
        (1, 0.625, '1/2')
    """

    def __init__(self, count: int, label: str) -> None:
        self.label = label
        self.count = count
        self.done = 0
        self.failed = 0
        self.started = time.monotonic()
        self._running: dict[str, Progress] = {}
        self._state = states.PENDING
        self._message: str | None = None

    def take(self, update: Update) -> None:
        """A call has a new state."""
        self._state = update.state
        if update.ready:
            self.done += 1
            self.failed += update.state in states.PROPAGATE_STATES
            self._running.pop(update.id, None)
        elif update.progress is not None:
            self._running[update.id] = update.progress
            self._message = update.progress.message

    @property
    def over(self) -> bool:
        return self.done >= self.count

    @property
    def fraction(self) -> float | None:
        """The part that is done, 0 to 1, with that of the calls that say how far they are; None when one call
        has not said it."""
        parts = [progress.fraction for progress in self._running.values()]
        if self.count == 1 and not self.done:
            return parts[0] if parts else None
        return (self.done + sum(part or 0.0 for part in parts)) / self.count if self.count else 1.0

    @property
    def position(self) -> str:
        """``12/100``: calls; of a single call, its own units."""
        if self.count != 1:
            return f"{self.done:,}/{self.count:,}"
        for current, total, _ in self._running.values():
            return f"{current:,}/{total:,}" if total is not None else f"{current:,}"
        return ""

    @property
    def remark(self) -> str:
        """What else there is to say: failures, the rate, what a single call says itself."""
        if self.count == 1:
            return self._state if self.done else self._message or self._state
        seconds = time.monotonic() - self.started
        rate = f"{self.done / seconds:,.0f} tasks/s" if seconds > BRIEF and self.done else ""
        return ", ".join(filter(None, (rate, f"{self.failed:,} failed" if self.failed else "")))


class Screen(Protocol):
    """Where a meter is shown, between entering and leaving."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self) -> None:
        """The meter has changed."""


def watch(leaves: Sequence[CallState], updates: Iterable[Update], label: str, file: TextIO | None) -> None:
    """Show how far `leaves` are until their `updates` end; to standard error when `file` is None."""
    meter = Meter(len({leaf.id for leaf in leaves if not leaf.ignored}), label)
    with _screen(meter, file) as screen:
        for update in updates:
            meter.take(update)
            screen.show()


def _screen(meter: Meter, file: TextIO | None) -> Screen:
    try:
        from celeriac.result import bars
    except ImportError:  # no rich
        pass
    else:
        if bars.works(file):
            return bars.Bar(meter, file)
    stream = file or sys.stderr
    live = stream.isatty() and os.environ.get("TERM") != "dumb"
    return Line(meter, stream) if live else Log(meter, stream)


class Log:
    """A line now and then, and one at the end."""

    pause = SAY

    def __init__(self, meter: Meter, stream: TextIO) -> None:
        self._meter = meter
        self._stream = stream
        self._shown = time.monotonic()
        self._last = -1  # how many were done when it was drawn

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._meter.done != self._last:
            self._draw()

    def show(self) -> None:
        now = time.monotonic()
        if now - self._shown >= self.pause or self._meter.over:
            self._shown = now
            self._draw()

    def _draw(self) -> None:
        self._last = self._meter.done
        print(f"  {self._text()}", file=self._stream, flush=True)

    def _text(self) -> str:
        meter = self._meter
        return "  ".join(filter(None, (meter.label, meter.position, meter.remark)))


class Line(Log):
    """A bar of characters that is redrawn in its place."""

    pause = REDRAW

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._draw()
        print(file=self._stream, flush=True)

    def _draw(self) -> None:
        columns = shutil.get_terminal_size().columns
        text = self._text()[: columns - NARROW - 6]
        width = max(NARROW, min(WIDE, columns - len(text) - 6))
        filled = int(width * (self._meter.fraction or 0.0))
        full, empty = ("█", "·") if "utf" in (self._stream.encoding or "").lower() else ("#", ".")
        bar = full * filled + empty * (width - filled)
        print(f"\r\x1b[2K  [{bar}] {text}", end="", file=self._stream, flush=True)
