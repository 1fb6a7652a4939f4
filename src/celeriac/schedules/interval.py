"""Every so many seconds: `schedule`, and `maybe_schedule`, which makes one of a number or timedelta."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from celeriac.schedules.base import BaseSchedule, schedstate
from celeriac.utils.time import humanize_seconds, maybe_timedelta, utc

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["maybe_schedule", "schedule"]


class schedule(BaseSchedule):
    """Due every `run_every`.

    After a pause of several periods it is due once. Otherwise it keeps its beat: a run that is sent late does
    not push back the ones after it.

    Args:
        run_every: seconds, or a timedelta; more than zero.
        relative: due when the clock on the wall starts a new day, hour or minute, whichever is the largest
            unit that fits in `run_every`: with two hours, at every other full hour.
        nowfun: returns the current time; the app's clock by default.
        app: whose clock and time zone count; the current app by default.

    Raises:
        ValueError: `run_every` is not more than zero.

    Example:
        >>> from datetime import UTC
        >>> every_minute = schedule(60)
        >>> nine = datetime(2030, 1, 1, 9, tzinfo=UTC)
        >>> every_minute.is_due(nine, now=nine + timedelta(minutes=2))
        schedstate(is_due=True, next=60.0)
    """

    relative: bool = False

    def __init__(
        self,
        run_every: float | timedelta | None = None,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
        app: Celeriac | None = None,
    ) -> None:
        every = maybe_timedelta(run_every)
        if every is not None and (not isinstance(every, timedelta) or every <= timedelta(0)):
            raise ValueError(
                f"A schedule runs every so many seconds (more than 0) or every timedelta, not {run_every!r}."
            )
        self.run_every: timedelta | None = every
        self.relative = relative
        super().__init__(nowfun=nowfun, app=app)

    @property
    def _every(self) -> timedelta:
        if self.run_every is None:
            raise ValueError("This schedule was made without run_every: it does not know when it is due.")
        return self.run_every

    @property
    def seconds(self) -> float:
        """The period in seconds."""
        return self._every.total_seconds()

    @property
    def human_seconds(self) -> str:
        """The period in words, e.g. ``1.50 minutes``."""
        return humanize_seconds(self.seconds, microseconds=True)

    def due_after(self, last_run_at: datetime) -> datetime:
        start = utc(last_run_at)
        end = start + self._every
        return self._whole(start, end) if self.relative else end

    def _whole(self, start: datetime, end: datetime) -> datetime:
        """`end` cut to the resolution of the period on the wall; after `start` whatever the clocks do."""
        wall = end.astimezone(self.tz).replace(microsecond=0)
        unit = timedelta(seconds=1)
        if self._every >= timedelta(days=1):
            # Days are counted on the wall: a day of 23 or 25 hours is a day.
            wall = start.astimezone(self.tz) + self._every
            wall, unit = wall.replace(hour=0, minute=0, second=0, microsecond=0), timedelta(days=1)
        elif self._every >= timedelta(hours=1):
            wall, unit = wall.replace(minute=0, second=0), timedelta(hours=1)
        elif self._every >= timedelta(minutes=1):
            wall, unit = wall.replace(second=0), timedelta(minutes=1)
        due = utc(wall)
        while due <= start:
            due += unit
        return due

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return self.due_after(last_run_at) - self.clock(None)

    def is_due(self, last_run_at: datetime, now: datetime | None = None) -> schedstate:
        remaining = (self.due_after(last_run_at) - self.clock(now)).total_seconds()
        return schedstate(True, self.seconds) if remaining <= 0 else schedstate(False, remaining)

    def anchor(self, last_run_at: datetime, now: datetime) -> datetime:
        due, now = self.due_after(last_run_at), utc(now)
        return due if not self.relative and due <= now < due + self._every else now

    def __repr__(self) -> str:
        return f"<freq: {'unset' if self.run_every is None else self.human_seconds}>"

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, schedule):
            return self.run_every == other.run_every and self.relative == other.relative
        return self.run_every == other if isinstance(other, timedelta) else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_every, self.relative, self.nowfun)


def maybe_schedule(
    s: float | timedelta | BaseSchedule, relative: bool = False, app: Celeriac | None = None
) -> Any:
    """Return a schedule for seconds or a timedelta; a schedule is given `app` and returned as it is.

    Raises:
        ValueError: seconds that are not more than zero.

    Example:
        >>> maybe_schedule(30)
        <freq: 30.00 seconds>
    """
    period = maybe_timedelta(s)
    if isinstance(period, timedelta):
        return schedule(period, relative, app=app)
    if isinstance(period, BaseSchedule):
        period.app = app
    return period
