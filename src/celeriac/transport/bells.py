"""Wake-ups between processes of one machine: datagram sockets in a folder beside the database.

1. `Bell`: a socket of this process that others can ring; one thread waits on it.
2. `ring`: rings a bell of another process, with a payload; says whether anybody was there.
3. `folder_for`: where the sockets of a database are.

Rings are hints: whoever waits looks into the store when woken, and now and then without (`POLL`). Where there
are no such sockets (Windows, some file systems), a bell has no name and its owner looks every `SLOW_POLL`.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import itertools
import os
import socket
import stat
import threading
import weakref
from collections.abc import Sequence
from typing import Final

__all__ = ["POLL", "SLOW_POLL", "Bell", "folder_for", "ring"]

#: Seconds after which a sleeper looks into the store although nobody rang.
POLL: Final = 1.0
#: The same where nobody can ring.
SLOW_POLL: Final = 0.05
#: Bytes of the longest payload; senders split longer ones.
PAYLOAD: Final = 60_000

#: Bytes that a socket's path may have; Linux allows 107, macOS 103.
_LONGEST_PATH: Final = 100
_LONGEST_NAME: Final = 30
_HAVE_SOCKETS: Final = hasattr(socket, "AF_UNIX") and os.name == "posix"
_numbers = itertools.count(1)


def folder_for(database: str) -> str:
    """The folder of the sockets of `database` (an absolute path); the same for every process."""
    beside = f"{database}.wake"
    if len(os.fsencode(beside)) + 1 + _LONGEST_NAME <= _LONGEST_PATH:
        return beside
    import hashlib  # rarely needed, and not cheap to import
    import tempfile

    short = hashlib.sha256(os.fsencode(database)).hexdigest()[:16]
    root = "/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir()  # TMPDIR may differ between processes
    return os.path.join(root, f"celeriac-{os.geteuid() if _HAVE_SOCKETS else 0}-{short}")


class Bell:
    """A socket that other processes ring. `name` is empty where that is not possible.

    `wait` belongs to one thread at a time; `ring` and `close` may be called from any.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._rung = threading.Event()  # used where there are no sockets
        self._socket: socket.socket | None = None
        self.name = ""
        if _HAVE_SOCKETS:
            with contextlib.suppress(OSError):  # no sockets on this file system: the owner polls
                try:
                    self._bind()
                except FileNotFoundError:  # the last other one has just gone, and the folder with it
                    self._bind()

    def _bind(self) -> None:
        _make_private(self._folder)
        _tidy(self._folder)
        name = f"{os.getpid()}.{next(_numbers)}.{os.urandom(2).hex()}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listener.bind(os.path.join(self._folder, name))
        except OSError:
            listener.close()
            raise
        self._socket, self.name = listener, name
        # Also when the owner forgets to close it, and at the end of the process.
        self._hang_up = weakref.finalize(
            self, _hang_up, listener, os.path.join(self._folder, name), os.getpid()
        )

    def wait(self, timeout: float | None) -> Sequence[bytes]:
        """Block until the bell is rung or `timeout` seconds have passed; return all payloads that are there.

        Without sockets it returns after `SLOW_POLL` seconds at the latest.
        """
        if self._socket is None:
            self._rung.wait(SLOW_POLL if timeout is None else min(timeout, SLOW_POLL))
            self._rung.clear()
            return ()
        payloads: list[bytes] = []
        with contextlib.suppress(OSError):  # nobody rang (any more); or closed by another thread
            self._socket.settimeout(timeout)
            payloads.append(self._socket.recv(65536))
            self._socket.settimeout(0)
            while True:
                payloads.append(self._socket.recv(65536))
        return payloads

    def ring(self) -> None:
        """End the wait of this bell's owner, or its next one."""
        if self._socket is None:
            self._rung.set()
        else:
            ring(self._folder, self.name, b"")

    def close(self) -> None:
        if self._socket is not None:
            self._hang_up()
        self._rung.set()


def _hang_up(listener: socket.socket, path: str, owner: int) -> None:
    listener.close()
    if os.getpid() == owner:  # a forked child has the socket too, but the name is its parent's
        with contextlib.suppress(OSError):
            os.unlink(path)
            os.rmdir(os.path.dirname(path))  # the last one out


def ring(folder: str, name: str, payload: bytes) -> bool:
    """Ring the bell `name`; False when its owner is gone. Never blocks.

    A bell whose owner has not listened for long is full: it counts as rung, since its owner will look.
    """
    sender = _sender()
    if sender is None or not name:
        return False
    try:
        sender.sendto(payload, os.path.join(folder, name))
    except OSError as exc:
        # Full, or our own end was put away; else it is gone, and tidied up some day.
        return exc.errno in (errno.EAGAIN, errno.ENOBUFS, errno.EBADF)
    return True


def _tidy(folder: str) -> None:
    """Remove the sockets of processes that died without closing them."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            except OSError:
                continue  # full, gone meanwhile, or no socket of ours: leave it


_senders: dict[int, socket.socket] = {}  # by process id: a forked child opens its own


def _sender() -> socket.socket | None:
    sender = _senders.get(os.getpid())
    if sender is None and _HAVE_SOCKETS:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.setblocking(False)
        sender = _senders.setdefault(os.getpid(), made)
        if sender is not made:  # another thread was first
            made.close()
    return sender


@atexit.register
def _put_away() -> None:
    while _senders:
        _senders.popitem()[1].close()


def _make_private(folder: str) -> None:
    """Make `folder` for this user alone; refuse one that somebody else could have planted."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
        raise PermissionError(errno.EPERM, "the folder of wake-up sockets belongs to somebody else", folder)
