"""`ScheduleEntry`: one line of the schedule.

1. What to send (task, arguments, options), when (schedule), and when it was sent last.
2. The id of a run (`run_id`): the same for the same due time, whoever computes it and however often.

An entry is not changed by a run: `next` makes the entry that follows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from celeriac.schedules import BaseSchedule, maybe_schedule
from celeriac.utils.time import utc

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["ScheduleEntry"]

logger = logging.getLogger("celeriac.beat")

#: Namespace of run ids. Changing it makes the ids of older versions unrecognisable.
_RUNS: Final = UUID("6d1f2a3e-5b7c-5e0d-9c41-8a2b7f3d4e60")


class ScheduleEntry:
    """One line of the schedule.

    Args:
        name: its key in `beat_schedule`.
        task: name of the task to send.
        last_run_at: when it was sent last; now, for a new entry.
        total_run_count: how often it was sent.
        schedule: seconds, a timedelta, or a schedule (`crontab`, …).
        args: positional arguments of the task.
        kwargs: keyword arguments of the task.
        options: options of `apply_async`: `queue`, `expires`, `priority`, …
        relative: with seconds or a timedelta: due at full days, hours or minutes.
        app: whose clock, time zone and broker count.
    """

    name: str | None = None
    schedule: BaseSchedule = None  # type: ignore[assignment]
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    options: dict[str, Any] | None = None
    last_run_at: datetime = None  # type: ignore[assignment]
    total_run_count: int = 0

    def __init__(
        self,
        name: str | None = None,
        task: str | None = None,
        last_run_at: datetime | None = None,
        total_run_count: int | None = None,
        schedule: float | timedelta | BaseSchedule | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        relative: bool = False,
        app: Celeriac | None = None,
    ) -> None:
        self.app = app
        self.name = name
        self.task = task
        self.args = args
        self.kwargs = kwargs or {}
        self.options = options or {}
        self.schedule = maybe_schedule(schedule, relative, app=app)  # type: ignore[arg-type]
        self.last_run_at = last_run_at or self.default_now()
        self.total_run_count = total_run_count or 0

    def default_now(self) -> datetime:
        """The current time by this entry's schedule."""
        return self.schedule.now()

    _default_now = default_now

    def __next__(self, last_run_at: datetime | None = None) -> ScheduleEntry:
        """The entry as it is after one more run: at `last_run_at`, else now."""
        at = last_run_at or self.schedule.anchor(self.last_run_at, self.default_now())
        state = {"last_run_at": at, "total_run_count": self.total_run_count + 1}
        return type(self)(**{**dict(self), **state})

    def next(self, last_run_at: datetime | None = None) -> ScheduleEntry:
        return self.__next__(last_run_at)

    _next_instance = next

    def update(self, other: ScheduleEntry) -> None:
        """Take over what `other` defines; when and how often this entry ran stays."""
        self.task = other.task
        self.schedule = other.schedule
        self.args = other.args
        self.kwargs = other.kwargs
        self.options = other.options

    def is_due(self) -> tuple[bool, float]:
        """Whether it is due, and in how many seconds to ask again."""
        self._forget_the_future()
        return self.schedule.is_due(self.last_run_at)

    def _forget_the_future(self) -> None:
        """A last run that lies ahead means that the clock was set back: start anew from now."""
        now = self.default_now()
        if not self.schedule.credible(self.last_run_at, now):
            logger.warning(
                "Entry %r ran last at %s, which is ahead of the clock (%s): the clock was set back. "
                "Counting from now.",
                self.name,
                utc(self.last_run_at).isoformat(),
                utc(now).isoformat(),
            )
            self.last_run_at = now

    def run_id(self) -> str | None:
        """The task id of the run that is due next; None when the schedule cannot name its due time.

        It follows from the app's and the entry's name, the task and the due time. A scheduler that dies after
        sending and before writing that down sends the run again under this same id.
        """
        due = self.schedule.due_after(self.last_run_at)
        if due is None:
            return None
        main = getattr(self.app, "main", None)
        return str(uuid5(_RUNS, "\0".join(map(str, (main, self.name, self.task, due.isoformat())))))

    def editable_fields_equal(self, other: ScheduleEntry) -> bool:
        """Whether both define the same; when they ran does not matter."""
        return all(
            getattr(self, field) == getattr(other, field)
            for field in ("task", "args", "kwargs", "options", "schedule")
        )

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def __repr__(self) -> str:
        words = [repr(argument) for argument in self.args or ()]
        words += [f"{name}={value!r}" for name, value in (self.kwargs or {}).items()]
        return f"<{type(self).__name__}: {self.name} {self.task}({', '.join(words)}) {self.schedule!r}>"

    def __lt__(self, other: object) -> bool:
        # Entries that are due at once are sent in any order; the heap needs one.
        return id(self) < id(other) if isinstance(other, ScheduleEntry) else NotImplemented

    def __eq__(self, other: object) -> bool:
        return self.editable_fields_equal(other) if isinstance(other, ScheduleEntry) else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.name, self.task, self.last_run_at, self.total_run_count, self.schedule)
        return type(self), (*fields, self.args, self.kwargs, self.options)
