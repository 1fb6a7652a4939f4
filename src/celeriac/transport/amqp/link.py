"""One connection to RabbitMQ: bytes in and out, under deadlines. Used by one thread.

1. `Link.dial`: opens one, at the first address that lets us in.
2. `Link.read` takes in what has arrived and deals it to the channels; `Link.flush` sends what has been
   buffered. While it sends it also reads: a server that is pushing deliveries at us never waits for us to
   read them while we wait for it to read ours.
3. Dead peers: heartbeats both ways, TCP keepalive and TCP_USER_TIMEOUT; each call has a deadline.
4. Fork safety: in a forked child a link of the parent counts as closed; the parent's goes on.

An exception in the middle of an operation (a signal's, for instance) closes the link: its stream would be out
of step. Deadlines are `time.monotonic` seconds.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from celeriac import failpoints
from celeriac.exceptions import OperationalError
from celeriac.transport.amqp import dial, methods
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.frames import HEARTBEAT, Stream, method_frame
from celeriac.transport.amqp.poller import Poller, would_block
from celeriac.transport.amqp.table import Malformed
from celeriac.transport.amqp.url import AmqpServer, Node
from celeriac.transport.amqp.values import Blocked, Disconnected, Refused

__all__ = ["Link"]

#: Bytes asked of the kernel at a time.
_CHUNK: Final = 1 << 16
#: How often in a row, so that a server which sends faster than we read does not keep us for ever.
_CHUNKS: Final = 32
_monotonic = time.monotonic
_getpid = os.getpid
_WANTS: Final = (BlockingIOError, InterruptedError)


class Link:
    """One open connection. Not thread-safe.

    Attributes:
        where: ``host:port``, for messages.
        closed: True after any failure.
        blocked: why the server takes no publishes at the moment (memory or disk alarm); empty when it does.
            RabbitMQ tells only connections that publish, and stops reading from those altogether: acknowledge
            over another one.
        heartbeat: the agreed interval in seconds; 0: none.
        server_properties: product, version, capabilities, as the server says.
        last_sent: `time.monotonic` of the last write.
    """

    def __init__(self, sock: socket.socket, server: AmqpServer, node: Node) -> None:
        self.where = f"{node.host}:{node.port}"
        self.closed = False
        self.blocked = ""
        self.heartbeat = 0
        self.server_properties: dict[str, Any] = {}
        self.last_sent = self._last_heard = _monotonic()
        self.timeout = server.timeout
        self.frame_max = 131_072
        self.is_tls = node.tls is not None
        self._sock = sock
        self._pid = _getpid()
        self._poller = Poller(sock.fileno())
        self._channels: dict[int, Channel] = {}
        self._channel_max = 2047
        self._stream = Stream(self._channels, self._on_control, self.frame_max)
        self._out: list[bytes] = []
        self._unsent: memoryview[int] | None = None
        self._controls: dict[int, list[Any]] = {}  # methods of channel 0 that have come, and nobody has read
        self._end: OperationalError | None = None  # why the server closes the connection

    @classmethod
    def dial(cls, server: AmqpServer, *, deadline: float, heartbeat: float | None = None) -> Link:
        """Connect and log in: each address gets at most `server.connect_timeout` seconds, and its share of
        what is left until `deadline`.

        Args:
            heartbeat: instead of `server.heartbeat`; 0 for none (a link that nobody reads for minutes).

        Raises:
            Refused: every address that answered did not let us in.
            Disconnected: nobody could be reached. The text names each address and why, and no password.
        """
        failures: list[OperationalError] = []
        for left, node in zip(range(len(server.nodes), 0, -1), dial.in_turn(server), strict=True):
            now = _monotonic()  # one that does not answer must leave time for the others
            until = now + min(server.connect_timeout, (deadline - now) / left)
            try:
                link = cls(dial.open_socket(node, until), server, node)
                link._log_in(server, node, heartbeat, until)
            except Disconnected as exc:
                failures.append(exc)
                continue
            dial.remember(server, node)
            return link
        raise dial.all_failed(server, failures)

    def _log_in(self, server: AmqpServer, node: Node, heartbeat: float | None, deadline: float) -> None:
        try:
            self._out.append(dial.PREAMBLE)
            start = self._control(methods.CONNECTION_START, deadline)
            self.server_properties = start[2]
            self.put(method_frame(0, dial.greeting_answer(server, node, start)))
            limits = dial.tuned(server, self._control(methods.CONNECTION_TUNE, deadline), heartbeat)
            self._channel_max, self.frame_max, self.heartbeat = limits
            self._stream.frame_max = self.frame_max
            self.put(method_frame(0, methods.dumps(methods.CONNECTION_TUNE_OK, *limits)))
            self.put(method_frame(0, methods.dumps(methods.CONNECTION_OPEN, node.vhost, "", False)))
            self._control(methods.CONNECTION_OPEN_OK, deadline)
        except Refused:
            self.close()
            raise
        except Disconnected as exc:
            self.close()
            raise dial.not_let_in(exc, node) from exc
        except BaseException:
            self.close()
            raise

    def _control(self, method: int, deadline: float) -> list[Any]:
        """Wait for a method on channel 0."""
        self.wait_for(lambda: method in self._controls, deadline, "the log-in")
        return self._controls.pop(method)

    def channel(self, *, deadline: float | None = None) -> Channel:
        """Open a channel. `deadline` None: `server.timeout` seconds from now, here and everywhere."""
        self._check()
        number = next((n for n in range(1, self._channel_max + 1) if n not in self._channels), 0)
        if not number:
            raise Disconnected(f"RabbitMQ at {self.where} allows {self._channel_max} channels; all are open.")
        channel = self._channels[number] = Channel(self, number)
        channel.open(deadline=deadline)
        return channel

    def forget(self, number: int) -> None:
        """The channel `number` is closed on both sides."""
        self._channels.pop(number, None)

    # -- reading and writing ------------------------------------------------------------------------------

    def read(self, timeout: float = 0.0) -> bool:
        """Take in everything that has arrived; when that is nothing, block up to `timeout` seconds for it.

        Also sends heartbeats that are due, and whatever `flush` would. True when anything came for a channel.
        Never raises for a channel that the server closed: see `Channel.error`. Look at `arrivals` before you
        block: every other call takes deliveries in, too.

        Raises:
            Disconnected: the connection is gone, or the server has been silent for two heartbeats.
        """
        self._check()
        try:
            self._send()
            came = self._receive()
            if not came and timeout > 0:
                deadline = _monotonic() + timeout
                while not came and self._block(deadline):
                    self._send()
                    came = self._receive()
            self._beat()
            self._send()
        except BaseException:
            self.close()
            raise
        return came

    def flush(self, deadline: float | None = None) -> None:
        """Send everything buffered: publishes, acknowledgements. Reads as well while the server is slow.

        Raises:
            Disconnected: the connection is gone, or did not take the bytes before `deadline`.
            Blocked: it did not take them because of an alarm. The link is closed: half a message may have
            gone
                out.
        """
        self._check()
        try:
            self._send()
            if self._unsent is not None or self._out:
                until = _monotonic() + self.timeout if deadline is None else deadline
                while self._unsent is not None or self._out:
                    self._receive()
                    if not self._block(until):
                        raise self._late("our bytes")
                    self._send()
        except BaseException:
            self.close()
            raise

    def wait_for(self, ready: Callable[[], bool], deadline: float, what: str) -> None:
        """Send and read until `ready()`. For channels.

        Raises:
            Disconnected, Blocked: not before `deadline`; the link is closed. `what` says what did not come.
        """
        self._check()
        try:
            while not ready():
                self._send()
                waited = self._block(deadline)  # first: the answer is hardly ever there already
                self._receive()
                if not waited and not ready():
                    raise self._late(what)
        except BaseException:
            self.close()
            raise

    def put(self, frame: bytes) -> None:
        """Buffer the bytes of whole frames."""
        self._out.append(frame)

    def put_all(self, frames: tuple[bytes, ...]) -> None:
        self._out += frames

    def beat(self) -> None:
        """Send a heartbeat if one is due (and read nothing). Cheap; call it when `read` is not called."""
        self._check()
        try:
            self._beat()
            self._send()
        except BaseException:
            self.close()
            raise

    def _beat(self) -> None:
        if self.heartbeat and _monotonic() - self.last_sent >= self.heartbeat / 2 and not self.writing:
            self._out.append(HEARTBEAT)

    def _send(self) -> None:
        """Hand to the kernel as much as it takes."""
        while True:
            if self._unsent is None:
                if not self._out:
                    return
                data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
                self._out.clear()
            else:
                data = self._unsent  # type: ignore[assignment]
            try:
                sent = self._sock.send(data)
            except _WANTS:
                sent = 0
            except OSError as exc:
                if not would_block(exc):
                    raise self._broken(exc) from exc
                sent = 0
            if sent == len(data):
                self._unsent = None
                if failpoints.on:
                    failpoints.passed("sent", self.shut)
            else:
                self._unsent = memoryview(data)[sent:]
            if sent:
                self.last_sent = _monotonic()
            if self._unsent is not None:
                return

    def _receive(self) -> bool:
        """Take in what the kernel has; True when some of it was for a channel."""
        stream = self._stream
        stream.news = False
        for _ in range(_CHUNKS):
            try:
                data = self._sock.recv(_CHUNK)
            except _WANTS:
                break
            except OSError as exc:
                if would_block(exc):
                    break
                raise self._broken(exc) from exc
            if not data:
                raise self._ended(Disconnected(f"RabbitMQ at {self.where} closed the connection."))
            self._last_heard = _monotonic()
            try:
                stream.feed(data)
            except Malformed as exc:
                raise Disconnected(f"RabbitMQ at {self.where} sent what is not AMQP: {exc}.") from exc
            if self._end is not None:
                raise self._ended(self._end)
            if len(data) < _CHUNK and not self.is_tls:
                break
        return stream.news

    def _block(self, deadline: float) -> bool:
        """Block until there may be something to read, or room to write; False after the deadline.

        Raises:
            Disconnected: the server is silent.
        """
        now = _monotonic()
        if now >= deadline:
            return False
        if self.is_tls and self._sock.pending():  # type: ignore[attr-defined]
            return True
        until = deadline
        if self.heartbeat:
            if now - self._last_heard >= 2 * self.heartbeat:
                raise self._ended(
                    Disconnected(
                        f"RabbitMQ at {self.where} has been silent for {now - self._last_heard:.0f} s; two "
                        f"heartbeats of {self.heartbeat} s are missing."
                    )
                )
            self._beat()
            self._send()
            until = min(until, self._last_heard + 2 * self.heartbeat)
            if not self.writing:  # else no heartbeat can go out
                until = min(until, self.last_sent + self.heartbeat / 2)
        self._poller.wait(max(0.0, until - now), to_write=self._unsent is not None)
        return True

    # -- what the server says of the connection -----------------------------------------------------------

    def _on_control(self, method: int, arguments: list[Any]) -> None:
        if method == methods.CONNECTION_BLOCKED:
            self.blocked = str(arguments[0]) or "alarm"
        elif method == methods.CONNECTION_UNBLOCKED:
            self.blocked = ""
        elif method == methods.CONNECTION_CLOSE:
            code, text = arguments[0], arguments[1]
            self._out = [method_frame(0, methods.dumps(methods.CONNECTION_CLOSE_OK))]
            self._end = Disconnected(
                f"RabbitMQ at {self.where} closed the connection: {code} {text}", int(code)
            )
        else:
            self._controls[method] = arguments

    def _ended(self, exc: OperationalError) -> OperationalError:
        """Say good-bye as far as that goes without waiting."""
        with contextlib.suppress(OperationalError):
            self._send()
        return exc

    # -- ends ---------------------------------------------------------------------------------------------

    @property
    def writing(self) -> bool:
        """True while a frame is only half sent: nobody else may write to the socket now."""
        return self._unsent is not None

    def fileno(self) -> int:
        """The socket's, for polling. Bytes may be buffered that it does not show: `read(0)` first."""
        return self._sock.fileno()

    @property
    def usable(self) -> bool:
        """False once closed, and in a child of the process that dialled."""
        return not self.closed and self._pid == _getpid()

    def close(self, *, farewell: float = 0.0) -> None:
        """Close. With `farewell` > 0 say good-bye and wait so many seconds for the answer (never raises);
        without, just drop the socket, which is all that a forked child may do. Idempotent."""
        if farewell > 0 and self.usable:
            with contextlib.suppress(OperationalError):
                self.put(method_frame(0, methods.dumps(methods.CONNECTION_CLOSE, 200, "good-bye", 0)))
                deadline = _monotonic() + farewell
                self.wait_for(lambda: methods.CONNECTION_CLOSE_OK in self._controls, deadline, "good-bye")
        if not self.closed:
            self.closed = True
            if self._pid == _getpid():
                self.shut()  # a duplicate of the socket may keep the connection open elsewhere
            self._sock.close()

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            self.close()

    def shut(self) -> None:
        """End the connection from another thread: whoever blocks on it is woken and finds it closed."""
        with contextlib.suppress(OSError):  # closed already: that is what was wanted
            self._sock.shutdown(socket.SHUT_RDWR)

    def _check(self) -> None:
        if self.closed:
            raise Disconnected(f"The connection to RabbitMQ at {self.where} is closed.")
        if self._pid != _getpid():
            raise Disconnected(
                f"The connection to RabbitMQ at {self.where} belongs to the process {self._pid}, which was "
                "forked; open another one."
            )

    def _late(self, what: str) -> OperationalError:
        if self.blocked:
            return Blocked(
                f"RabbitMQ at {self.where} takes no publishes now ({self.blocked}). Free memory or disk "
                "space on the server; it then goes on by itself."
            )
        return Disconnected(f"RabbitMQ at {self.where} did not answer in time ({what}).")

    def _broken(self, exc: OSError) -> Disconnected:
        return Disconnected(f"The connection to RabbitMQ at {self.where} broke: {exc.strerror or exc}.")
