"""One connection to a Redis server, driven directly: a socket and hiredis. The one importer of hiredis.

1. `Link`: requests in, replies out, every operation under a deadline (`time.monotonic` seconds).
2. `pack`: a command's bytes; `pack_large`: the same, where a word is larger than `LARGE`.
3. The errors of this border: `Disconnected` (the connection is of no use any more; what was sent may or may
   not have been done), `NotNow` (the server refused for a while: nothing was done), `Moved` (ask another
   node), `Refused` (the server's plain no). All are `OperationalError`.

A plain socket blocks in the kernel with a short kernel timeout (SO_RCVTIMEO): one system call per send and
one per reply, where Python's own timeouts cost a poll before each. Only when that slice runs out does the
deadline arithmetic begin. TLS sockets use Python's timeouts.

An exception in the middle of an operation (a signal's, for instance) closes the link: its stream would be out
of step.

Not here: opening (`dial.py`), retrying (`pool.py`).
"""

from __future__ import annotations

import re
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import hiredis
from hiredis import PushNotification, ReplyError

from celeriac import failpoints
from celeriac.exceptions import OperationalError
from celeriac.transport.alarm import readable, writable

__all__ = [
    "LARGE",
    "Disconnected",
    "Link",
    "Moved",
    "NotNow",
    "PushNotification",
    "Refused",
    "ReplyError",
    "pack",
    "pack_large",
    "refusal",
]

#: Seconds after which the kernel gives a blocked call back, so that the deadline can be looked at.
SLICE: Final = 0.25
_INCOMPLETE: Final = object()
_BUFFER: Final = 1 << 16
#: Error codes that pass by themselves, or with a new connection. Nothing was done.
_PASSING: Final = frozenset(
    {
        "LOADING",
        "READONLY",
        "MASTERDOWN",
        "UNBLOCKED",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "BUSY",
        "NOREPLICAS",
        "FAILOVER",
    }
)
_IN_SCRIPT: Final = re.compile(r"@user_script.*?-([A-Z]{2,} .*)")
_monotonic = time.monotonic
#: The bytes of a command.
pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
#: Bytes from which hiredis asks the system for memory, twice what it needs, which costs more than the rest.
LARGE: Final = 1 << 16


def pack_large(words: Sequence[str | bytes | int]) -> bytes:
    """The bytes of a command of few words, of which some are large.

    Example:
        >>> pack_large((b"SET", "a", 1)) == pack((b"SET", "a", 1))
        True
    """
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        parts += (b"$%d\r\n" % len(raw), raw, b"\r\n")
    return b"".join(parts)


class Disconnected(OperationalError):
    """The connection broke or did not answer in time; whether the request was carried out is not known."""


class NotNow(OperationalError):
    """The server cannot serve for now (loading, demoted, failing over); nothing was done."""


class Moved(OperationalError):
    """A cluster node said that the key lives elsewhere. `ask`: for this one request only."""

    def __init__(self, message: str, address: tuple[str, int], *, ask: bool) -> None:
        super().__init__(message)
        self.address = address
        self.ask = ask


class Refused(OperationalError):
    """The server answered with an error. `code` is its first word, e.g. ``OOM`` or ``NOSCRIPT``."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def refusal(error: ReplyError, where: str) -> OperationalError:
    """The exception for an error reply."""
    text = str(error)
    if inner := _IN_SCRIPT.search(text):  # before 7.0 a script's errors were wrapped
        text = inner[1]
    code, _, rest = text.partition(" ")
    if code in _PASSING:
        return NotNow(f"Redis at {where} cannot serve now: {text}")
    if code in ("MOVED", "ASK"):
        host, _, port = rest.rpartition(" ")[2].rpartition(":")
        return Moved(f"Redis at {where}: {text}", (host, int(port)), ask=code == "ASK")
    return Refused(f"Redis at {where} refused: {text}", code)


class Link:
    """One open connection. Not thread-safe.

    Attributes:
        where: for messages; no secrets.
        protocol: 3, or 2 where the server does not speak RESP3 (then there are no pushes).
        mode: ``standalone`` or ``cluster``, as the server says.
        pushes: out-of-band messages met while reading replies, oldest first; whoever wants them empties it.
        closed: True after any failure.
        address: the cluster node it leads to; None where there is but one server.
    """

    __slots__ = (
        "__weakref__", "_buffer", "_is_tls", "_reader", "_sock", "address", "closed", "mode", "protocol",
        "pushes", "where",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, where: str, *, is_tls: bool) -> None:
        self.closed = False
        self._sock = sock
        self._is_tls = is_tls
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._buffer = bytearray(_BUFFER)
        self.where = where
        self.protocol = 2
        self.mode = "standalone"
        self.pushes: list[Sequence[Any]] = []
        self.address: tuple[str, int] | None = None
        if not is_tls:
            _limit_blocking(sock)

    def fileno(self) -> int:
        return self._sock.fileno()

    def call(self, *words: str | bytes | int | float, deadline: float) -> Any:
        """One command, one reply. Raises `Refused` and its kin for an error reply."""
        return self.request(pack(words), deadline)

    def request(self, data: bytes, deadline: float) -> Any:
        """Send packed bytes of one command; return its reply. Error replies raise."""
        try:
            self._send(data, deadline)
            if failpoints.on:
                failpoints.passed("sent", self.shut)
            reply = self._reply(deadline)
            if failpoints.on:
                failpoints.passed("done", self.shut)
        except BaseException:  # a signal's exception too: the reply is still to come, on a stream out of step
            self.close()
            raise
        if type(reply) is ReplyError:
            raise refusal(reply, self.where)
        return reply

    def pipeline(self, commands: Sequence[bytes], deadline: float) -> list[Any]:
        """Send several packed commands in one trip; return the replies. `ReplyError`s stand in the list."""
        try:
            if len(commands) > 1 and len(commands[1]) < _BUFFER:
                self._send(b"".join(commands), deadline)
            else:
                for command in commands:
                    self._send(command, deadline)
            return self._replies(len(commands), deadline)
        except BaseException:
            self.close()
            raise

    def stream(self, commands: Iterable[bytes], deadline: float) -> list[Any]:
        """As `pipeline`, each command sent when it is made: the server reads while the next is written."""
        try:
            count = 0
            for command in commands:
                self._send(command, deadline)
                count += 1
            return self._replies(count, deadline)
        except BaseException:  # whatever made the commands, too: the server forgets what it has of them
            self.close()
            raise

    def _replies(self, count: int, deadline: float) -> list[Any]:
        if failpoints.on:
            failpoints.passed("sent", self.shut)
        replies = [self._reply(deadline) for _ in range(count)]
        if failpoints.on:
            failpoints.passed("done", self.shut)
        return replies

    def send(self, data: bytes, deadline: float) -> None:
        """Send only; the reply is fetched by `next`."""
        try:
            self._send(data, deadline)
        except BaseException:
            self.close()
            raise

    def next(self, deadline: float) -> Any:
        """The next reply, or the next push once `pushes` is empty and no reply came first.

        For subscribers: pushes are returned as what they are (`PushNotification`).
        """
        try:
            while True:
                reply = self._reader.gets()
                if reply is not _INCOMPLETE:
                    return reply
                self._fill(deadline)
        except BaseException:
            self.close()
            raise

    def buffered(self) -> bool:
        """True when bytes may be waiting that a poll of the socket does not show."""
        return bool(self._reader.has_data()) or (self._is_tls and self._sock.pending() > 0)  # type: ignore[attr-defined]

    def readable(self, timeout: float) -> bool:
        """Block up to `timeout` seconds for anything to arrive."""
        return self.buffered() or readable([self._sock.fileno()], timeout)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._sock.close()

    def __del__(self) -> None:
        self.close()

    def shut(self) -> None:
        """End the connection from another thread: whoever blocks on it is woken and finds it closed."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed already: that is what was wanted

    def _send(self, data: bytes, deadline: float) -> None:
        if self.closed:
            raise Disconnected(f"The connection to Redis at {self.where} is closed.")
        try:
            if self._is_tls:
                self._sock.settimeout(max(0.001, deadline - _monotonic()))
                self._sock.sendall(data)
                return
            sent = self._sock.send(data)
            if sent != len(data):
                self._send_rest(memoryview(data)[sent:], deadline)
        except BlockingIOError:
            self._send_rest(memoryview(data), deadline)
        except OSError as exc:
            raise self._broken(exc) from exc

    def _send_rest(self, data: memoryview, deadline: float) -> None:
        while data:
            if not writable(self._sock.fileno(), deadline - _monotonic()):
                raise self._late()
            try:
                data = data[self._sock.send(data, _DONTWAIT) :]
            except BlockingIOError:
                continue

    def _reply(self, deadline: float) -> Any:
        """The next reply that is not a push."""
        reader = self._reader
        while True:
            reply = reader.gets()
            if reply is _INCOMPLETE:
                self._fill(deadline)
            elif type(reply) is PushNotification:
                self.pushes.append(reply)
            else:
                return reply

    def _fill(self, deadline: float) -> None:
        """Block until bytes came, and feed them to the reader."""
        if self.closed:
            raise Disconnected(f"The connection to Redis at {self.where} is closed.")
        try:
            left = deadline - _monotonic()
            if self._is_tls:
                self._sock.settimeout(max(0.001, left))
            elif left < SLICE and not readable([self._sock.fileno()], left):
                raise self._late()
            count = self._sock.recv_into(self._buffer)
        except BlockingIOError:  # the kernel's slice ran out
            if not readable([self._sock.fileno()], deadline - _monotonic()):
                raise self._late() from None
            return
        except TimeoutError as exc:
            raise self._late() from exc
        except OSError as exc:
            raise self._broken(exc) from exc
        if not count:
            raise Disconnected(f"Redis at {self.where} closed the connection.")
        try:
            self._reader.feed(self._buffer, 0, count)  # type: ignore[arg-type]  # any buffer will do
        except hiredis.ProtocolError as exc:
            raise Disconnected(f"Redis at {self.where} sent bytes that are not RESP: {exc}") from exc

    def _late(self) -> Disconnected:
        return Disconnected(f"Redis at {self.where} did not answer in time.")

    def _broken(self, exc: OSError) -> Disconnected:
        return Disconnected(f"The connection to Redis at {self.where} broke: {exc.strerror or exc}.")


_DONTWAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)


def _limit_blocking(sock: socket.socket) -> None:
    sock.settimeout(None)
    if sys.platform == "win32":
        limit = struct.pack("@L", int(SLICE * 1000))
    else:
        limit = struct.pack("@ll", 0, int(SLICE * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
