"""How a worker stops, with Celery's meanings.

1. Warm: running tasks may finish, nothing new starts.
2. Soft: warm for `worker_soft_shutdown_timeout` seconds, then cold.
3. Cold: running tasks are stopped, and their messages go back to the queues.

Not here: which signal asks for what (`supervisor.py`), how a child ends (`child.py`).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from typing import Literal

from celeriac.worker.children import Child

__all__ = ["Shutdown"]


class Shutdown:
    """Tells the children to stop.

    Args:
        children: those of this node, by process id; read whenever something is told.
        grace: seconds of a soft shutdown; 0: there is none.

    Attributes:
        stage: how far it is; None: the worker works.
        exit_code: status that the worker ends with.
        restart: it is to be started again when it has ended.
    """

    def __init__(self, children: Mapping[int, Child], grace: float) -> None:
        self.stage: Literal["warm", "cold"] | None = None
        self.exit_code = 0
        self.restart = False
        self._children = children
        self._grace = grace
        self._deadline: float | None = None

    def warm(self, why: str, hint: str = "") -> None:
        if self.stage is None:
            _say(f"{why} received: warm shutdown; running tasks may finish{hint}")
            self._stop(why, "Warm")

    def interrupt(self) -> None:
        """Ctrl-C: warm, and cold when it is pressed again."""
        self.exit_code = 1
        if self.stage is None:
            self.warm("SIGINT", hint=" (press Ctrl-C again to stop cold)")
        else:
            self.cold()

    def soft(self) -> None:
        """Asked for a second time, it is cold at once."""
        if self._grace <= 0 or self._deadline is not None:
            self.cold()
            return
        self._deadline = time.monotonic() + self._grace
        _say(f"soft shutdown: {self._grace:g} s of grace for running tasks")
        if self.stage is None:
            self._stop("SIGQUIT", "Soft")

    def cold(self) -> None:
        if self.stage == "cold":
            return
        if self.stage is None:
            self._stop("SIGQUIT", "Cold")
        self.stage = "cold"
        running = sum(len(child.ledger.running()) for child in self._children.values() if child.ledger)
        _say(f"cold shutdown; {running} running task(s) stopped, their messages go back to the queues")
        for child in self._children.values():
            if child.role != "steward":
                child.innocent = True
                child.kill()

    def watch(self, now: float) -> None:
        """End the grace of a soft shutdown when it is over; `now` of `time.monotonic`."""
        if self._deadline is not None and now >= self._deadline:
            self.cold()

    def _stop(self, why: str, how: str) -> None:
        """Tell the children to stop, and the steward that they were told."""
        self.stage = "warm"
        for child in self._children.values():
            if child.role == "steward":
                child.tell(shutting_down={"sig": why, "how": how, "exitcode": self.exit_code})
            else:
                child.tell(stop=True)


def _say(text: str) -> None:
    with contextlib.suppress(ValueError, OSError):  # the terminal may be gone
        print(f"\nworker: {text}", file=sys.stderr, flush=True)
