"""The template: a process that has the application imported and does nothing but fork children from it.

1. Forked from the supervisor right after the application was imported and before anything was connected or
   any thread started, so its memory is shared with all children and forking it is always safe.
2. Takes orders over a socket pair (one JSON line and a file descriptor each), forks, reports pids and exits.
3. Dies with the supervisor, and its children die with it (parent-death signal on Linux; the control socket's
   end elsewhere).

An application that starts threads while it is imported cannot be forked safely: `Spawner` starts fresh
interpreters for it (and where there is no fork at all).
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

__all__ = [
    "Exit",
    "Nursery",
    "Order",
    "Spawner",
    "Template",
    "die_with_parent",
    "nursery",
    "obey_supervisor_only",
]

Entry = Callable[["Order", socket.socket], int]


class Order(NamedTuple):
    """What a child is to be. `role`: child, beat or steward; `detail`: JSON values for it."""

    role: str
    slot: int
    detail: dict[str, Any]


class Exit(NamedTuple):
    """A process that ended. `code`: exit status, negative for a signal."""

    pid: int
    code: int


class Nursery(Protocol):
    """Makes processes and tells when they end."""

    def fileno(self) -> int: ...

    def spawn(self, order: Order) -> tuple[int, socket.socket]:
        """Start a process; return its pid and our end of its control socket.

        Raises:
            BlockingIOError: the machine has no room for another process now.
            ChildProcessError: no process can be started any more, and all that were started are dead.
        """

    def exits(self) -> list[Exit]:
        """Processes that ended since the last call; never blocks. Raises `ChildProcessError` as `spawn`."""

    def close(self) -> None: ...


def nursery(app_name: str | None, entry: Entry) -> Nursery:
    """A template where forking is safe, else a spawner."""
    if hasattr(os, "fork") and threading.active_count() == 1:
        return Template(entry)
    if app_name is None:
        raise RuntimeError(
            "The application started threads while it was imported, so children cannot be forked from it; "
            "name it with -A so that they can be started afresh."
        )
    return Spawner(app_name)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


_GONE = "The template process is gone, and all children with it."


class Template:
    """The supervisor's handle on the template process."""

    def __init__(self, entry: Entry) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            ours.close()
            _serve(theirs, entry, parent)
        theirs.close()
        self._socket = ours
        self._buffer = b""
        self._exits: list[Exit] = []

    def fileno(self) -> int:
        return self._socket.fileno()

    def spawn(self, order: Order) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._socket, [json.dumps(order._asdict()).encode() + b"\n"], [theirs.fileno()])
        except OSError as exc:
            raise ChildProcessError(_GONE) from exc
        finally:
            theirs.close()
        answer: int | None = None
        while answer is None:
            for report in self._read(block=True):
                if "forked" in report:
                    answer = report["forked"]
                else:
                    self._note(report)
        if not answer:
            ours.close()
            raise BlockingIOError("no process could be forked: the machine has no room for another one")
        return answer, ours

    def exits(self) -> list[Exit]:
        for report in self._read(block=False):
            self._note(report)
        found, self._exits = self._exits, []
        return found

    def _note(self, report: dict[str, Any]) -> None:
        self._exits.append(Exit(report["pid"], report["code"]))

    def _read(self, *, block: bool) -> list[dict[str, Any]]:
        if not block and not select.select([self._socket], [], [], 0)[0]:
            return []
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            raise ChildProcessError(_GONE)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self._socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _serve(orders: socket.socket, entry: Entry, parent: int) -> None:
    """The template's whole life. Never returns."""
    try:
        die_with_parent()
        if os.getppid() != parent:
            os._exit(0)
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGQUIT,
            signal.SIGHUP,
            signal.SIGUSR1,
            signal.SIGUSR2,
        ):
            signal.signal(number, signal.SIG_IGN)
        wake_r, wake_w = os.pipe()
        for end in (wake_r, wake_w):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()
        buffer = b""
        fds: list[int] = []
        while True:
            ready, _, _ = select.select([orders.fileno(), wake_r], [], [])
            if wake_r in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_r, 4096)
                _reap(orders)
            if orders.fileno() in ready:
                data, received, _, _ = socket.recv_fds(orders, 65536, 16)
                if not data:
                    os._exit(0)
                fds += received
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    _fork(orders, Order(**json.loads(line)), fds.pop(0), entry, (wake_r, wake_w))
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the supervisor is gone
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(70)


def _reap(orders: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        orders.sendall(json.dumps({"pid": pid, "code": code}).encode() + b"\n")


def _fork(orders: socket.socket, order: Order, fd: int, entry: Entry, wake: tuple[int, int]) -> None:
    template = os.getpid()
    try:
        pid = os.fork()
    except OSError:  # too many processes, or no memory: the supervisor tries again later
        os.close(fd)
        orders.sendall(b'{"forked": 0}\n')
        return
    if pid:
        os.close(fd)
        orders.sendall(json.dumps({"forked": pid}).encode() + b"\n")
        return
    code = 70
    try:
        die_with_parent()
        if os.getppid() != template:
            os._exit(0)
        signal.set_wakeup_fd(-1)
        orders.close()
        for end in wake:
            os.close(end)
        _reset_signals()
        obey_supervisor_only()
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        code = entry(order, socket.socket(fileno=fd))
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _reset_signals() -> None:
    for number in (signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def obey_supervisor_only() -> None:
    """A child ends when the supervisor says so, even if everybody was sent SIGTERM (systemd, containers).

    A handler that does nothing, because what is ignored would stay ignored in the programs that a task
    starts; what a task forks gets the default back, with what was sent to it meanwhile. SIGUSR1 dumps the
    stacks.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    masks = threading.local()

    def before() -> None:
        masks.old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def after_in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.old)

    def after_in_child() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.old)

    os.register_at_fork(before=before, after_in_parent=after_in_parent, after_in_child=after_in_child)
    if sys.__stderr__ is not None:
        with contextlib.suppress(ValueError, OSError):  # no such descriptor: nowhere to dump to
            faulthandler.register(signal.SIGUSR1, file=sys.__stderr__, all_threads=True)


class Spawner:
    """Starts children as fresh interpreters that import the application again."""

    def __init__(self, app_name: str) -> None:
        self._app = app_name
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._wake_r, self._wake_w = os.pipe()

    def fileno(self) -> int:
        return self._wake_r

    def spawn(self, order: Order) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        argument = json.dumps({"app": self._app, "fd": theirs.fileno(), **order._asdict()})
        process = subprocess.Popen(
            [sys.executable, "-m", "celeriac.worker.child", argument],
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self._children[process.pid] = process
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()
        return process.pid, ours

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        with contextlib.suppress(OSError):  # closed already
            os.write(self._wake_w, b"x")

    def exits(self) -> list[Exit]:
        if select.select([self._wake_r], [], [], 0)[0]:
            os.read(self._wake_r, 4096)
        found = [Exit(pid, p.returncode) for pid, p in self._children.items() if p.poll() is not None]
        for exit_ in found:
            del self._children[exit_.pid]
        return found

    def close(self) -> None:
        os.close(self._wake_r)
        os.close(self._wake_w)
