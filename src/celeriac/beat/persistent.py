"""`PersistentScheduler`: a scheduler that remembers across restarts when each entry ran last."""

from __future__ import annotations

import logging
from typing import Any

from celeriac.beat.entry import ScheduleEntry
from celeriac.beat.scheduler import Scheduler
from celeriac.beat.store import Ran, ScheduleFile, ScheduleFileError

__all__ = ["PersistentScheduler"]

logger = logging.getLogger("celeriac.beat")


class PersistentScheduler(Scheduler):
    """The default scheduler. Each run is written to the schedule file right after it was sent.

    Args:
        *args: as `Scheduler`.
        schedule_filename: the schedule file; by default `beat_schedule_filename`.
        **kwargs: as `Scheduler`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.schedule_filename: str | None = kwargs.pop("schedule_filename", None)
        self._file: ScheduleFile | None = None
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        self.schedule_filename = self.schedule_filename or self.app.conf.beat_schedule_filename
        self._file = ScheduleFile(self.schedule_filename)
        self._file.open()
        try:
            super().setup_schedule()
            self._recall(self._file)
        except BaseException:
            self._file.close()
            raise

    def _recall(self, file: ScheduleFile) -> None:
        known = file.load()
        for name, entry in self.schedule.items():
            if name in known:
                entry.last_run_at, entry.total_run_count = known[name]
        file.forget(known.keys() - self.schedule.keys())
        # A new entry counts from its first sight, however often we are restarted before it is due.
        file.save({name: _ran(entry) for name, entry in self.schedule.items() if name not in known})

    def reserve(self, entry: ScheduleEntry) -> ScheduleEntry:
        following = super().reserve(entry)
        self._save({str(following.name): _ran(following)})
        return following

    def sync(self) -> None:
        self._save({name: _ran(entry) for name, entry in self.schedule.items()})

    def _save(self, runs: dict[str, Ran]) -> None:
        if self._file is None:
            return
        try:
            self._file.save(runs)
        except ScheduleFileError as exc:
            # Sending goes on: a full disk must not stop the schedule.
            logger.error("%s After a restart these runs may be sent again: %s.", exc, ", ".join(runs))

    def close(self) -> None:
        if self._file is not None:
            self.sync()
            self._file.close()
            self._file = None

    @property
    def info(self) -> str:
        return f"    . db -> {self.schedule_filename}"


def _ran(entry: ScheduleEntry) -> Ran:
    return Ran(entry.last_run_at, entry.total_run_count)
