"""Results sent to the process that made the call, over RabbitMQ, in Celery's format (`rpc://`).

1. `RpcBackend`: what a worker stores is published to the reply queue that the call names; what comes to this
   process's own reply queue is kept in its memory until somebody asks, or it is pushed out.
2. `RpcWatch`: new documents of watched ids; refuses to wait where no result can ever come.

Not here: the reply queue (`rpc_replies.py`), what is in a document (`wire/results.py`), the connection
(`transport/amqp`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from celeriac.backends.base import BackendCapabilities, ResultTarget, StoredResult
from celeriac.backends.memory import MemoryWatch
from celeriac.backends.rpc_replies import Pigeonholes, Replies
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import AmqpServer, parse
from celeriac.transport.memory import Board
from celeriac.wire import serialization
from celeriac.wire.message import Message

__all__ = ["RpcBackend", "RpcWatch"]

logger = logging.getLogger("celeriac.result")

#: Results published before their confirms are waited for.
_WINDOW: Final = 500
_monotonic = time.monotonic


class RpcWatch(MemoryWatch):
    """See `celeriac.backends.base.Watch`."""

    def __init__(self, backend: RpcBackend, board: Board, ids: Iterable[str]) -> None:
        super().__init__(board, ())
        self._backend = backend
        self.add(ids)

    def add(self, ids: Iterable[str]) -> None:
        """Raises `ImproperlyConfigured` where no result can come: this process has made no calls."""
        wanted = list(ids)
        if wanted:
            self._backend.refuse_strangers(wanted)
        super().add(wanted)


class RpcBackend:
    """See `celeriac.backends.base.ResultBackend` and `Mailbox`.

    Args:
        url: ``rpc://`` for the broker's own server, or ``rpc://user:password@host/vhost``.
        options: the settings named in `plugins.py`, and those of `transport.amqp.url.parse`.

    Example:
        >>> backend = RpcBackend("rpc://localhost", {})
        >>> backend.store([StoredResult("id-1", b"{}", reply_to=backend.address)])
        >>> backend.load(["id-1", "id-2"])
        {'id-1': b'{}'}
    """

    capabilities: BackendCapabilities = BackendCapabilities(shared=False)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.server = _server(url, options)
        self._ttl: float | None = options.get("result_expires", 86_400.0) or None
        self._delivery_mode = 2 if options.get("result_persistent") else 1
        kind = serialization.find(str(options.get("result_serializer") or "json"))
        self._content = kind.content_type, kind.content_encoding
        self._serializer = kind.name
        self._begin()
        _backends.add(self)

    def _begin(self) -> None:
        """Nothing has come yet, nothing is connected. In a forked child what came to the parent is not
        ours."""
        self._lock = threading.Lock()  # guards `_replies`
        self._sending = threading.Lock()  # guards `_out`
        self._address = str(uuid.uuid4())
        self._board = Pigeonholes(self._serializer)
        self._replies: Replies | None = None
        self._end: weakref.finalize[[], RpcBackend] | None = None
        self._out: Channel | None = None
        self._out_link: Link | None = None
        self.listening = False

    # -- the mailbox --------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return self._address

    def listen(self) -> str:
        if not self.listening:
            with self._lock:
                if self._replies is None:
                    replies = Replies(self.server, self._address, self._board, self._ttl)
                    replies.start()
                    self._replies = replies
                    self._end = weakref.finalize(self, replies.end)  # its thread must not outlive us
                    self.listening = True
        return self._address

    def refuse_strangers(self, ids: Sequence[str]) -> None:
        """Raise when none of `ids` can ever have a result here."""
        if not self.listening and not self.load(ids):
            raise ImproperlyConfigured(
                f"The result of task {ids[0]} cannot come to this process: with the result backend rpc:// a "
                "result is sent only to the process that made the call, and this one has made none. Wait for "
                "it there, or use a result backend that processes share (redis://, db+postgresql://, …)."
            )

    # -- store and load -----------------------------------------------------------------------------------

    def store(self, batch: Sequence[StoredResult]) -> None:
        """Send each result to whoever made the call. One without an address, or with this process's own, is
        kept here. One whose caller is gone is dropped, as there is nobody to have it.

        Raises:
            OperationalError: the server did not confirm them in time; some may have been sent.
        """
        away = []
        for result in batch:
            if not result.reply_to or result.reply_to == self._address:
                self._keep(result.task_id, result.document, result.ttl)
            else:
                away.append(result)
        if away:
            with self._sending:
                for start in range(0, len(away), _WINDOW):
                    self._send(away[start : start + _WINDOW])

    def _keep(self, task_id: str, document: bytes, ttl: float | None) -> None:
        self._board.put(task_id, document, expires=None if ttl is None else time.time() + ttl)

    def _send(self, batch: Sequence[StoredResult]) -> None:
        deadline = _monotonic() + self.server.timeout
        fresh = self._out_link is None or not self._out_link.usable
        try:
            self._send_once(batch, deadline)
        except OperationalError:
            self._hang_up()
            if fresh:
                raise
            # The kept connection had died in the meantime. A result that arrives twice is the same result.
            self._send_once(batch, deadline)

    def _send_once(self, batch: Sequence[StoredResult], deadline: float) -> None:
        channel = self._outgoing(deadline)
        content_type, content_encoding = self._content
        for task_id, document, _, reply_to in batch:
            properties = {"correlation_id": task_id, "delivery_mode": self._delivery_mode, "priority": 0}
            message = Message(document, content_type, content_encoding, {}, properties)
            channel.publish("", reply_to, message, mandatory=True)
        channel.await_confirms(deadline)
        for returned in channel.returned:
            logger.debug("A result was dropped: the queue %s of its caller is gone.", returned.routing_key)
        channel.returned.clear()
        if channel.nacked:
            refused = len(channel.nacked)
            channel.nacked.clear()
            raise OperationalError(
                f"RabbitMQ at {self.server.url} did not take {refused} of {len(batch)} results."
            )

    def _outgoing(self, deadline: float) -> Channel:
        if self._out_link is None or not self._out_link.usable or self._out is None:
            self._out_link = Link.dial(self.server, deadline=deadline, heartbeat=0)
            self._out = self._out_link.channel(deadline=deadline)
            self._out.confirm_select(deadline=deadline)
        return self._out

    def _hang_up(self) -> None:
        if self._out_link is not None:
            self._out_link.close()
        self._out = self._out_link = None

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        """What has come to this process. Results of other processes' calls are never here."""
        return self._board.get(ids, now=time.time())

    def forget(self, ids: Sequence[str]) -> None:
        self._board.forget(ids)

    def watch(self, ids: Iterable[str] = ()) -> RpcWatch:
        return RpcWatch(self, self._board, ids)

    def target(self) -> ResultTarget | None:
        return None

    # -- groups: nobody else could load them ----------------------------------------------------------------

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None:
        raise _no_groups()

    def load_group(self, group_id: str) -> bytes | None:
        raise _no_groups()

    def delete_group(self, group_id: str) -> None:
        raise _no_groups()

    # -- the rest -----------------------------------------------------------------------------------------

    def expire(self) -> int:
        return self._board.expire(now=time.time())

    def describe(self) -> str:
        return f"rpc:// over {self.server.url}"

    def close(self) -> None:
        """Delete the reply queue and drop the connections. What has come stays; a later call listens anew."""
        with self._lock:
            replies, self._replies, self.listening = self._replies, None, False
            end, self._end = self._end, None
        if end is not None:
            end.detach()
        if replies is not None:
            replies.close()
            self._address = str(uuid.uuid4())  # whoever answers to the old one must not bring it back
        with self._sending:
            self._hang_up()


def _server(url: str, options: Mapping[str, Any]) -> AmqpServer:
    """Where `url` points; ``rpc://`` alone points to the broker."""
    chosen: dict[str, Any] = {
        "ssl": options.get("broker_use_ssl") or None,
        "login_method": options.get("broker_login_method"),
        "socket_connect_timeout": options.get("broker_connection_timeout"),
    }
    own = {name: options[name] for name in ("heartbeat", "frame_max", "client_name") if name in options}
    if not url.partition("://")[2].strip("/"):
        given = options.get("broker_write_url") or "amqp://"
        url = given if isinstance(given, str) else ";".join(given)
        scheme = url.partition("://")[0].lower()
        if "://" in url and scheme not in ("amqp", "amqps", "pyamqp", "librabbitmq", "rabbitmq"):
            raise ImproperlyConfigured(
                f"result_backend = 'rpc://' sends results over RabbitMQ, but the broker is {scheme}://. Name "
                "the RabbitMQ server (rpc://user:password@host/vhost), or use another result backend."
            )
    server = parse(url, {name: value for name, value in (chosen | own).items() if value is not None})
    return server._replace(shuffle=options.get("broker_failover_strategy") == "shuffle")


def _no_groups() -> NotImplementedError:
    """The exception that Celery raises for this store."""
    return NotImplementedError(
        "The result backend rpc:// cannot save groups: what it keeps is in the memory of one process. Use a "
        "store that processes share (redis://, db+postgresql://, …) for GroupResult.save and restore."
    )


_backends: weakref.WeakSet[RpcBackend] = weakref.WeakSet()


def _forget_in_child() -> None:
    for backend in list(_backends):
        if backend._end is not None:
            backend._end.detach()
        backend._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
