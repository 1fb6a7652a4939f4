"""The scheduler: sends tasks when they are due.

1. `entry.py`: `ScheduleEntry`, one line of the schedule and the id of each of its runs.
2. `scheduler.py`: `Scheduler`, which decides what to send now and when to look again.
3. `persistent.py`, `store.py`: `PersistentScheduler`, which remembers across restarts; its file.
4. `service.py`: `Service`, which runs a scheduler until it is told to stop; `run`, the same as a function.
5. `stop.py`: the ways to be told.

What is promised: every due time is sent once while the scheduler runs; what was missed while it did not run
is sent once, not as many times as it was missed. A run is written down after it was sent, so a scheduler
that dies in between sends that run again, under the same task id. A broker that is away delays runs and loses
none.

Not here: when something is due (`schedules/`), what a worker does with it.
"""

from __future__ import annotations

from celeriac.beat.entry import ScheduleEntry
from celeriac.beat.persistent import PersistentScheduler
from celeriac.beat.scheduler import DEFAULT_MAX_INTERVAL, Scheduler, SchedulingError
from celeriac.beat.service import Service, run

__all__ = [
    "DEFAULT_MAX_INTERVAL",
    "PersistentScheduler",
    "ScheduleEntry",
    "Scheduler",
    "SchedulingError",
    "Service",
    "run",
]
