"""`BaseSchedule`: what every schedule answers, and where its clock and time zone come from.

1. Asked by the scheduler: `is_due`, `remaining_estimate`, `due_after`, `anchor`, `credible`.
2. Given to subclasses: `now`, `tz`, `app`, `maybe_make_aware`.

A schedule of one's own overrides `remaining_estimate` and `is_due`; the rest has defaults that fit.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple

from celeriac import _state
from celeriac.utils.time import as_timezone, maybe_make_aware, utc

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["BaseSchedule", "schedstate"]


class schedstate(NamedTuple):
    """The answer of `is_due`. `next`: seconds from now until it is worth asking again."""

    is_due: bool
    next: float


class BaseSchedule:
    """Base of all schedules.

    Args:
        nowfun: returns the current time; the app's clock by default.
        app: whose clock, time zone and settings count; the current app by default.
    """

    nowfun: Callable[[], datetime] | None = None
    _app: Celeriac | None = None
    _tz: tzinfo | None = None

    def __init__(self, nowfun: Callable[[], datetime] | None = None, app: Celeriac | None = None) -> None:
        self.nowfun = nowfun
        self._app = app

    @property
    def app(self) -> Celeriac:
        return self._app or _state.get_current_app()

    @app.setter
    def app(self, app: Celeriac | None) -> None:
        self._app = app

    @property
    def tz(self) -> tzinfo:
        """The zone in which the schedule is meant: its own, else the app's."""
        return self._tz or self.app.timezone

    @tz.setter
    def tz(self, zone: tzinfo | str | None) -> None:
        self._tz = None if zone is None else as_timezone(zone)

    def now(self) -> datetime:
        """The current time by this schedule's clock."""
        return (self.nowfun or self.app.now)()

    def maybe_make_aware(self, dt: datetime, naive_as_utc: bool = True) -> datetime:
        """Return `dt` as an aware datetime; a naive one ends up in this schedule's zone."""
        return maybe_make_aware(dt, self.tz, naive_as_utc)

    def clock(self, now: datetime | None) -> datetime:
        """The `now` to decide by, in UTC: the one given, else this schedule's own."""
        return utc(self.now() if now is None else now)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """How long until it is due, having run at `last_run_at`; zero or negative when it is due."""
        raise NotImplementedError(f"{type(self).__name__} must define remaining_estimate().")

    def is_due(self, last_run_at: datetime, now: datetime | None = None) -> tuple[bool, float]:
        """Whether it is due, and how many seconds from now to ask again.

        Args:
            last_run_at: when it ran last. A naive datetime is in UTC.
            now: the current time; by default this schedule's own clock.
        """
        raise NotImplementedError(f"{type(self).__name__} must define is_due().")

    def due_after(self, last_run_at: datetime) -> datetime | None:
        """The due time (UTC) that follows `last_run_at`; None when this kind of schedule cannot name it."""
        return None

    def anchor(self, last_run_at: datetime, now: datetime) -> datetime:
        """What to write down as the last run, for one that was due after `last_run_at` and sent at `now`."""
        return now

    def credible(self, last_run_at: datetime, now: datetime) -> bool:
        """False when `last_run_at` lies ahead of `now` because the clock was set back."""
        return utc(last_run_at) <= utc(now)

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, BaseSchedule):
            return other.nowfun == self.nowfun and other._tz == self._tz
        return NotImplemented
