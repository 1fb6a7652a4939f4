"""The tasks of the demo. No broker is named, so everything is kept in the embedded store of this folder."""

from __future__ import annotations

import sysconfig
import time
from pathlib import Path

from measure import Measures, Summary, measure_file, sum_up

from celeriac import Celeriac, Queue, Task

LIBRARY = Path(sysconfig.get_paths()["stdlib"])

app = Celeriac("codebase")
# A queue of its own, so that what is due at a certain time does not stand behind two thousand files.
app.conf.task_queues = [Queue("files"), Queue("timely")]
app.conf.task_default_queue = "files"
app.conf.task_routes = {"tasks.wake_up": {"queue": "timely"}, "tasks.stumble": {"queue": "timely"}}


@app.task
def measure(name: str) -> Measures:
    """Measure one file of the standard library."""
    return measure_file(LIBRARY / name, name)


@app.task
def summarise(measured: list[Measures]) -> Summary:
    """Sum up all files, when the last one has been measured."""
    return sum_up(measured)


@app.task(bind=True, max_retries=3)
def stumble(self: Task) -> int:
    """Fail on purpose on the first try; the second succeeds and says how many retries it took."""
    if self.request.retries == 0:
        raise self.retry(exc=ConnectionError("the first try fails on purpose"), countdown=0.5)
    return self.request.retries


@app.task
def wake_up() -> float:
    """Say when this ran (seconds since the epoch)."""
    return time.time()
