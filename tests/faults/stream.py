"""A producer that publishes all the time and keeps a journal of what became of it.

1. `Produced`: the journal: ``key`` when the publish has returned, ``key?`` when it raised and nobody knows;
   each synced to the disk before the next step.
2. `Stream`: a thread that publishes one call after the other until it is stopped.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from celeriac import Celeriac
from celeriac.exceptions import OperationalError

__all__ = ["Produced", "Stream"]


class Produced:
    """What a producer knows of its publishes; append-only, safe over its death."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.returned: list[str] = []
        self.unknown: list[str] = []

    def note(self, keys: Iterable[str], *, returned: bool) -> None:
        """One write and one sync for all `keys`."""
        keys = list(keys)
        (self.returned if returned else self.unknown).extend(keys)
        mark = "\n" if returned else "?\n"
        os.write(self._file, "".join(f"{key}{mark}" for key in keys).encode())
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


class Stream(threading.Thread):
    """Publishes `record` until stopped; task id and argument are the key.

    Args:
        app: publishes; its `broker_publish_timeout` bounds every call.
        pause: seconds between calls; `seconds`: of each body.

    Attributes:
        slowest: seconds that the longest publish took, returned or not.
        failed: what a publish raised that it must not raise.
    """

    def __init__(
        self, app: Celeriac, path: Path, *, pause: float = 0.002, seconds: float = 0.0, name: str = "k"
    ) -> None:
        super().__init__(name="stream", daemon=True)
        self.app = app
        self.produced = Produced(path)
        self.slowest = 0.0
        self.failed: BaseException | None = None
        self._pause = pause
        self._seconds = seconds
        self._prefix = name
        self._over = threading.Event()

    @property
    def returned(self) -> list[str]:
        return self.produced.returned

    @property
    def unknown(self) -> list[str]:
        return self.produced.unknown

    def run(self) -> None:
        for i in itertools.count():
            if self._over.wait(self._pause):
                return
            key = f"{self._prefix}{i}"
            started = time.monotonic()
            try:
                self.app.send_task("record", (key, self._seconds), task_id=key)
            except OperationalError:
                self.produced.note([key], returned=False)
            except BaseException as exc:  # for the test, which looks at it
                self.failed = exc
                return
            else:
                self.produced.note([key], returned=True)
            self.slowest = max(self.slowest, time.monotonic() - started)

    def stop(self) -> None:
        """Return when the last publish has returned or raised."""
        self._over.set()
        if self.is_alive():
            self.join(60)
        assert self.failed is None, repr(self.failed)
