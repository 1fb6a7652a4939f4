"""What all private servers of the tests share.

1. `free_port`, `find_program`.
2. `Server`: a process on a port of its own, with a folder of its own, ended by its process id only.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tests.servers import guard

__all__ = ["Server", "find_program", "free_port"]

_chance = random.SystemRandom()  # a test that seeds the common one must not get the ports of another again


def free_port() -> int:
    """A port that nobody uses, and that no other test run of this machine is given as long as we live.

    The one 10,000 above, which a cluster node takes as well, is free too: none is chosen from there, and no
    client is given one as its own.
    """
    while True:
        port = _chance.randrange(12_000, 22_000)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        if _reserve(port):
            return port


def _reserve(port: int) -> bool:
    """Between our look at it and the start of the server another run could be given the same one."""
    if sys.platform != "linux":
        return True  # no such names there
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        mark.bind(f"\0celeriac-test-port-{port}")
    except OSError:
        mark.close()
        return False
    mark.detach()  # stays open, and with it the name stays ours, until this process ends
    return True


def find_program(name: str, folders: Iterable[str | Path] = ()) -> str | None:
    """Path of a program on PATH, beside the running Python or where systems keep servers; or None."""
    for path in (None, Path(sys.executable).parent, *folders, "/usr/sbin", "/usr/local/sbin"):
        if found := shutil.which(name, path=None if path is None else str(path)):
            return found
    return None


class Server:
    """A server process on 127.0.0.1.

    A subclass says in `command` what to run and in `answers` how to see that it serves.

    Attributes:
        port: on 127.0.0.1; stays the same over `kill` and `start`.
        folder: its data, settings and log; removed by `stop`.
        process: the main process, None while it does not run.

    Args:
        name: of the server, for its folder and for messages.
    """

    #: How to end it when the run dies, and the time in seconds in which it must answer.
    end_signal = signal.SIGKILL
    patience = 30.0

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"celeriac-{name}-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it serves; may raise OSError while it does not listen yet."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str] | None:
        return None

    def start(self) -> None:
        """Start and return when it answers; the same port and the same data as before."""
        self.process = self.spawn(self.command())
        self.wait_until(self.answers, "did not start")

    def spawn(self, command: list[str], user: int | None = None) -> subprocess.Popen[bytes]:
        """A process in a session of its own, under guard; its output goes to the log."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=self.environment(), user=user, group=user, extra_groups=None if user is None else [],
                cwd=self.folder,
            )  # fmt: skip
        guard.watch(process.pid, self.folder, self.end_signal)
        return process

    def wait_until(self, is_true: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            try:
                if is_true():
                    return
            except OSError:
                pass  # not listening yet
            time.sleep(0.005)
        raise RuntimeError(f"{self.name} {complaint}:\n{self.log()[-3000:]}")

    def log(self) -> str:
        """What it has written."""
        return (self.folder / "log").read_text(errors="replace")

    def ask(self, data: bytes, size: int = 1 << 16) -> bytes:
        """Send bytes over a socket of its own; what comes back first."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            sock.settimeout(10)
            sock.sendall(data)
            return sock.recv(size)

    def kill(self) -> None:
        """SIGKILL of every process it has, as a power cut of the machine."""
        self.end(signal.SIGKILL)

    def stop(self) -> None:
        """End it and remove its folder."""
        self.end(self.end_signal)
        shutil.rmtree(self.folder, ignore_errors=True)

    def freeze(self) -> None:
        """SIGSTOP: it accepts connections (the system does) and never answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def pids(self) -> list[int]:
        """The main process and all that descend from it."""
        assert self.process is not None, f"{self.name} does not run"
        import psutil  # here, so that who only looks for a binary needs no package

        main = psutil.Process(self.process.pid)
        return [main.pid, *(child.pid for child in main.children(recursive=True))]

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue  # it has ended meanwhile

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                if number == signal.SIGKILL:
                    killed = self.pids()
                    self._signal(number)
                    _wait_for_the_end_of(killed)
                else:
                    os.kill(self.process.pid, number)
                    self._signal(signal.SIGCONT)
                self.process.wait(20)
            guard.forget(self.process.pid)
        self.process = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()


def _wait_for_the_end_of(pids: list[int]) -> None:
    """Only the main process is ours to wait for; the others let go of ports and files a moment later."""
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}/exe") for pid in pids):
        if time.monotonic() > deadline:
            raise RuntimeError(f"of {pids} some live on after SIGKILL")
        time.sleep(0.002)
