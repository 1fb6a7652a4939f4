"""When something is due: schedules as values. Nothing here sleeps, sends or reads a file.

1. `base.py`: `BaseSchedule`, what every schedule answers. `interval.py`: every so many seconds.
2. `cron.py`: `crontab`; `cron_parser.py` reads its fields, `cron_search.py` finds its next due time.
3. `sun.py`: `solar`, events of the sun at a place.

Everything is decided in UTC from three values: the last run, the time zone, and now, which every `is_due`
takes as an argument (left out: the schedule's own clock). Not here: who asks, and who sends (`beat/`).
"""

from __future__ import annotations

from celeriac.schedules.base import BaseSchedule, schedstate
from celeriac.schedules.cron import crontab
from celeriac.schedules.cron_parser import ParseException, crontab_parser
from celeriac.schedules.interval import maybe_schedule, schedule
from celeriac.schedules.sun import solar

__all__ = [
    "BaseSchedule",
    "ParseException",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "solar",
]
