"""One channel of a link: declarations, publishes with confirms, consumers with acknowledgements.

1. Calls with an answer (declare, bind, consume, get, …) flush, wait for it until a deadline, and meanwhile
   take in whatever else arrives.
2. `publish`, `ack` and `nack` only buffer: `Link.flush` sends them, and so do all calls with an answer, and
   `Link.read`.
3. What has arrived is in `arrivals`, `returned`, `cancelled`, and in the books of confirms.

A channel that the server closes (404, 406, …) has its `error` set; from then on every method raises it.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from celeriac import failpoints
from celeriac.exceptions import EncodeError
from celeriac.transport.amqp import content, methods
from celeriac.transport.amqp.frames import Content, method_frame
from celeriac.transport.amqp.values import Arrival, ChannelClosed, QueueState, Returned
from celeriac.wire.message import Message, Unreadable

if TYPE_CHECKING:
    from celeriac.transport.amqp.link import Link

__all__ = ["Channel"]

_MANY: Final = 1024
_NOT_FOUND: Final = 404
#: Octets of a frame that are not its payload.
_AROUND: Final = 8
#: The head of a content header: frame, class and weight, size of the body. What lies between the properties
#: and the body: the end of one frame and the head of the next. A whole basic.ack.
_pack_header = struct.Struct(">BHIIQ").pack
_pack_between = struct.Struct(">BBHI").pack
_pack_ack = struct.Struct(">BHIIQBB").pack
_pack_body = struct.Struct(">BHI").pack
_BASIC: Final = 60 << 16
_ACK: Final = methods.BASIC_ACK
_END: Final = b"\xce"


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

    def __init__(self, link: Link, number: int) -> None:
        self.number = number
        self.arrivals: deque[Arrival] = deque()
        self.returned: list[Returned] = []
        self.nacked: list[int] = []
        self.cancelled: list[str] = []
        self.error: ChannelClosed | None = None
        self.closed = False
        self.incoming: Content | None = None
        self.link = link
        self._awaited: tuple[int, ...] = ()
        self._answer: list[Any] | None = None
        self._consumers = 0
        self._publishes: dict[tuple[str, str, bool], bytes] = {}
        self._confirms = False
        self._published = 0
        self._answered = 0  # all sequence numbers up to this one have their answer …
        self._early: set[int] = set()  # … and these have it as well

    def open(self, *, deadline: float | None = None) -> None:
        """For `Link.channel`."""
        self._ask(methods.CHANNEL_OPEN, ("",), deadline=deadline)

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
        if nowait and passive:
            raise ValueError("a passive declaration has to be waited for")
        self._ask(
            methods.EXCHANGE_DECLARE,
            (0, name, kind, passive, durable, auto_delete, internal, nowait, arguments or {}),
            nowait=nowait,
            deadline=deadline,
        )

    def exchange_delete(self, name: str, *, if_unused: bool = False, deadline: float | None = None) -> None:
        self._ask(methods.EXCHANGE_DELETE, (0, name, if_unused, False), deadline=deadline)

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
        values = (0, destination, source, routing_key, nowait, arguments or {})
        self._ask(methods.EXCHANGE_BIND, values, nowait=nowait, deadline=deadline)

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
        values = (0, name, passive, durable, exclusive, auto_delete, nowait, arguments or {})
        answer = self._ask(methods.QUEUE_DECLARE, values, nowait=nowait, deadline=deadline)
        return QueueState(*answer) if answer else QueueState(name, -1, -1)

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
        values = (0, queue, exchange, routing_key, nowait, arguments or {})
        self._ask(methods.QUEUE_BIND, values, nowait=nowait, deadline=deadline)

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
        deadline: float | None = None,
    ) -> None:
        values = (0, queue, exchange, routing_key, arguments or {})
        self._ask(methods.QUEUE_UNBIND, values, deadline=deadline)

    def queue_purge(self, name: str, *, deadline: float | None = None) -> int:
        """How many were dropped."""
        return int(self._ask(methods.QUEUE_PURGE, (0, name, False), deadline=deadline)[0])

    def queue_delete(
        self, name: str, *, if_unused: bool = False, if_empty: bool = False, deadline: float | None = None
    ) -> int:
        """How many messages went with it. A queue that is not there counts as deleted."""
        return int(
            self._ask(methods.QUEUE_DELETE, (0, name, if_unused, if_empty, False), deadline=deadline)[0]
        )

    # -- publishing

    def confirm_select(self, *, deadline: float | None = None) -> None:
        """From now on the server confirms each publish."""
        if not self._confirms:
            self._ask(methods.CONFIRM_SELECT, (False,), deadline=deadline)
            self._confirms = True

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
        if self.error is not None:
            raise self.error
        link = self.link
        place = exchange, routing_key, mandatory
        method = self._publishes.get(place) or self._publish_frame(place)
        properties, body = content.dump(message)
        size = len(body)
        header = len(properties) + 12
        if header > link.frame_max - _AROUND:
            raise EncodeError(
                f"the headers of a message take {header:,} bytes; this server takes {link.frame_max:,} "
                "(frame_max)"
            )
        number = self.number
        before = _pack_header(2, number, header, _BASIC, size)
        if 0 < size <= link.frame_max - _AROUND:
            between = _pack_between(0xCE, 3, number, size)
            link.put_all((method, before, properties, between, body, _END))
        else:
            link.put_all((method, before, properties, _END, *self._body_frames(body)))
        if not self._confirms:
            return 0
        self._published += 1
        return self._published

    @property
    def unconfirmed(self) -> int:
        """Publishes without an answer yet."""
        return self._published - self._answered - len(self._early)

    def is_confirmed(self, seq: int) -> bool:
        """True when the server has answered for `seq` (it may be in `nacked`, or among the returned)."""
        return seq <= self._answered or seq in self._early

    def await_confirms(self, deadline: float) -> None:
        """Flush, and block until every publish is answered. Then look at `nacked` and `returned`.

        Raises:
            Blocked: not in time, and the server has an alarm on.
            Disconnected: not in time, or the connection is gone. Either way ask `is_confirmed` for each.
        """
        self._check()
        if self._is_answered():
            self.link.flush(deadline)
        else:
            self.link.wait_for(self._is_answered, deadline, "confirms")
        self._check()
        if failpoints.on:
            failpoints.passed("done", self.link.shut)

    def _is_answered(self) -> bool:
        """Whether nothing is to be waited for: every publish is answered, or the channel is closed."""
        return self._published == self._answered + len(self._early) or self.error is not None

    # -- consuming

    def qos(self, prefetch: int, *, deadline: float | None = None) -> None:
        """How many unacknowledged messages each consumer started from now on may hold. 0: any number."""
        self._ask(methods.BASIC_QOS, (0, prefetch, False), deadline=deadline)

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
        if not tag:
            self._consumers += 1
            tag = f"celeriac-{self.number}-{self._consumers}"
        values = (0, queue, tag, False, no_ack, exclusive, nowait, arguments or {})
        self._ask(methods.BASIC_CONSUME, values, nowait=nowait, deadline=deadline)
        return tag

    def cancel(self, tag: str, *, deadline: float | None = None) -> None:
        """End a consumer. Everything delivered before is in `arrivals` when this returns."""
        self._ask(methods.BASIC_CANCEL, (tag, False), deadline=deadline)

    def get(self, queue: str, *, no_ack: bool = False, deadline: float | None = None) -> Arrival | None:
        """Fetch one message; None when there is none ready."""
        answer = self._ask(methods.BASIC_GET, (0, queue, no_ack), deadline=deadline)
        return answer[0] if isinstance(answer[0], Arrival) else None

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Buffered. An unknown tag makes the server close the channel (406)."""
        if self.error is not None:
            raise self.error
        self.link.put(_pack_ack(1, self.number, 13, _ACK, delivery_tag, multiple, 0xCE))

    def nack(self, delivery_tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """Buffered."""
        self._check()
        self._put(methods.BASIC_NACK, delivery_tag, multiple, requeue)

    def close(self, *, deadline: float | None = None) -> None:
        """Close the channel; what it had not acknowledged goes back to its queues. Idempotent."""
        if self.closed:
            return
        self.closed = True
        if self.error is None:
            try:
                self._ask(methods.CHANNEL_CLOSE, (200, "good-bye", 0), deadline=deadline)
            except ChannelClosed:
                return  # the server was faster
            self.link.forget(self.number)

    # -- what comes in: called by the stream --------------------------------------------------------------

    def on_method(self, method: int, arguments: list[Any]) -> None:
        if method == _ACK:
            self._on_confirm(arguments[0], multiple=arguments[1])
        elif method == methods.BASIC_NACK:
            tag, multiple = arguments[0], arguments[1]
            first = self._answered + 1 if multiple else tag
            last = tag or self._published
            self.nacked += [seq for seq in range(first, last + 1) if seq not in self._early]
            self._on_confirm(tag, multiple=multiple)
        elif method in self._awaited:
            self._answer = arguments
        elif method == methods.CHANNEL_CLOSE:
            self.error = ChannelClosed(arguments[0], arguments[1], self.link.where)
            self._put(methods.CHANNEL_CLOSE_OK)
            self.link.forget(self.number)
        elif method == methods.BASIC_CANCEL:
            self.cancelled.append(arguments[0])
        elif method == methods.CHANNEL_FLOW:
            self._put(methods.CHANNEL_FLOW_OK, arguments[0])

    def on_content(self, method: int, arguments: list[Any], message: Message | Unreadable) -> None:
        if method == methods.BASIC_DELIVER:
            self.arrivals.append(Arrival._make((*arguments, message)))
        elif method == methods.BASIC_RETURN:
            self.returned.append(Returned._make((*arguments, message)))
        elif method in self._awaited:
            self._answer = [Arrival._make(("", *arguments[:4], message))]

    def _on_confirm(self, tag: int, *, multiple: bool) -> None:
        early = self._early
        if multiple:
            self._answered = max(self._answered, min(tag or self._published, self._published))
            if early:
                self._early = early = {seq for seq in early if seq > self._answered}
        elif tag == self._answered + 1:
            self._answered = tag
        else:
            early.add(tag)
        while early and self._answered + 1 in early:
            self._answered += 1
            early.remove(self._answered)

    # -- what goes out ------------------------------------------------------------------------------------

    def _ask(
        self, method: int, arguments: tuple[Any, ...], *, nowait: bool = False, deadline: float | None = None
    ) -> list[Any]:
        """Send a method; return the arguments of its answer. With `nowait` there is none."""
        self._check()
        self._put(method, *arguments)
        if nowait:
            return []
        link = self.link
        self._answer = None
        self._awaited = (
            (methods.BASIC_GET_OK, methods.BASIC_GET_EMPTY) if method == methods.BASIC_GET else (method + 1,)
        )
        until = time.monotonic() + link.timeout if deadline is None else deadline
        link.wait_for(lambda: self._answer is not None or self.error is not None, until, _name(method))
        self._awaited = ()
        answer, self._answer = self._answer, None
        if answer is None:
            assert self.error is not None
            raise self.error
        return answer

    def _put(self, method: int, *arguments: Any) -> None:
        self.link.put(method_frame(self.number, methods.dumps(method, *arguments)))

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _publish_frame(self, place: tuple[str, str, bool]) -> bytes:
        """basic.publish; the same places recur, so it is made once for each."""
        exchange, routing_key, mandatory = place
        frame = method_frame(
            self.number,
            methods.dumps(methods.BASIC_PUBLISH, 0, exchange, routing_key, mandatory, False),
        )
        if len(self._publishes) >= _MANY:
            self._publishes.clear()
        self._publishes[place] = frame
        return frame

    def _body_frames(self, body: bytes) -> list[bytes]:
        """A body too long for one frame, or empty."""
        step = self.link.frame_max - _AROUND
        view = memoryview(body)
        frames: list[bytes] = []
        for start in range(0, len(body), step):
            some = view[start : start + step]
            frames += (_pack_body(3, self.number, len(some)), some, _END)  # type: ignore[arg-type]
        return frames


def _name(method: int) -> str:
    return next(
        name.lower().replace("_", ".", 1)
        for name, number in vars(methods).items()
        if number == method and name.isupper()
    )
