"""One connection to RabbitMQ: bytes in and out, under deadlines. Used by one thread.

1. `Link.dial`: opens one, at the first address that lets us in.
2. `Link.read` takes in what has arrived and deals it to the channels; `Link.flush` sends what has been
   buffered. While it sends it also reads: a server that is pushing deliveries at us never waits for us to
   read them while we wait for it to read ours.
3. Dead peers: heartbeats both ways, TCP keepalive and TCP_USER_TIMEOUT; each call has a deadline.
4. Fork safety: a link of the parent is closed for a child; the parent's goes on.

Deadlines are `time.monotonic` seconds.
"""

from __future__ import annotations

from typing import Any

from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.url import AmqpServer

__all__ = ["Link"]


class Link:
    """One open connection. Not thread-safe.

    Attributes:
        where: ``host:port``, for messages.
        closed: True after any failure, and in a forked child.
        blocked: why the server takes no publishes at the moment (memory or disk alarm); empty when it does.
            RabbitMQ tells only connections that publish, and stops reading from those altogether: acknowledge
            over another one.
        heartbeat: the agreed interval in seconds; 0: none.
        server_properties: product, version, capabilities, as the server says.
        last_sent: `time.monotonic` of the last write.
    """

    where: str
    closed: bool
    blocked: str
    heartbeat: float
    server_properties: dict[str, Any]
    last_sent: float

    @classmethod
    def dial(cls, server: AmqpServer, *, deadline: float, heartbeat: float | None = None) -> Link:
        """Connect and log in: each address gets at most `server.connect_timeout` seconds, all of them until
        `deadline`.

        Args:
            heartbeat: instead of `server.heartbeat`; 0 for none (a link that nobody reads for minutes).

        Raises:
            Refused: every address that answered did not let us in.
            Disconnected: nobody could be reached. The text names each address and why, and no password.
        """
        raise NotImplementedError

    def channel(self, *, deadline: float | None = None) -> Channel:
        """Open a channel. `deadline` None: `server.timeout` seconds from now, here and everywhere."""
        raise NotImplementedError

    def read(self, timeout: float = 0.0) -> bool:
        """Take in everything that has arrived; when that is nothing, block up to `timeout` seconds for it.

        Also sends heartbeats that are due, and whatever `flush` would. True when anything came for a channel.
        Never raises for a channel that the server closed: see `Channel.error`.

        Raises:
            Disconnected: the connection is gone, or the server has been silent for two heartbeats.
        """
        raise NotImplementedError

    def flush(self, deadline: float | None = None) -> None:
        """Send everything buffered: publishes, acknowledgements. Reads as well while the server is slow.

        Raises:
            Disconnected: the connection is gone.
            Blocked: it did not take the bytes before `deadline` because of an alarm. The link is closed:
            half a
                message may have gone out.
        """
        raise NotImplementedError

    def beat(self) -> None:
        """Send a heartbeat if one is due (and read nothing). Cheap; call it when `read` is not called."""
        raise NotImplementedError

    @property
    def writing(self) -> bool:
        """True while a frame is only half sent: nobody else may write to the socket now."""
        raise NotImplementedError

    @property
    def is_tls(self) -> bool:
        raise NotImplementedError

    def fileno(self) -> int:
        """The socket's, for polling. Bytes may be buffered that it does not show: `read(0)` first."""
        raise NotImplementedError

    def close(self, *, farewell: float = 0.0) -> None:
        """Close. With `farewell` > 0 say good-bye and wait so many seconds for the answer (never raises);
        without, just drop the socket, which is all that a forked child may do. Idempotent."""
        raise NotImplementedError

    def shut(self) -> None:
        """End the connection from another thread: whoever blocks on it is woken and finds it closed."""
        raise NotImplementedError
