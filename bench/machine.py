"""What the machine does: processor time by owner, memory of a process tree, the machine's own data.

1. `tree()`: a process and everything under it (or in its session), by pid.
2. `pss()`: memory of such a tree, shared pages counted once.
3. `ForeignLoad`: processor time spent by programs that are not the harness, a contender or its broker.
4. `describe()`: what a reader of figures needs to know about the machine.

Linux only: it reads /proc.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on (field 3), or None when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(root: int) -> list[int]:
    """`root`, its descendants, and the members of its session (for children whose parent has gone)."""
    parent: dict[int, int] = {}
    session: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))):
            parent[int(name)], session[int(name)] = int(fields[1]), int(fields[3])
    members = {root} | {pid for pid, leader in session.items() if leader == root}
    while True:
        more = {pid for pid, above in parent.items() if above in members} - members
        if not more:
            return sorted(pid for pid in members if pid in parent)
        members |= more


def started(pid: int) -> int | None:
    """When the process started, in ticks since the machine did: its identity with the pid. None when gone."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else None


def cpu_seconds(pids: list[int]) -> float:
    """Processor time of these processes and of their children that have been waited for, in seconds."""
    total = 0
    for pid in pids:
        if fields := _stat(pid):
            total += sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return total / TICKS


def own_cpu_seconds(pids: list[int]) -> float:
    """Processor time of these processes alone, in seconds, to the nanosecond where the kernel tells."""
    total = 0
    for pid in pids:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
            total += sum(
                int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0]) for thread in threads
            )
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total / 1e9


def pss(pids: list[int]) -> float:
    """Proportional set size of these processes, in MB: what the machine would get back if they all ended."""
    kilobytes = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


class ForeignLoad:
    """Cores used by other programs while it is open: `with ForeignLoad() as load: …; load.cores`."""

    cores: float

    def __enter__(self) -> ForeignLoad:
        self._start = self._snapshot()
        return self

    def __exit__(self, *_: object) -> None:
        end = self._snapshot()
        elapsed, busy, ours = (after - before for after, before in zip(end, self._start, strict=True))
        self.cores = max(0.0, (busy - ours) / max(elapsed, 1e-9))

    @staticmethod
    def _snapshot() -> tuple[float, float, float]:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
        user, nice, system = (int(field) for field in fields[1:4])
        steal = int(fields[8])
        return time.monotonic(), (user + nice + system + steal) / TICKS, cpu_seconds(tree(os.getpid()))


def describe() -> dict[str, str]:
    """The machine in a few words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }
