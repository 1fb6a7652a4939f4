"""How far running bodies are (`Task.progress`): kept here by the body, taken from here by the courier.

1. `Reports.note`: called in the body's thread; it only remembers the newest report of each call.
2. `Reports.take`: called in the courier's thread; documents of calls whose newest report was not sent yet,
   at most one for each call every `GAP` seconds.
3. `Reports.close`: the call has ended; later reports of threads it left behind are ignored.

Not here: what is stored (`execution/progress.py`), storing it (`courier.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from celeriac.brokers.base import StoredResult
from celeriac.execution.progress import PROGRESS, Progress

if TYPE_CHECKING:
    from celeriac.execution.call import Context

__all__ = ["Reports"]

#: Seconds between two documents of one call.
GAP: Final = 0.05

#: Makes the document of a state: task, id, state, meta, request.
Encode = Callable[[Any, str, str, Any, "Context"], StoredResult]


class _Report:
    __slots__ = ("context", "newest", "owed", "sent", "task")

    def __init__(self, task: Any, context: Context, newest: Progress) -> None:
        self.task = task
        self.context = context
        self.newest = newest
        self.owed = False
        self.sent = 0.0  # monotonic


class Reports:
    """Reports of the bodies that run in one process.

    Args:
        encode: makes documents (`Celeriac.state_document`).

    Attributes:
        poke: wakes the courier.
        fresh: there is something that `take` has not seen.
        open: reports by id of the call; empty when no running body has reported.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._lock = threading.Lock()  # guards `open`
        self.open: dict[str, _Report] = {}
        self.poke: Callable[[], None] = lambda: None
        self.fresh = False

    def note(
        self, task: Any, context: Context, current: float, total: float | None, message: str | None
    ) -> None:
        """How far the call is. Hot; any thread."""
        report = self.open.get(context.id or "")
        if report is None or report.context is not context:
            report = self._begin(task, context, Progress(current, total, message))
            if report is None:
                return
        else:
            last = report.newest
            report.newest = Progress(
                current, last.total if total is None else total, last.message if message is None else message
            )
        if not report.owed:
            report.owed = True
            self.fresh = True
            self.poke()

    def _begin(self, task: Any, context: Context, first: Progress) -> _Report | None:
        ignored = context.__dict__.get("ignore_result")
        if task.ignore_result if ignored is None else ignored:
            context._reports = None  # nobody could ask
            return None
        task_id = str(context.id)
        with self._lock:
            report = self.open[task_id] = _Report(task, context, first)
            if context._reports is None:  # `close` came first: it looked when there was nothing to close
                del self.open[task_id]
                return None
        return report

    def drop(self, context: Context) -> None:
        """The body stores another state itself: what it said before must not come after it."""
        report = self.open.get(context.id or "")
        if report is not None and report.context is context:
            report.owed = False

    def close(self, context: Context) -> None:
        """The call has ended: nothing of it is taken from now on."""
        context._reports = None  # before looking; see `_begin`
        if self.open:
            with self._lock:
                report = self.open.get(context.id or "")
                if report is not None and report.context is context:
                    del self.open[report.context.id or ""]

    def take(self, now: float) -> tuple[list[StoredResult], float | None]:
        """What is to be stored now, and when to ask again (monotonic; None: when there is news)."""
        self.fresh = False
        taken: list[StoredResult] = []
        again: float | None = None
        with self._lock:
            waiting = [report for report in self.open.values() if report.owed]
        for report in waiting:
            due = report.sent + GAP
            if due > now:
                again = due if again is None else min(again, due)
                continue
            report.owed = False  # before reading: what is noted from now on is owed again
            report.sent = now
            meta = report.newest.meta()
            taken.append(self._encode(report.task, str(report.context.id), PROGRESS, meta, report.context))
        return taken, again
