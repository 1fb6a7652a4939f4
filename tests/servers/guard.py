"""Nothing outlives the tests: a small process that ends the servers when the run that started them is gone.

1. `watch` and `forget`: tell the guard of a process and of its folder. The first call starts the guard.
2. As a script: read such lines from a pipe; when its writing end is closed, by whatever death, end what is
   left.

A parent-death signal would not do: it follows the thread that started the server, and its children ignore it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

__all__ = ["forget", "watch"]

_pipe: int | None = None


def _say(line: str) -> None:
    global _pipe
    if _pipe is None:
        reading, _pipe = os.pipe()
        streams = [(os.POSIX_SPAWN_DUP2, reading, 0)]
        os.posix_spawn(
            sys.executable, [sys.executable, "-SE", __file__], os.environ, file_actions=streams, setsid=True
        )
        os.close(reading)
        os.register_at_fork(after_in_child=_leave)
    os.write(_pipe, line.encode())


def _leave() -> None:
    """A fork of the run (a worker in a test) must not keep the pipe open."""
    global _pipe
    if _pipe is not None:
        os.close(_pipe)
        _pipe = None


def watch(pid: int, folder: Path, number: signal.Signals = signal.SIGKILL) -> None:
    """Should the run die before `forget`: end the process group *pid*, then remove *folder*."""
    _say(f"+ {pid} {int(number)} {folder}\n")


def forget(pid: int) -> None:
    """The process was ended, and its pid may be somebody else's soon."""
    _say(f"- {pid}\n")


def _main() -> None:
    watched: dict[int, tuple[int, str]] = {}
    for line in sys.stdin:
        sign, pid, *rest = line.rstrip("\n").split(" ", 3)
        if sign == "+":
            watched[int(pid)] = (int(rest[0]), rest[1])
        else:
            watched.pop(int(pid), None)
    for pid, (number, _) in watched.items():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)
            os.killpg(pid, signal.SIGCONT)
    deadline = time.monotonic() + 5
    for pid, (_, folder) in watched.items():
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    _main()
