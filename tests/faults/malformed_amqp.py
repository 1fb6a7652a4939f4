"""Messages that are wrong in ways which only AMQP has: properties, headers, our own marks. No worker may die
of them, and none may go round for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tests.faults.malformed import GOOD_BODY

from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import parse
from celeriac.wire.amqp import AGAIN, CRASHES, DEAD_REASON, DUE, PARKED, RAW
from celeriac.wire.message import Message

__all__ = ["bad_contents", "odd_contents", "put"]

_GOOD: dict[str, Any] = {"lang": "py", "task": "add", "id": "bad", "retries": 0}


def _content(
    headers: dict[str, Any] | None = None,
    body: bytes = GOOD_BODY,
    kind: str = "application/json",
    encoding: str = "utf-8",
    **properties: Any,
) -> Message:
    given = _GOOD if headers is None else {**_GOOD, **headers}
    headers = {key: value for key, value in given.items() if value is not ...}
    return Message(body, kind, encoding, headers, {"delivery_mode": 2, **properties})


def bad_contents() -> dict[str, Message]:
    """Messages that must be dead-lettered, by what is wrong with them."""
    nothing = dict.fromkeys(_GOOD, ...)
    deep: Any = 1
    for _ in range(60):
        deep = {"x": deep}
    found = {
        "nothing at all": _content(nothing, b"", "", ""),
        "no headers": _content(nothing, b"{}"),
        "no headers, no JSON": _content(nothing, b"\xff\xfe"),
        "no body": _content(body=b""),
        "content type unknown": _content(kind="application/x-nothing"),
        "content type absurd": _content(kind="a" * 250),
        "content encoding unknown": _content(encoding="klingon"),
        "a megabyte of nothing": _content(body=b"\0" * (1 << 20)),
        "task is bytes": _content({"task": b"\xff\xfe"}),
        "task is a table": _content({"task": {"a": 1}}),
        "task is a date": _content({"task": datetime.now(UTC)}),
        "id is a number": _content({"id": 10**18}),
        "id is a decimal": _content({"id": Decimal("1.5")}),
        "id is void": _content({"id": None}),
        "eta is a date of the year 1": _content({"eta": "0001-01-01T00:00:00"}, body=b"[7]"),
        "headers deep": _content({"task": deep}),
        "pickle": _content(body=b"\x80\x04N.", kind="application/x-python-serialize", encoding="binary"),
        "raw mark": _content({RAW: "somebody else's"}),
    }
    # Two that say the same are taken for copies of one message.
    return {
        name: message._replace(properties={**message.properties, "correlation_id": name})
        for name, message in found.items()
    }


def odd_contents() -> dict[str, Message]:
    """Messages with odd things on them that can be run all the same: `add(1, 2)`."""
    found = {
        "priority 255": _content(priority=255),
        "timestamp far away": _content(timestamp=(1 << 62)),
        "no correlation id": _content(),
        "message id odd": _content(message_id="\u2603" * 60),
        "app id and type": _content(app_id="x" * 200, type="y" * 200),
        "many headers": _content({f"h{i}": i for i in range(1000)}),
        "big header": _content({"x": "y" * 100_000}),
        "deaths of its own": _content(
            {"x-death": [{"count": 5, "reason": "expired"}], "x-delivery-count": "no"}
        ),
    }
    for mark in (AGAIN, CRASHES, DEAD_REASON, DUE, PARKED):
        for value in ("text", -1, None, {"a": [1]}, b"\xff", True, 1e300):
            found[f"{mark} is {value!r}"] = _content({mark: value})
    return {
        name: message._replace(headers={**message.headers, "id": f"odd-{number}"})
        for number, (name, message) in enumerate(found.items())
    }


def put(url: str, queue: str, message: Message) -> None:
    """Publish a message just as it is."""
    link = Link.dial(parse(url), deadline=float("inf"))
    try:
        channel = link.channel()
        channel.confirm_select()
        channel.publish("", queue, message, mandatory=True)
        link.flush()
        while channel.unconfirmed:
            link.read(1.0)
        assert not channel.returned, "there is no such queue"
    finally:
        link.close(farewell=1.0)
