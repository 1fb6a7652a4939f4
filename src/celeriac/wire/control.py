"""Messages that are not tasks: remote control (kombu's pidbox), its replies, and events.

1. `request_message`, `read_request`: a command to all workers, or to some.
2. `reply_message`, `read_reply`: what one worker answers.
3. `event_message`, `read_events`: one event, or a buffered list of them.

All are JSON unless said otherwise. Not here: which commands there are, who is meant by a destination, how the
messages are fanned out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from celeriac.utils.identity import uuid
from celeriac.wire import serialization
from celeriac.wire.call import ProtocolError, refuse
from celeriac.wire.message import Message

__all__ = [
    "CONTROL_EXCHANGE",
    "EVENT_EXCHANGE",
    "REPLY_EXCHANGE",
    "Reply",
    "Request",
    "event_message",
    "read_events",
    "read_reply",
    "read_request",
    "reply_message",
    "request_message",
]

CONTROL_EXCHANGE: Final = "celery.pidbox"
REPLY_EXCHANGE: Final = "reply.celery.pidbox"
EVENT_EXCHANGE: Final = "celeryev"

_JSON_ONLY: Final = frozenset({serialization.JSON})


class Request(NamedTuple):
    """A remote-control command.

    Attributes:
        method: the command's name.
        arguments: its keyword arguments.
        destination: node names it is for; None: see `pattern`, or all.
        pattern, matcher: node names it is for, as a ``glob`` or ``pcre`` pattern.
        ticket: id under which replies are collected; None: no reply is wanted.
        reply_exchange, reply_key: where replies go.
        clock: the sender's logical clock.
        expires: epoch seconds after which it is void.
    """

    method: str
    arguments: dict[str, Any]
    destination: list[str] | None = None
    pattern: str | None = None
    matcher: str | None = None
    ticket: str | None = None
    reply_exchange: str = REPLY_EXCHANGE
    reply_key: str = ""
    clock: int = 0
    expires: float | None = None


class Reply(NamedTuple):
    """What a worker answered: node name → value; `ticket` of the request; the worker's logical clock."""

    replies: dict[str, Any]
    ticket: str | None
    clock: int


def _message(
    body: Any, headers: dict[str, Any], exchange: str, routing_key: str, mode: int, serializer: str
) -> Message:
    content_type, content_encoding, raw = serialization.dumps(body, serializer)
    properties = {
        "delivery_mode": mode,
        "delivery_info": {"exchange": exchange, "routing_key": routing_key},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": uuid(),
    }
    return Message(raw, content_type, content_encoding, headers, properties)


def _value(message: Message, accept: frozenset[str]) -> Any:
    return serialization.loads(message.body, message.content_type, message.content_encoding, accept)


def _clock(message: Message) -> int:
    clock = message.headers.get("clock")
    return clock if type(clock) is int and clock >= 0 else 0


# -- requests ---------------------------------------------------------------------------------------------


def request_message(
    request: Request, *, exchange: str = CONTROL_EXCHANGE, serializer: str = "json"
) -> Message:
    """Return the message of a command.

    Raises:
        EncodeError: the arguments cannot be written.

    Example:
        >>> request_message(Request("heartbeat", {})).body
        b'{"method": "heartbeat", "arguments": {}, "destination": null, "pattern": null, "matcher": null}'
    """
    body: dict[str, Any] = {
        "method": request.method,
        "arguments": request.arguments,
        "destination": request.destination,
        "pattern": request.pattern,
        "matcher": request.matcher,
    }
    if request.ticket is not None:
        body["ticket"] = request.ticket
        body["reply_to"] = {"exchange": request.reply_exchange, "routing_key": request.reply_key}
    headers: dict[str, Any] = {"clock": request.clock}
    if request.expires is not None:
        headers["expires"] = request.expires
    return _message(body, headers, exchange, "", 2, serializer)


def read_request(message: Message, accept: frozenset[str] = _JSON_ONLY) -> Request:
    """Return the command in `message`.

    Raises:
        ProtocolError: it is none; the text says why.
        ContentDisallowed, DecodeError: the body may not, or cannot, be read.
    """
    body = _value(message, accept)
    if not isinstance(body, dict) or type(body.get("method")) is not str:
        raise ProtocolError("not a control command: the body must be an object that names a method")
    arguments = body.get("arguments") or {}
    if not isinstance(arguments, dict) or not all(type(key) is str for key in arguments):
        raise refuse("the command's arguments", "an object", arguments)
    destination = body.get("destination")
    if isinstance(destination, str):
        destination = [destination]
    if destination is not None:
        if not isinstance(destination, (list, tuple)) or not all(type(node) is str for node in destination):
            raise refuse("the command's destination", "a list of node names", destination)
        destination = list(destination)
    reply_to = body.get("reply_to") or {}
    if not isinstance(reply_to, dict):
        raise refuse("the command's reply_to", "an object", reply_to)
    expires: Any = message.headers.get("expires")
    return Request(
        body["method"],
        arguments,
        destination,
        _text(body.get("pattern"), "pattern"),
        _text(body.get("matcher"), "matcher"),
        _text(body.get("ticket"), "ticket"),
        _text(reply_to.get("exchange"), "reply_to") or "",
        _text(reply_to.get("routing_key"), "reply_to") or "",
        _clock(message),
        float(expires) if type(expires) in (int, float) and 0 <= expires < 1e12 else None,
    )


def _text(value: Any, field: str) -> str | None:
    if value is not None and type(value) is not str:
        raise refuse(f"the command's {field}", "text", value)
    return value


# -- replies ----------------------------------------------------------------------------------------------


def reply_message(
    node: str, value: Any, request: Request, *, clock: int = 0, serializer: str = "json"
) -> Message:
    """Return the message in which `node` answers `request` with `value`.

    Raises:
        EncodeError: the value cannot be written.
    """
    headers = {"ticket": request.ticket, "clock": clock}
    return _message({node: value}, headers, request.reply_exchange, request.reply_key, 1, serializer)


def read_reply(message: Message, accept: frozenset[str] = _JSON_ONLY) -> Reply:
    """Return the reply in `message`.

    Raises:
        ProtocolError: it is none.
        ContentDisallowed, DecodeError: the body may not, or cannot, be read.
    """
    body = _value(message, accept)
    if not isinstance(body, dict) or not all(type(node) is str for node in body):
        raise ProtocolError("not a reply to a control command: the body must be an object of node names")
    ticket = message.headers.get("ticket")
    return Reply(body, ticket if type(ticket) is str else None, _clock(message))


# -- events -----------------------------------------------------------------------------------------------


def event_message(
    events: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    hostname: str,
    exchange: str = EVENT_EXCHANGE,
    serializer: str = "json",
) -> Message:
    """Return the message of one event, or of a list of events of one group (``task.multi``).

    Args:
        events: objects with the fields ``type`` (``task-sent``, …), ``timestamp``, ``hostname``, ….
        hostname: node name of the sender.

    Example:
        >>> message = event_message({"type": "worker-online"}, hostname="w1@host")
        >>> message.properties["delivery_info"]
        {'exchange': 'celeryev', 'routing_key': 'worker.online'}
    """
    if isinstance(events, Mapping):
        body: Any = dict(events)
        routing_key = str(body["type"]).replace("-", ".")
    else:
        body = [dict(event) for event in events]
        routing_key = f"{str(body[0]['type']).partition('-')[0]}.multi"
    return _message(body, {"hostname": hostname}, exchange, routing_key, 1, serializer)


def read_events(message: Message, accept: frozenset[str] = _JSON_ONLY) -> list[dict[str, Any]]:
    """Return the events in `message`; what is no event in a list of them is left out.

    Raises:
        ProtocolError: the body holds no events.
        ContentDisallowed, DecodeError: the body may not, or cannot, be read.
    """
    body = _value(message, accept)
    if not isinstance(body, (dict, list)):
        raise ProtocolError("not an event: the body must be an object or a list of objects")
    found = body if isinstance(body, list) else [body]
    return [event for event in found if isinstance(event, dict) and type(event.get("type")) is str]
