"""The task message, protocol 1: everything is in the body. Read for old producers, written for old workers.

1. `read_v1`: the body as a `Call`, with the headers that protocol 2 would have.
2. `write_v1`: a call as a protocol 1 message.

Not here: protocol 2 and what both share (`protocol.py`, `call.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from celeriac.utils.identity import delivery_tag
from celeriac.wire import call as check
from celeriac.wire import compression as _compression
from celeriac.wire import json, moments, serialization
from celeriac.wire.call import Call, ProtocolError
from celeriac.wire.message import Message
from celeriac.wire.saferepr import REPR_LIMIT, saferepr

__all__ = ["read_v1", "write_v1"]


def read_v1(message: Message, accept: frozenset[str]) -> Call:
    """Return the call that a protocol 1 message carries.

    Raises:
        ProtocolError: it is neither protocol; or a part of it is wrong.
        ContentDisallowed: the body's content type is not in `accept`.
        DecodeError: the body cannot be decompressed or decoded.
    """
    raw, content_type, content_encoding, headers, properties = message
    compression = headers.get("compression")
    if compression and content_type in accept:
        raw = _compression.decompress(raw, compression)
    body = serialization.loads(raw, content_type, content_encoding, accept)
    if not isinstance(body, dict) or "task" not in body:
        raise ProtocolError(
            "there is no header 'task' (protocol 2), and the body is no object that names a task (protocol 1)"
        )
    get = body.get
    name = check.text(get("task"), "'task' in the body")
    id = check.text(get("id"), "'id' in the body")
    args = check.arguments([] if get("args") is None else get("args"), "'args' in the body")
    kwargs = check.keywords({} if get("kwargs") is None else get("kwargs"), "'kwargs' in the body")
    retries = check.retries(0 if get("retries") is None else get("retries"), "'retries' in the body")
    local = get("utc", True) is False
    eta = None if get("eta") is None else check.time(get("eta"), "'eta' in the body", local=local)
    expires = get("expires")
    if expires is not None:
        expires = check.time(expires, "'expires' in the body", local=local)
    limits = (
        (None, None)
        if get("timelimit") is None
        else check.limits(get("timelimit"), "'timelimit' in the body")
    )
    group = check.optional_text(get("group") or get("taskset"), "'taskset' in the body")
    group_index = get("group_index")
    if group_index is not None:
        check.index(group_index, "'group_index' in the body")
    reply_to = check.optional_text(properties.get("reply_to") or None, "property 'reply_to'")
    standard = _standard(name, id, args, kwargs, group, group_index, retries, eta, expires, limits)
    return Call(
        name,
        id,
        args,
        kwargs,
        check.signatures(get("callbacks"), "'callbacks' in the body"),
        check.signatures(get("errbacks"), "'errbacks' in the body"),
        None,
        check.signature(get("chord"), "'chord' in the body"),
        {**standard, **headers},
        properties,
        retries,
        eta,
        expires,
        limits[0],
        limits[1],
        id,
        None,
        group,
        group_index,
        None,
        reply_to,
        content_type,
        content_encoding,
    )


def _standard(
    name: str,
    id: str,
    args: Any,
    kwargs: Any,
    group: str | None,
    group_index: int | None,
    retries: int,
    eta: float | None,
    expires: float | None,
    limits: tuple[float | None, float | None],
) -> dict[str, Any]:
    """The headers that protocol 2 would have had."""
    return {
        "lang": "py",
        "task": name,
        "id": id,
        "shadow": None,
        "eta": None if eta is None else datetime.fromtimestamp(eta, UTC).isoformat(),
        "expires": None if expires is None else datetime.fromtimestamp(expires, UTC).isoformat(),
        "group": group,
        "group_index": group_index,
        "retries": retries,
        "timelimit": list(limits),
        "root_id": id,
        "parent_id": None,
        "argsrepr": saferepr(args, REPR_LIMIT),
        "kwargsrepr": saferepr(kwargs, REPR_LIMIT),
        "origin": None,
        "ignore_result": None,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


def write_v1(
    *,
    name: str,
    id: str,
    args: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    exchange: str = "",
    routing_key: str = "",
    priority: int = 0,
    reply_to: str | None = None,
    serializer: str = "json",
    compression: str | None = None,
    countdown: float | None = None,
    eta: datetime | str | None = None,
    expires: datetime | str | float | None = None,
    now: datetime | None = None,
    retries: int = 0,
    time_limit: float | None = None,
    soft_time_limit: float | None = None,
    group: str | None = None,
    group_index: int | None = None,
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chord: Any = None,
    headers: Mapping[str, Any] | None = None,
) -> Message:
    """Return the protocol 1 message of a call. Arguments and errors are those of `protocol.write`.

    Example:
        >>> write_v1(name="t.add", id="a-1", args=(1, 2), routing_key="celery").headers
        {}
    """
    start, end, expiration = moments.headers(countdown, eta, expires, now or moments.now())
    body = {
        "task": name,
        "id": id,
        "args": list(args),
        "kwargs": kwargs or {},
        "group": group,
        "group_index": group_index,
        "retries": retries,
        "eta": start,
        "expires": end,
        "utc": True,
        "callbacks": callbacks,
        "errbacks": errbacks,
        "timelimit": (time_limit, soft_time_limit),
        "taskset": group,
        "chord": chord,
    }
    content_type, content_encoding, raw = serialization.dumps(body, serializer)
    all_headers = json.plain(headers or {})
    if compression:
        raw, all_headers["compression"] = _compression.compress(raw, compression)
    properties: dict[str, Any] = {
        "correlation_id": id,
        "reply_to": reply_to,
        "delivery_mode": 2,
        "delivery_info": {"exchange": exchange, "routing_key": routing_key},
        "priority": priority,
        "body_encoding": "base64",
        "delivery_tag": delivery_tag(),
    }
    if expiration is not None:
        properties["expiration"] = expiration
    return Message(raw, content_type, content_encoding, all_headers, properties)
