"""One channel of a link: declarations, publishes with confirms, consumers with acknowledgements.

1. Calls with an answer (declare, bind, consume, get, …) flush, wait for it until a deadline, and meanwhile
   take in whatever else arrives.
2. `publish`, `ack` and `nack` only buffer: `Link.flush` sends them, and so do all calls with an answer, and
   `Link.read`.
3. What has arrived is in `arrivals`, `returned`, `cancelled`, and in the books of confirms.

A channel that the server closes (404, 406, …) has its `error` set; from then on every method raises it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from celeriac.transport.amqp.values import Arrival, ChannelClosed, QueueState, Returned
from celeriac.wire.message import Message, Unreadable

__all__ = ["Channel"]


class Channel:
    """Made by `Link.channel`.

    Attributes:
        number: from 1.
        arrivals: messages of all consumers of this channel, oldest first; whoever wants them pops them.
        returned: mandatory publishes that came back, oldest first; a message is here before its confirm is
            counted. Empty it yourself.
        nacked: sequence numbers that the server said no to. Empty it yourself.
        cancelled: tags of consumers that the server ended (their queue was deleted). Empty it yourself.
        error: why the server closed this channel, or None.
    """

    number: int
    arrivals: deque[Arrival]
    returned: list[Returned]
    nacked: list[int]
    cancelled: list[str]
    error: ChannelClosed | None

    # -- declarations: each returns when the server has answered; with `nowait` it is only buffered, and a
    # refusal shows as `error` later. Arguments are RabbitMQ's own x-arguments.

    def exchange_declare(
        self,
        name: str,
        kind: str = "direct",
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        passive: bool = False,
        arguments: Mapping[str, Any] | None = None,
        nowait: bool = False,
        deadline: float | None = None,
    ) -> None:
        raise NotImplementedError

    def exchange_delete(self, name: str, *, if_unused: bool = False, deadline: float | None = None) -> None:
        raise NotImplementedError

    def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
        nowait: bool = False,
        deadline: float | None = None,
    ) -> None:
        raise NotImplementedError

    def queue_declare(
        self,
        name: str = "",
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        passive: bool = False,
        arguments: Mapping[str, Any] | None = None,
        nowait: bool = False,
        deadline: float | None = None,
    ) -> QueueState:
        """An empty name lets the server choose one. `passive` only asks (404 when there is none). With
        `nowait` the counts are -1."""
        raise NotImplementedError

    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
        nowait: bool = False,
        deadline: float | None = None,
    ) -> None:
        raise NotImplementedError

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
        deadline: float | None = None,
    ) -> None:
        raise NotImplementedError

    def queue_purge(self, name: str, *, deadline: float | None = None) -> int:
        """How many were dropped."""
        raise NotImplementedError

    def queue_delete(
        self, name: str, *, if_unused: bool = False, if_empty: bool = False, deadline: float | None = None
    ) -> int:
        """How many messages went with it. A queue that is not there counts as deleted."""
        raise NotImplementedError

    # -- publishing

    def confirm_select(self, *, deadline: float | None = None) -> None:
        """From now on the server confirms each publish."""
        raise NotImplementedError

    def publish(
        self, exchange: str, routing_key: str, message: Message | Unreadable, *, mandatory: bool = False
    ) -> int:
        """Buffer a publish; return its sequence number (1, 2, … once `confirm_select` was called, else 0).

        Of `message.properties` AMQP's own are sent (`delivery_mode`, `priority`, `correlation_id`,
        `reply_to`, `expiration` (milliseconds, as text), `message_id`, `timestamp`, `type`, `user_id`,
        `app_id`); the others mean nothing here. An `Unreadable` goes out exactly as it came in.

        Raises:
            EncodeError: a header or property cannot be written; nothing was buffered.
        """
        raise NotImplementedError

    @property
    def unconfirmed(self) -> int:
        """Publishes without an answer yet."""
        raise NotImplementedError

    def is_confirmed(self, seq: int) -> bool:
        """True when the server has answered for `seq` (it may be in `nacked`, or among the returned)."""
        raise NotImplementedError

    def await_confirms(self, deadline: float) -> None:
        """Flush, and block until every publish is answered. Then look at `nacked` and `returned`.

        Raises:
            Blocked: not in time, and the server has an alarm on.
            Disconnected: not in time, or the connection is gone. Either way ask `is_confirmed` for each.
        """
        raise NotImplementedError

    # -- consuming

    def qos(self, prefetch: int, *, deadline: float | None = None) -> None:
        """How many unacknowledged messages each consumer started from now on may hold. 0: any number."""
        raise NotImplementedError

    def consume(
        self,
        queue: str,
        tag: str = "",
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
        nowait: bool = False,
        deadline: float | None = None,
    ) -> str:
        """Start a consumer; return its tag. An empty tag lets us choose one."""
        raise NotImplementedError

    def cancel(self, tag: str, *, deadline: float | None = None) -> None:
        """End a consumer. Everything delivered before is in `arrivals` when this returns."""
        raise NotImplementedError

    def get(self, queue: str, *, no_ack: bool = False, deadline: float | None = None) -> Arrival | None:
        """Fetch one message; None when there is none ready."""
        raise NotImplementedError

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Buffered. An unknown tag makes the server close the channel (406)."""
        raise NotImplementedError

    def nack(self, delivery_tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """Buffered."""
        raise NotImplementedError

    def close(self, *, deadline: float | None = None) -> None:
        """Close the channel; what it had not acknowledged goes back to its queues. Idempotent."""
        raise NotImplementedError
