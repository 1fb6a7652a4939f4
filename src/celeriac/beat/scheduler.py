"""`Scheduler`: decides what to send now, and when to look again.

1. The schedule: entries from `beat_schedule`, entries added by hand.
2. `tick`: send what is due, return the seconds until the next look.
3. `apply_entry`, `apply_async`: send one entry. A broker that cannot be reached leaves the entry due.

It keeps nothing across restarts (`persistent.py` does), starts no thread, never sleeps (`service.py` does).
Subclasses override `setup_schedule`, the property `schedule`, `reserve`, `sync`, `Entry`.
"""

from __future__ import annotations

import copy
import heapq
import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from celeriac.beat.entry import ScheduleEntry
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.schedules import crontab

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["DEFAULT_MAX_INTERVAL", "Scheduler", "SchedulingError", "event_t"]

#: Most seconds between two looks.
DEFAULT_MAX_INTERVAL: Final = 300

logger = logging.getLogger("celeriac.beat")

_KEYS: Final = ("task", "schedule", "args", "kwargs", "options", "relative")
_CLEANUP: Final = "celery.backend_cleanup"
#: Least seconds between two looks at an entry that was not due.
_SHORTEST: Final = 0.001


class SchedulingError(Exception):
    """An entry could not be sent, and trying again would not help."""


class event_t(NamedTuple):
    """A line of the agenda: look at `entry` at `time` (epoch seconds)."""

    time: float
    priority: int
    entry: Any


class Scheduler:
    """Sends entries when they are due.

    Args:
        app: whose settings, tasks and broker count.
        schedule: entries by name, to start with.
        max_interval: most seconds between two looks; by default `beat_max_loop_interval`, else 300.
        Producer: accepted for compatibility; the app publishes.
        lazy: do not read the schedule yet.
        sync_every_tasks: call `sync` after so many runs; `beat_sync_every` by default. 0: every 3 minutes.
    """

    Entry: ClassVar[type[ScheduleEntry]] = ScheduleEntry

    #: Seconds between two calls of `sync`.
    sync_every: float = 3 * 60
    #: Runs between two calls of `sync`; None: only `sync_every` counts.
    sync_every_tasks: int | None = None
    max_interval: float = DEFAULT_MAX_INTERVAL
    logger = logger
    producer = None

    def __init__(
        self,
        app: Celeriac,
        schedule: dict[str, Any] | None = None,
        max_interval: float | None = None,
        Producer: Any = None,
        lazy: bool = False,
        sync_every_tasks: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.app = app
        self.data: dict[str, Any] = {} if schedule is None else schedule
        self.max_interval = max_interval or app.conf.beat_max_loop_interval or self.max_interval
        self.Producer = Producer
        self.sync_every_tasks = app.conf.beat_sync_every if sync_every_tasks is None else sync_every_tasks
        self.old_schedulers: Mapping[str, Any] | None = None
        self._heap: list[event_t] | None = None
        self._last_sync: float | None = None
        self._tasks_since_sync = 0
        self._failures = 0
        if not lazy:
            self.setup_schedule()

    # The schedule.

    @property
    def schedule(self) -> Any:
        """The entries by name."""
        return self.get_schedule()

    @schedule.setter
    def schedule(self, schedule: dict[str, Any]) -> None:
        self.set_schedule(schedule)

    def get_schedule(self) -> Any:
        return self.data

    def set_schedule(self, schedule: dict[str, Any]) -> None:
        self.data = schedule

    def setup_schedule(self) -> None:
        """Read the schedule; called once."""
        self.update_from_dict({**self.schedule, **self.app.conf.beat_schedule})
        self.install_default_entries(self.schedule)

    def install_default_entries(self, data: Mapping[str, Any]) -> None:
        """Add the nightly clean-up, for result stores that do not drop old results by themselves."""
        conf = self.app.conf
        if conf.result_expires and not self.app.backend.capabilities.expiry and _CLEANUP not in data:
            entry = {
                "task": _CLEANUP,
                "schedule": crontab("0", "4", "*"),
                "options": {"expires": 12 * 3600},
            }
            self.update_from_dict({_CLEANUP: entry})

    def add(self, **kwargs: Any) -> ScheduleEntry:
        """Add an entry; the arguments are those of `ScheduleEntry`."""
        entry = self.Entry(app=self.app, **kwargs)
        self.schedule[entry.name] = entry
        return entry

    def update_from_dict(self, dict_: Mapping[str, Any]) -> None:
        """Add or replace entries given as in `beat_schedule`."""
        self.schedule.update({name: self._maybe_entry(name, entry) for name, entry in dict_.items()})

    def merge_inplace(self, b: Mapping[str, Any]) -> None:
        """Make the schedule equal to `b`; entries that stay keep when they ran last."""
        schedule = self.schedule
        for name in set(schedule) - set(b):
            del schedule[name]
        for name, definition in b.items():
            entry = self._maybe_entry(name, definition)
            if name in schedule:
                schedule[name].update(entry)
            else:
                schedule[name] = entry

    def _maybe_entry(self, name: str, entry: Any) -> ScheduleEntry:
        if isinstance(entry, self.Entry):
            entry.app = self.app
            return entry
        try:
            return self.Entry(**{**checked(name, entry), "name": name, "app": self.app})
        except (TypeError, ValueError) as exc:
            raise ImproperlyConfigured(f"beat_schedule[{name!r}] cannot be used: {exc}") from exc

    def schedules_equal(
        self, old_schedules: Mapping[str, Any] | None, new_schedules: Mapping[str, Any] | None
    ) -> bool:
        """Whether both hold the same entries, as far as they are defined by hand."""
        if old_schedules is None or new_schedules is None:
            return old_schedules is new_schedules
        if old_schedules.keys() != new_schedules.keys():
            return False
        return all(
            old is new_schedules[name] or old == new_schedules[name] for name, old in old_schedules.items()
        )

    # The loop's body.

    def tick(self) -> float:
        """Send everything that is due; return the seconds until the next look."""
        schedule = self.schedule
        if self._heap is None or not self.schedules_equal(self.old_schedulers, schedule):
            self.old_schedulers = copy.copy(schedule)
            self.populate_heap()
        heap = self._heap or []
        for _ in range(len(heap) + 1 if heap else 0):
            event = heap[0]
            due, seconds = self.is_due(event.entry)
            if not due:
                return self._until_next(heap, event, seconds)
            try:
                self.apply_entry(event.entry)
            except OperationalError as exc:
                return self._broker_is_away(event.entry, exc)
            self._failures = 0
            heapq.heapreplace(heap, self._event(self._reserved(event.entry)))
        return 0.0 if heap else self.max_interval

    def _until_next(self, heap: list[event_t], event: event_t, seconds: float | None) -> float:
        """`event` is first in the agenda but not due: put it where it belongs."""
        if seconds is None:
            return self.max_interval
        now = time.time()
        heapq.heapreplace(heap, event._replace(time=now + seconds))
        first = seconds if heap[0].entry is event.entry else heap[0].time - now
        return max(_SHORTEST, min(first, self.max_interval))

    def _reserved(self, entry: ScheduleEntry) -> ScheduleEntry:
        """Write down the run; the agenda's own copy of the schedule follows, as nothing was edited."""
        following = self.reserve(entry)
        if isinstance(self.old_schedulers, dict) and entry.name is not None:
            self.old_schedulers[entry.name] = following
        self._tasks_since_sync += 1
        return following

    def _broker_is_away(self, entry: ScheduleEntry, exc: OperationalError) -> float:
        self._failures += 1
        pause = min(0.5 * 2.0 ** min(self._failures, 6), 30.0, self.max_interval)
        logger.error(
            "Cannot reach the broker: %s. Entry %r stays due; trying again in %.1f s.", exc, entry.name, pause
        )
        return pause

    def is_due(self, entry: ScheduleEntry) -> tuple[bool, float]:
        """Ask an entry. One that cannot answer is logged and left until the next look."""
        try:
            return entry.is_due()
        except Exception:  # a schedule is code of the application's: it must not stop the others
            logger.exception("Entry %r cannot say when it is due; the other entries go on.", entry.name)
            return False, self.max_interval

    def populate_heap(self) -> None:
        """Write the agenda anew."""
        self._heap = [self._event(entry) for entry in self.schedule.values()]
        heapq.heapify(self._heap)

    def _event(self, entry: ScheduleEntry) -> event_t:
        due, seconds = self.is_due(entry)
        if due:
            seconds = 0.0
        return event_t(time.time() + (self.max_interval if seconds is None else seconds), 5, entry)

    def clock_moved(self) -> None:
        """The system's clock was set, or the machine slept: look at every entry again."""
        self._heap = None

    def reserve(self, entry: ScheduleEntry) -> ScheduleEntry:
        """Note that `entry` was sent; return the entry that follows."""
        following: ScheduleEntry = next(entry)
        self.schedule[entry.name] = following
        return following

    # Sending.

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send `entry`, and log. What would fail again is logged and counts as sent.

        Raises:
            OperationalError: the broker cannot be reached; the entry is still due.
        """
        logger.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)
        try:
            result = self.apply_async(entry, producer=producer, advance=False)
        except OperationalError:
            raise
        except Exception as exc:  # the schedule goes on whatever one entry does
            logger.error("Entry %r was not sent: %s", entry.name, exc, exc_info=True)
        else:
            logger.debug("%s sent. id->%s", entry.task, getattr(result, "id", None))

    def apply_async(
        self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any
    ) -> Any:
        """Publish `entry` as a task message.

        Args:
            entry: what to send.
            producer: accepted for compatibility.
            advance: write the run down as well.

        Raises:
            OperationalError: the broker cannot be reached.
            SchedulingError: it cannot be published for another reason.
        """
        options = dict(entry.options or {})
        run_id = entry.run_id()
        if run_id is not None:
            options.setdefault("task_id", run_id)
        task = self.app.tasks.get(entry.task or "")
        try:
            if task is not None:
                result = task.apply_async(entry.args, entry.kwargs, **options)
            else:
                result = self.send_task(entry.task, entry.args, entry.kwargs, **options)
        except OperationalError:
            raise
        except Exception as exc:
            raise SchedulingError(f"Cannot send the scheduled task {entry.name!r}: {exc!r}") from exc
        if advance:
            self._reserved(entry)
        return result

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        return self.app.send_task(*args, **kwargs)

    # Keeping.

    def should_sync(self) -> bool:
        """Whether it is time to call `sync`."""
        if self._last_sync is None:
            self._last_sync = time.monotonic()
        overdue = time.monotonic() - self._last_sync > self.sync_every
        return overdue or bool(self.sync_every_tasks and self._tasks_since_sync >= self.sync_every_tasks)

    def _do_sync(self) -> None:
        try:
            self.sync()
        finally:
            self._last_sync = time.monotonic()
            self._tasks_since_sync = 0

    def sync(self) -> None:
        """Write down what is only in memory; nothing here."""

    def close(self) -> None:
        self.sync()

    @property
    def info(self) -> str:
        """A line for the banner."""
        return ""


def checked(name: str, entry: Any) -> Mapping[str, Any]:
    """Return an entry of `beat_schedule` that can be one.

    Raises:
        ImproperlyConfigured: it is no dictionary, has an unknown key, or lacks one.
    """
    if not isinstance(entry, Mapping):
        raise ImproperlyConfigured(f"beat_schedule[{name!r}] must be a dictionary, not {entry!r}.")
    unknown = sorted(set(map(str, entry)) - {*_KEYS, "name", "app", "last_run_at", "total_run_count"})
    if unknown:
        raise ImproperlyConfigured(
            f"beat_schedule[{name!r}] has no key {unknown[0]!r}; there are {', '.join(_KEYS)}. "
            "Options of apply_async go into 'options'."
        )
    for key in ("task", "schedule"):
        if entry.get(key) is None:
            raise ImproperlyConfigured(f"beat_schedule[{name!r}] lacks {key!r}.")
    schedule = entry["schedule"]
    if not isinstance(schedule, (int, float, timedelta)) and not hasattr(schedule, "is_due"):
        raise ImproperlyConfigured(
            f"beat_schedule[{name!r}]['schedule'] must be seconds, a timedelta or a schedule such as "
            f"crontab(), not {schedule!r}."
        )
    return entry
