"""The tasks of the demo. No broker is named, so everything is kept in the embedded store of this folder."""

from __future__ import annotations

import sysconfig
import time
from pathlib import Path

from measure import Measures, measure_file

from celeriac import Celeriac, Task

LIBRARY = Path(sysconfig.get_paths()["stdlib"])

app = Celeriac("codebase")


@app.task
def measure(name: str) -> Measures:
    """Measure one file of the standard library."""
    return measure_file(LIBRARY / name, name)


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
