"""A profile of a worker's child from within: which function costs what, per thread, in processor time.

1. `arm()`: from the next fork on, the child's main thread and every thread it starts run under cProfile.
2. `count()`: called by the task; at the execution numbered in BENCH_PROFILE_AT the child writes what it has
   seen to the folder BENCH_PROFILE, and goes on.

C functions are part of the Python function that calls them. BENCH_PROFILE_CLOCK says what is measured: `wall`
has the waits in it (for the interpreter's lock, for the broker), `cpu` has not, but reading that clock costs
more than many a function. Read the shares, not the sums: those come from `bench.profile`, which reads the
kernel's own account of a run that is not profiled.
"""

from __future__ import annotations

import cProfile
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

#: Whether this run is one to profile.
ARMED = "BENCH_PROFILE" in os.environ
_AT = int(os.environ.get("BENCH_PROFILE_AT", "0"))
_BY_CPU = os.environ.get("BENCH_PROFILE_CLOCK") == "cpu"

_profiles: list[tuple[str, cProfile.Profile]] = []
_executions = 0


def arm() -> None:
    """Profile the children of this process; when the run is not one to profile do nothing."""
    if ARMED:
        os.register_at_fork(after_in_child=_begin)


def _begin() -> None:
    global _executions
    sys.setprofile(None)
    _profiles.clear()
    _executions = 0
    threading.setprofile(_adopt_thread)
    _adopt("main")


def _adopt_thread(*_: Any) -> None:
    _adopt(threading.current_thread().name)


def _adopt(name: str) -> None:
    if _BY_CPU:
        profile = cProfile.Profile(time.thread_time, builtins=False)
    else:  # without a timer of ours, cProfile reads the wall clock cheaply
        profile = cProfile.Profile(builtins=False)
    _profiles.append((name, profile))
    profile.enable()


def count() -> None:
    """Count one execution; write the profiles when it is the one to write at."""
    global _executions
    _executions += 1
    if _executions == _AT:
        rows = [
            (thread, _label(entry.code), entry.callcount, entry.inlinetime)
            for thread, profile in list(_profiles)
            for entry in profile.getstats()
        ]
        path = Path(os.environ["BENCH_PROFILE"], f"{os.getpid()}.json")
        path.with_suffix(".part").write_text(json.dumps(rows))
        path.with_suffix(".part").rename(path)


def _label(code: Any) -> str:
    if isinstance(code, str):
        return code
    return f"{'/'.join(Path(code.co_filename).parts[-3:])}:{code.co_firstlineno} {code.co_qualname}"
