"""The task message, protocol 2: from a call to a `Message` and back.

1. `write`: a call as the message that Celery's workers run. On the path of every `delay()`.
2. `read`: a message as a `Call`. Every field's type is checked. On the path of every task.
3. Re-exports: `Call`, `ProtocolError`, `retry`, `with_headers`, `write_v1`, `uuid`, `origin`, `saferepr`.

The body is ``[args, kwargs, {"callbacks", "errbacks", "chain", "chord"}]``; all else is in the headers.

Not here: the envelope (`virtual.py`), protocol 1 (`protocol1.py`), messages made from delivered ones
(`republish.py`), what is done with a call (`execution/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from celeriac.exceptions import DecodeError
from celeriac.utils.identity import delivery_tag, origin, uuid
from celeriac.wire import call as check
from celeriac.wire import compression as _compression
from celeriac.wire import json, moments, protocol1, serialization, steps
from celeriac.wire.call import Call, ProtocolError
from celeriac.wire.message import Message
from celeriac.wire.protocol1 import write_v1
from celeriac.wire.republish import retry, with_headers
from celeriac.wire.saferepr import REPR_LIMIT, saferepr

__all__ = [
    "REPR_LIMIT",
    "Call",
    "ProtocolError",
    "origin",
    "read",
    "retry",
    "saferepr",
    "uuid",
    "with_headers",
    "write",
    "write_v1",
]

#: How many headers a message has that carries none of the user's.
_STANDARD_HEADERS: Final = 19
_NOTHING_FOLLOWS: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_NO_FOLLOWS_JSON: Final = json.dumps_text(_NOTHING_FOLLOWS)
_NO_LIMITS: Final = [None, None]
_new_message = tuple.__new__


# -- writing ----------------------------------------------------------------------------------------------


def write(
    *,
    name: str,
    id: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    exchange: str = "",
    routing_key: str = "",
    priority: int = 0,
    reply_to: str | None = None,
    correlation_id: str | None = None,
    delivery_mode: int = 2,
    serializer: str = "json",
    compression: str | None = None,
    countdown: float | None = None,
    eta: datetime | str | None = None,
    expires: datetime | str | float | None = None,
    now: datetime | None = None,
    retries: int = 0,
    time_limit: float | None = None,
    soft_time_limit: float | None = None,
    root_id: str | None = None,
    parent_id: str | None = None,
    group: str | None = None,
    group_index: int | None = None,
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chain: Sequence[Any] | None = None,
    chord: Any = None,
    shadow: str | None = None,
    ignore_result: bool | None = False,
    argsrepr: str | None = None,
    kwargsrepr: str | None = None,
    replaced_task_nesting: int = 0,
    stamped_headers: Sequence[str] | None = None,
    stamps: Mapping[str, Any] | None = None,
    headers: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
) -> Message:
    """Return the message of a call. Hot.

    Args:
        name: the task's name.
        id: the call's id; also its correlation id unless `correlation_id` is given.
        args, kwargs: the arguments; a list or tuple, and a mapping.
        exchange, routing_key: stated in ``delivery_info``; the default exchange is ``""`` with the queue's
            name as key.
        priority: as the transport counts it.
        reply_to: where the caller waits for replies.
        delivery_mode: 2 persistent, 1 transient.
        serializer: name of a registered serializer.
        compression: name of a compression method.
        countdown: seconds from now; goes before `eta`.
        eta: datetime or ISO text; without a zone it is UTC.
        expires: the same, or seconds from now.
        now: the present, if the caller has asked the clock already.
        time_limit, soft_time_limit: seconds.
        root_id: `id` unless given.
        callbacks, errbacks, chain, chord: signatures, plain dicts or what the serializer can write.
        ignore_result: None leaves it to the task.
        argsrepr, kwargsrepr: what monitors show instead of the arguments.
        headers: the user's own headers; a standard one of the same name gives way.
        properties: the user's own properties.

    Raises:
        EncodeError: arguments, signatures or headers cannot be written.
        ImproperlyConfigured: no such serializer or compression.
        TypeError: `args` is no list or tuple, or `kwargs` no mapping.
        ValueError: a time is not one, or lies outside the years 1970 to 9998.

    Example:
        >>> message = write(name="proj.add", id="a-1", args=(2, 3), routing_key="celery")
        >>> message.body
        b'[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
        >>> message.headers["argsrepr"]
        '(2, 3)'
    """
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"the arguments of a task must be a list or tuple, not {type(args).__name__}")
    if kwargs is not None and type(kwargs) is not dict:
        kwargs = _as_dict(kwargs)
    if callbacks is None and errbacks is None and chain is None and chord is None and serializer == "json":
        parameters = json.dumps_text(kwargs) if kwargs else "{}"
        body = f"[{json.dumps_text(args)}, {parameters}, {_NO_FOLLOWS_JSON}]".encode("ascii")
        content_type, content_encoding = "application/json", "utf-8"
    elif serializer == "json" and type(chain) is steps.Steps:
        head, tail = steps.around(args, kwargs or {}, callbacks, errbacks, chord)
        body = b"".join((head, chain.raw, tail))
        content_type, content_encoding = "application/json", "utf-8"
    else:
        if type(chain) is steps.Steps:
            chain = list(chain)
        follows = {"callbacks": callbacks, "errbacks": errbacks, "chain": chain, "chord": chord}
        content_type, content_encoding, body = serialization.dumps((args, kwargs or {}, follows), serializer)
    expiration = None
    eta_text = expires_text = None
    if eta is not None or expires is not None or countdown is not None:
        eta_text, expires_text, expiration = moments.headers(countdown, eta, expires, now or moments.now())
    all_headers: dict[str, Any] = {
        "lang": "py",
        "task": name,
        "id": id,
        "shadow": shadow,
        "eta": eta_text,
        "expires": expires_text,
        "group": group,
        "group_index": group_index,
        "retries": retries,
        "timelimit": [time_limit, soft_time_limit],
        "root_id": root_id or id,
        "parent_id": parent_id,
        "argsrepr": saferepr(args, REPR_LIMIT) if argsrepr is None else argsrepr,
        "kwargsrepr": kwargsrepr
        if kwargsrepr is not None
        else saferepr(kwargs, REPR_LIMIT)
        if kwargs
        else "{}",
        "origin": origin(),
        "ignore_result": ignore_result,
        "replaced_task_nesting": replaced_task_nesting,
        "stamped_headers": stamped_headers and list(stamped_headers),
        "stamps": json.plain(stamps) if stamps else {},
    }
    all_properties: dict[str, Any] = {
        "correlation_id": correlation_id or id,
        "reply_to": reply_to,
        "delivery_mode": delivery_mode,
        "delivery_info": {"exchange": exchange, "routing_key": routing_key},
        "priority": priority,
        "body_encoding": "base64",
        "delivery_tag": delivery_tag(),
    }
    if expiration is not None:
        all_properties["expiration"] = expiration
    if compression:
        body, all_headers["compression"] = _compression.compress(body, compression)
    if headers:
        all_headers.update(json.plain(headers))
    if properties:
        all_properties = {**json.plain(properties), **all_properties}
    fields = (body, content_type, content_encoding, all_headers, all_properties)
    if type(chain) is steps.Steps and not compression:
        return steps.Chained.made(fields, head, chain, tail)
    return _new_message(Message, fields)


def _as_dict(kwargs: Any) -> dict[str, Any]:
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"the keyword arguments of a task must be a mapping, not {type(kwargs).__name__}")
    return dict(kwargs)


# -- reading ----------------------------------------------------------------------------------------------


def read(message: Message, accept: frozenset[str]) -> Call:
    """Return the call that `message` (protocol 2 or 1) carries. Hot.

    Args:
        message: as a transport delivered it.
        accept: content types that may be read (`serialization.content_types`).

    Raises:
        ProtocolError: a header, a property or the body's shape is wrong; the text names it.
        ContentDisallowed: the body's content type is not in `accept`.
        DecodeError: the body cannot be decompressed or decoded.

    Example:
        >>> message = write(name="proj.add", id="a-1", args=(2, 3))
        >>> read(message, frozenset({"application/json"})).args
        [2, 3]
    """
    body, content_type, content_encoding, headers, properties = message
    if "task" not in headers:
        return protocol1.read_v1(message, accept)
    name = check.text(headers["task"], "header 'task'")
    get = headers.get
    id = check.text(get("id"), "header 'id'")
    if type(message) is steps.Chained and message.steps is not None and content_type in accept:
        value = steps.reread(message)
    else:
        value = _body(body, content_type, content_encoding, get("compression"), accept)
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise check.refuse("the body", "a list of arguments, keyword arguments and what follows", value)
    args, kwargs, follows = value
    if type(args) is not list:
        args = check.arguments(args, "the body's first element")
    if type(kwargs) is not dict or kwargs:
        kwargs = check.keywords(kwargs, "the body's second element")
    callbacks = errbacks = chain = chord = None
    if follows != _NOTHING_FOLLOWS:
        callbacks, errbacks, chain, chord = _follows(follows)
    eta = get("eta")
    expires = get("expires")
    retries = get("retries")
    timelimit = get("timelimit")
    hard = soft = None
    if timelimit is not None and timelimit != _NO_LIMITS:
        hard, soft = check.limits(timelimit, "header 'timelimit'")
    root_id = get("root_id")
    if root_id is not None and root_id != id:
        check.text(root_id, "header 'root_id'")
    ignore_result = get("ignore_result")
    if ignore_result is not None and type(ignore_result) is not bool:
        raise check.refuse("header 'ignore_result'", "true, false or null", ignore_result)
    parent_id = get("parent_id")
    group = get("group")
    group_index = get("group_index")
    reply_to = properties.get("reply_to")
    if len(headers) != _STANDARD_HEADERS or get("stamps"):
        headers = _revived(headers)
    return Call(
        name,
        id,
        args,
        kwargs,
        callbacks,
        errbacks,
        chain,
        chord,
        headers,
        properties,
        0 if retries is None else check.retries(retries, "header 'retries'"),
        check.time(eta, "header 'eta'") if eta else None,
        check.time(expires, "header 'expires'") if expires else None,
        hard,
        soft,
        root_id,
        None if parent_id is None else check.text(parent_id, "header 'parent_id'"),
        None if group is None else check.text(group, "header 'group'"),
        None if group_index is None else check.index(group_index, "header 'group_index'"),
        ignore_result,
        check.text(reply_to, "property 'reply_to'") if reply_to else None,
        content_type,
        content_encoding,
    )


def _follows(follows: Any) -> tuple[Any, Any, Any, Any]:
    """Callbacks, errbacks, chain and chord."""
    if not isinstance(follows, dict):
        raise check.refuse(
            "the body's third element", "an object (callbacks, errbacks, chain, chord)", follows
        )
    return (
        check.signatures(follows.get("callbacks"), "callbacks"),
        check.signatures(follows.get("errbacks"), "errbacks"),
        check.chain(follows.get("chain")),
        check.signature(follows.get("chord"), "chord"),
    )


def _body(
    body: bytes, content_type: str, content_encoding: str, compression: Any, accept: frozenset[str]
) -> Any:
    if compression and content_type in accept:  # nothing is unpacked for what will be refused
        body = _compression.decompress(body, compression)
    if content_type == serialization.JSON and content_type in accept and content_encoding == "utf-8":
        is_long = len(body) > steps.SHORT and steps.CHAIN in body
        return steps.read(body) if is_long else json.loads(body)
    return serialization.loads(body, content_type, content_encoding, accept)


def _revived(headers: dict[str, Any]) -> dict[str, Any]:
    """Headers with the dialect's objects as values: the user's own may hold a datetime or a UUID."""
    return {
        name: _revived_value(value) if type(value) is dict or type(value) is list else value
        for name, value in headers.items()
    }


def _revived_value(value: Any) -> Any:
    try:
        return json.revive(value)
    except DecodeError:  # it only looks like one of them; no call is refused for a header of the user's
        return value
