"""`Service`: runs a scheduler until it is told to stop.

1. Which scheduler class (`beat_scheduler`, ``-S``), and with which file and interval.
2. The loop: tick, sleep, save now and then. Sleeping is in short pieces by the monotonic clock, so that a
   machine that slept or a clock that was set is noticed within a second, and a stop at once.
3. What a scheduler raises is logged and the loop goes on: a scheduler that has stopped silently is the worst.

`run` is all of it as a function, for the worker's embedded scheduler.
"""

from __future__ import annotations

import logging
import threading
import time
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from celeriac import plugins, signals
from celeriac.beat.persistent import PersistentScheduler
from celeriac.beat.scheduler import Scheduler
from celeriac.beat.stop import StopDescriptor, StopPipe, StopSource
from celeriac.exceptions import ImproperlyConfigured
from celeriac.utils.time import humanize_seconds

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["Service", "run"]

logger = logging.getLogger("celeriac.beat")

#: Most seconds to sleep before looking at the clocks again.
_NAP: Final = 1.0
#: Seconds by which the wall clock may run ahead of or behind the monotonic one before we say it was set.
_DRIFT: Final = 0.5
#: Seconds to wait after the scheduler raised something.
_RECOVERY: Final = 5.0
_GROUPS: Final = ("celeriac.beat_schedulers", "celery.beat_schedulers")


class Service:
    """Runs a scheduler.

    Args:
        app: whose schedule is run.
        max_interval: most seconds between two looks; by default `beat_max_loop_interval`.
        schedule_filename: where runs are written down; by default `beat_schedule_filename`.
        scheduler_cls: class, ``"module:Class"`` or entry point name; by default `beat_scheduler`.
        remote_control: accepted for compatibility, without effect.
        hostname: accepted for compatibility, without effect.
    """

    scheduler_cls: Any = PersistentScheduler

    def __init__(
        self,
        app: Celeriac,
        max_interval: float | None = None,
        schedule_filename: str | None = None,
        scheduler_cls: Any = None,
        remote_control: bool | None = None,
        hostname: str | None = None,
    ) -> None:
        self.app = app
        self.max_interval = max_interval or app.conf.beat_max_loop_interval or None
        self.schedule_filename = schedule_filename or app.conf.beat_schedule_filename
        self.scheduler_cls = scheduler_cls or app.conf.beat_scheduler or self.scheduler_cls
        self.hostname = hostname
        self._scheduler: Scheduler | None = None
        self._stop: StopSource = StopPipe()
        self._stopped = threading.Event()
        self._ahead = time.time() - time.monotonic()

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler; made on first use."""
        if self._scheduler is None:
            self._scheduler = self.get_scheduler()
        return self._scheduler

    def get_scheduler(
        self, lazy: bool = False, extension_namespace: str = "celery.beat_schedulers"
    ) -> Scheduler:
        """Make the scheduler.

        Raises:
            ImproperlyConfigured: there is no such class, the schedule has a mistake, or its file is in use.
        """
        kind = _scheduler_class(self.scheduler_cls, (*_GROUPS, extension_namespace))
        made: Scheduler = kind(
            app=self.app,
            schedule_filename=self.schedule_filename,
            max_interval=self.max_interval,
            lazy=lazy,
        )
        return made

    def start(self, embedded_process: bool = False) -> None:
        """Run until stopped; then write everything down.

        Args:
            embedded_process: we run beside a worker: `beat_embedded_init` is sent as well.

        Raises:
            ImproperlyConfigured: as `get_scheduler`.
        """
        logger.info("beat: Starting...")
        scheduler = self.scheduler
        logger.debug("beat: Ticking with max interval->%s", humanize_seconds(scheduler.max_interval))
        signals.beat_init.send(sender=self)
        if embedded_process:
            signals.beat_embedded_init.send(sender=self)
        try:
            while not self._stop.is_set():
                self._sleep(self._tick(scheduler))
        finally:
            logger.info("beat: Shutting down...")
            self.sync()
            self._stopped.set()

    def _tick(self, scheduler: Scheduler) -> float:
        try:
            interval = scheduler.tick()
            if scheduler.should_sync():
                scheduler._do_sync()
        except Exception:  # whatever it was, the next due times must not be missed for it
            logger.exception("The scheduler failed; trying again in %.0f s.", _RECOVERY)
            return _RECOVERY
        if interval > 0:
            logger.debug("beat: Waking up %s.", humanize_seconds(interval, prefix="in ", microseconds=True))
        return interval

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._clock_moved() and (left := until - time.monotonic()) > 0:
            if self._stop.wait(min(left, _NAP)):
                return

    def _clock_moved(self) -> bool:
        """Whether the wall clock has jumped since the last time this was asked; the scheduler is told."""
        before, self._ahead = self._ahead, time.time() - time.monotonic()
        moved = self._ahead - before
        if abs(moved) <= _DRIFT:
            return False
        logger.warning("beat: The clock moved by %+.1f s; looking at every entry again.", moved)
        self.scheduler.clock_moved()
        return True

    def stop(self, wait: bool = False) -> None:
        """End `start` soon. May be called from a signal handler, when `wait` is false.

        Args:
            wait: return only when everything is written down; not from the thread that runs `start`.
        """
        setter = getattr(self._stop, "set", None)
        if setter is None:
            raise RuntimeError("This scheduler is stopped through the file descriptor that it was given.")
        setter()
        if wait:
            self._stopped.wait()

    def stop_when(self, stop: threading.Event | int | StopSource) -> None:
        """Take another source for the word to stop: an event, or a descriptor that becomes readable."""
        self._stop = StopDescriptor(stop) if isinstance(stop, int) else stop

    def sync(self) -> None:
        """Write everything down and close the scheduler, if one was made."""
        if self._scheduler is not None:
            self._scheduler.close()


def run(
    app: Celeriac,
    *,
    schedule_file: str | None = None,
    max_interval: float | None = None,
    scheduler: Any = None,
    stop: threading.Event | int | StopSource | None = None,
    embedded: bool = True,
) -> None:
    """Run the app's schedule until `stop`.

    Args:
        app: whose schedule is run.
        schedule_file: where runs are written down; by default `beat_schedule_filename`.
        max_interval: most seconds between two looks.
        scheduler: scheduler class or its name; by default `beat_scheduler`.
        stop: an event to be set, or a file descriptor that becomes readable or is closed at its other end.
        embedded: we run beside a worker.

    Raises:
        ImproperlyConfigured: the schedule has a mistake, or its file is in use.
    """
    service = Service(app, max_interval, schedule_file, scheduler)
    if stop is not None:
        service.stop_when(stop)
    service.start(embedded_process=embedded)


def _scheduler_class(spec: Any, groups: tuple[str, ...]) -> Any:
    """A class given as such, by entry point name, or by path; paths below ``celery`` mean ours."""
    if not isinstance(spec, str):
        return spec
    for group in groups:
        for entry in entry_points(group=group, name=spec):
            return entry.load()
    path = "celeriac" + spec[len("celery") :] if spec.startswith(("celery.", "celery:")) else spec
    try:
        return plugins.load_class(path)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"The scheduler {spec!r} cannot be imported: {exc}. Write beat_scheduler (or -S) as "
            "'module:Class'; the default is 'celeriac.beat:PersistentScheduler'."
        ) from exc
