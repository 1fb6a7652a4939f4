"""Task messages made from delivered ones: the same call, to be published again.

1. `with_headers`: as it is, with other headers.
2. `retry`: the next try.

Both get a new delivery tag, because Celery's peers keep what is in flight under it. Not here: new calls
(`protocol.write`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from celeriac.utils.identity import delivery_tag
from celeriac.wire import compression as _compression
from celeriac.wire import json, moments, serialization
from celeriac.wire.call import Call
from celeriac.wire.message import Message
from celeriac.wire.saferepr import REPR_LIMIT, saferepr

__all__ = ["retry", "with_headers"]


def with_headers(message: Message, **changes: Any) -> Message:
    """Return the same task message with other headers, ready to be published again.

    Args:
        message: as it was delivered.
        **changes: header → plain value.
    """
    properties = {**message.properties, "delivery_tag": delivery_tag()}
    return message._replace(headers={**message.headers, **changes}, properties=properties)


def retry(
    call: Call,
    message: Message,
    *,
    eta: float | None = None,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    expires: datetime | str | float | None = None,
    time_limit: float | None = None,
    soft_time_limit: float | None = None,
    exchange: str | None = None,
    routing_key: str | None = None,
    priority: int | None = None,
    headers: Mapping[str, Any] | None = None,
    retries: int | None = None,
) -> Message:
    """Return the message of the next try: the same id, one retry more, its own id as parent (as in Celery).

    What is not given stays: arguments, links, chain, chord, stamps, headers, expiry, limits, routing.

    Args:
        call: what `read` made of `message`.
        message: as it was delivered.
        eta: epoch seconds of the next try; None: at once.
        retries: the count to state, if not one more than before.

    Raises:
        EncodeError: new arguments or headers cannot be written.
        ValueError: a time lies outside the years 1970 to 9998.
    """
    properties = {**message.properties, "delivery_tag": delivery_tag()}
    info = dict(properties.get("delivery_info") or {})
    if exchange is not None or routing_key is not None:
        info = {"exchange": exchange or "", "routing_key": routing_key or ""}
    properties["delivery_info"] = info
    if priority is not None:
        properties["priority"] = priority
    start = None if eta is None else moments.moment(datetime.fromtimestamp(eta, UTC), moments.now())
    changes: dict[str, Any] = {
        "retries": call.retries + 1 if retries is None else retries,
        "eta": None if start is None else start.isoformat(),
        "parent_id": call.id,
        "root_id": call.root_id or call.id,
    }
    if expires is not None:
        _, changes["expires"], properties["expiration"] = moments.headers(None, None, expires, moments.now())
    if time_limit is not None or soft_time_limit is not None:
        changes["timelimit"] = [time_limit or call.hard, soft_time_limit or call.soft]
    if headers:
        changes.update(json.plain(headers))
    body = message.body
    # the headers of a protocol 1 message are those that `read` put together: it goes on as protocol 2
    before = message.headers if "task" in message.headers else call.headers
    if args is not None or kwargs is not None or before is not message.headers:
        body = _rewritten(call, args, kwargs, before.get("compression"), changes)
    return Message(body, call.content_type, call.content_encoding, {**before, **changes}, properties)


def _rewritten(
    call: Call,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    compression: str | None,
    changes: dict[str, Any],
) -> bytes:
    """The body with other arguments, in the serializer and compression it came in."""
    args = call.args if args is None else args
    kwargs = call.kwargs if kwargs is None else kwargs
    changes["argsrepr"] = saferepr(args, REPR_LIMIT)
    changes["kwargsrepr"] = saferepr(kwargs, REPR_LIMIT)
    follows = {
        "callbacks": call.callbacks,
        "errbacks": call.errbacks,
        "chain": call.chain,
        "chord": call.chord,
    }
    _, _, body = serialization.dumps((args, kwargs, follows), serialization.find(call.content_type).name)
    if compression:
        body, _ = _compression.compress(body, compression)
    return body
