"""The bar of `rich` for results that come in, on terminals and in notebooks; rich is imported here only.

1. `works`: whether rich can draw there.
2. `Bar`: a `Screen`.
"""

from __future__ import annotations

import importlib.util
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from celeriac.result.watching import Meter

__all__ = ["Bar", "works"]

#: Seconds between two updates of what rich draws; it draws ten times a second.
REDRAW: Final = 0.05
#: Steps of a bar.
STEPS: Final = 10_000


def works(file: TextIO | None) -> bool:
    """True on a terminal, and in a notebook that has the widgets rich needs."""
    console = _console(file)
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal and not console.is_dumb_terminal


def _console(file: TextIO | None) -> Console:
    return Console(stderr=True) if file is None else Console(file=file)


class Bar:
    """Shows a meter as a bar with times.

    Args:
        meter: what is shown.
        file: where to; standard error when None.
    """

    def __init__(self, meter: Meter, file: TextIO | None) -> None:
        self._meter = meter
        self._shown = 0.0
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None, complete_style="green", finished_style="green"),
            TextColumn("{task.fields[position]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[remark]}", markup=False),
            console=_console(file),
            expand=True,
        )
        self._task = self._progress.add_task(meter.label, total=None, position="", remark="")

    def __enter__(self) -> Self:
        self._progress.start()
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._draw()
        self._progress.refresh()  # notebooks are not redrawn at the end otherwise
        self._progress.stop()

    def show(self) -> None:
        now = time.monotonic()
        if now - self._shown >= REDRAW or self._meter.over:
            self._shown = now
            self._draw()

    def _draw(self) -> None:
        meter = self._meter
        fraction = meter.fraction
        self._progress.update(
            self._task,
            total=None if fraction is None else STEPS,
            completed=int(STEPS * (fraction or 0.0)),
            position=meter.position,
            remark=meter.remark,
        )
