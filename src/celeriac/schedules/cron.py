"""`crontab`: due at times on the clock and days in the calendar.

Not here: reading the fields (`cron_parser.py`); the next match and daylight saving (`cron_search.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo
from typing import Any

from celeriac.schedules.base import BaseSchedule, schedstate
from celeriac.schedules.cron_parser import ParseException, expand_field
from celeriac.schedules.cron_search import Fields, next_after
from celeriac.utils.time import as_timezone, ffwd, maybe_make_aware, utc

__all__ = ["crontab"]

Cronspec = int | str | Iterable[int]

_LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


class crontab(BaseSchedule):
    """Due in every minute in which all five fields match the clock in the schedule's time zone.

    What was missed (the scheduler was down, the machine slept) is run once, unless the last missed due time
    is more than `beat_cron_starting_deadline` seconds ago. What happens when clocks are changed is stated in
    `celeriac.schedules.cron_search`.

    Args:
        minute: 0-59; ``"*/15"``, ``"0,30"``, ``5``, ``{0, 30}``.
        hour: 0-23.
        day_of_week: 0-6, Sunday is 0, or names (``"mon-fri"``).
        day_of_month: 1-31. A day must match this field *and* `day_of_week`.
        month_of_year: 1-12, or names.
        nowfun: returns the current time; the app's clock by default.
        app: whose clock, time zone and settings count; the current app by default.
        tz: the time zone of this schedule, a name or tzinfo; the app's by default.

    Raises:
        ParseException: a field cannot be read, or no such day exists (30 February).
        TypeError: a field is neither number, text nor a collection of numbers.

    Example:
        >>> crontab(minute=0, hour=9, day_of_week="mon-fri")
        <crontab: 0 9 * * mon-fri (m/h/dM/MY/d)>
    """

    def __init__(
        self,
        minute: Cronspec = "*",
        hour: Cronspec = "*",
        day_of_week: Cronspec = "*",
        day_of_month: Cronspec = "*",
        month_of_year: Cronspec = "*",
        **kwargs: Any,
    ) -> None:
        zone: str | tzinfo | None = kwargs.pop("tz", None)
        # Read by Sentry's and django-celery-beat's code as well.
        self._orig_minute = minute
        self._orig_hour = hour
        self._orig_day_of_week = day_of_week
        self._orig_day_of_month = day_of_month
        self._orig_month_of_year = month_of_year
        self.minute = expand_field("minute", minute, 60)
        self.hour = expand_field("hour", hour, 24)
        self.day_of_week = expand_field("day_of_week", day_of_week, 7)
        self.day_of_month = expand_field("day_of_month", day_of_month, 31, 1)
        self.month_of_year = expand_field("month_of_year", month_of_year, 12, 1)
        self._refuse_days_that_never_come()
        super().__init__(**kwargs)
        if zone is not None:
            self._tz = as_timezone(zone)

    def _refuse_days_that_never_come(self) -> None:
        first = min(self.day_of_month)
        if all(first > _LONGEST.get(month, 31) for month in self.month_of_year):
            given = f"day_of_month={self._orig_day_of_month!r}, month_of_year={self._orig_month_of_year!r}"
            raise ParseException(f"crontab({given}) would never be due: those months have no day {first}.")

    @classmethod
    def from_string(cls, crontab: str) -> crontab:
        """Make one from the five fields of a crontab line: minute, hour, day of month, month, day of week.

        Raises:
            ParseException: there are not five fields, or one cannot be read.

        Example:
            >>> crontab.from_string("30 4 1 * *")
            <crontab: 30 4 1 * * (m/h/dM/MY/d)>
        """
        fields = crontab.split()
        if len(fields) != 5:
            raise ParseException(
                f"{crontab!r} has {len(fields)} fields; a crontab has five: "
                "minute, hour, day of month, month, day of week."
            )
        minute, hour, day_of_month, month_of_year, day_of_week = fields
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    @property
    def _fields(self) -> Fields:
        return Fields(
            tuple(sorted(self.minute)),
            tuple(sorted(self.hour)),
            frozenset(self.day_of_week),
            tuple(sorted(self.day_of_month)),
            tuple(sorted(self.month_of_year)),
        )

    def due_after(self, last_run_at: datetime) -> datetime:
        return next_after(self._fields, utc(last_run_at), self.tz)

    def remaining_delta(
        self, last_run_at: datetime, tz: tzinfo | str | None = None, ffwd: type = ffwd
    ) -> tuple[datetime, timedelta, datetime]:
        """Return the last run, the time from it to the next due time, and now; all in the schedule's zone."""
        zone = self.tz if tz is None else as_timezone(tz)
        due = next_after(self._fields, utc(last_run_at), zone)
        last = maybe_make_aware(last_run_at).astimezone(zone)
        return last, due - utc(last), maybe_make_aware(self.now()).astimezone(zone)

    def remaining_estimate(self, last_run_at: datetime, ffwd: type = ffwd) -> timedelta:
        return self.due_after(last_run_at) - self.clock(None)

    def is_due(self, last_run_at: datetime, now: datetime | None = None) -> schedstate:
        """Whether a due time has passed since the last run, and how many seconds until the next one.

        Args:
            last_run_at: when it ran last. A naive datetime is in UTC.
            now: the current time; by default this schedule's own clock.
        """
        now = self.clock(now)
        since = utc(last_run_at)
        deadline = self.app.conf.beat_cron_starting_deadline
        if deadline:
            since = max(since, now - timedelta(seconds=deadline))
        upcoming = self.due_after(since)
        if upcoming <= now:
            return schedstate(True, (self.due_after(now) - now).total_seconds())
        return schedstate(False, (upcoming - now).total_seconds())

    def credible(self, last_run_at: datetime, now: datetime) -> bool:
        """A last run ahead of now is believed while it would make us leave out one due time at most.

        So a clock that is corrected by seconds runs nothing twice, and one that was wrong by more than a
        period stops nothing for longer than a period.
        """
        if utc(last_run_at) <= utc(now):
            return True
        second = self.due_after(self.due_after(now))
        return self.due_after(last_run_at) <= second

    def __repr__(self) -> str:
        fields = (
            self._orig_minute,
            self._orig_hour,
            self._orig_day_of_month,
            self._orig_month_of_year,
            self._orig_day_of_week,
        )
        return f"<crontab: {' '.join(map(str, fields))} (m/h/dM/MY/d)>"

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, crontab):
            return self._fields == other._fields and super().__eq__(other)
        return NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (
            self._orig_minute,
            self._orig_hour,
            self._orig_day_of_week,
            self._orig_day_of_month,
            self._orig_month_of_year,
        )
        return type(self), fields, {"_tz": self._tz}
