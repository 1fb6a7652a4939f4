"""`Call`: a task message, understood; and the checks that both protocols share.

1. `Call`, the value that `protocol.read` returns.
2. `ProtocolError`: the message is not a valid task message; the text names the header or the part.
3. One check per kind of field. Each raises `ProtocolError` and nothing else.

Not here: which header goes where (`protocol.py`, `protocol1.py`).
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Final, NamedTuple

from celeriac.exceptions import InvalidTaskError
from celeriac.wire import moments
from celeriac.wire.saferepr import saferepr
from celeriac.wire.steps import Steps

__all__ = ["Call", "ProtocolError"]

#: Characters that a task's name or an id may have.
LONGEST: Final = 1024

#: A retry a second for three years; what is beyond it is no count.
MOST_RETRIES: Final = 100_000_000


class ProtocolError(InvalidTaskError):
    """A message that is not a valid task message; the text says which part is wrong and how."""


class Call(NamedTuple):
    """A task message, understood.

    Attributes:
        name: the task's name.
        id: the call's id.
        args, kwargs: what the task is called with.
        callbacks, errbacks: signatures (dicts) to call with the result, with the failure.
        chain: signatures that remain of the chain, the next one last.
        chord: signature of the chord's body, when this call is in its header.
        headers: all headers, custom ones included; those of protocol 1 as protocol 2 would have them.
        properties: the message's properties.
        retries: how often it was retried.
        eta: epoch seconds before which it must not start.
        expires: epoch seconds from which on it must not start.
        hard, soft: time limits of this call, in seconds.
        root_id, parent_id: the first call of the workflow; the call that made this one.
        group, group_index: the group it belongs to, and its place there.
        ignore_result: what the caller said; None: the task decides.
        reply_to: where the caller waits for replies.
        content_type, content_encoding: of the body, as the message states them.
    """

    name: str
    id: str
    args: list[Any] | tuple[Any, ...]
    kwargs: dict[str, Any]
    callbacks: list[dict[str, Any]] | None
    errbacks: list[dict[str, Any]] | None
    chain: list[dict[str, Any]] | Steps | None
    chord: dict[str, Any] | None
    headers: dict[str, Any]
    properties: dict[str, Any]
    retries: int
    eta: float | None
    expires: float | None
    hard: float | None
    soft: float | None
    root_id: str | None
    parent_id: str | None
    group: str | None
    group_index: int | None
    ignore_result: bool | None
    reply_to: str | None
    content_type: str
    content_encoding: str


def refuse(field: str, expected: str, value: object) -> ProtocolError:
    """The error to raise when `field` holds `value` instead of what was expected."""
    return ProtocolError(f"{field} must be {expected}, not {saferepr(value, 80)}")


def text(value: Any, field: str) -> str:
    """A name or an id: short text that every store can hold."""
    if type(value) is not str or not value or len(value) > LONGEST:
        raise refuse(field, f"text of 1 to {LONGEST} characters", value)
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as exc:
            raise refuse(field, "text without lone surrogates", value) from exc
    return value


def optional_text(value: Any, field: str) -> str | None:
    return None if value is None else text(value, field)


def time(value: Any, field: str, *, local: bool = False) -> float:
    """A point in time, as epoch seconds."""
    try:
        return moments.epoch(value, local=local)
    except ValueError as exc:
        raise ProtocolError(
            f"{field} cannot be read as a time: {exc} (it holds {saferepr(value, 80)})"
        ) from exc


def limits(value: Any, field: str) -> tuple[float | None, float | None]:
    """The pair of hard and soft time limit. Zero means none, as in Celery."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise refuse(field, "a pair of seconds, hard and soft", value)
    hard, soft = value
    return _limit(hard, field), _limit(soft, field)


def _limit(value: Any, field: str) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= 1e10 or not isfinite(value):
        raise refuse(field, "a pair of seconds, hard and soft", value)
    return value or None


def retries(value: Any, field: str) -> int:
    if type(value) is not int or not 0 <= value <= MOST_RETRIES:
        raise refuse(field, f"an integer from 0 to {MOST_RETRIES}", value)
    return value


def index(value: Any, field: str) -> int:
    if type(value) is not int:
        raise refuse(field, "an integer", value)
    return value


def arguments(value: Any, field: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise refuse(field, "a list of positional arguments", value)
    return value


def keywords(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(type(key) is str for key in value):
        raise refuse(field, "an object of keyword arguments", value)
    return value


def chain(value: Any) -> list[dict[str, Any]] | Steps | None:
    """The steps that remain. Of many only the next one is looked at: it is its turn."""
    if type(value) is not Steps:
        return signatures(value, "chain")
    _signature(value[-1], "chain")
    return value


def signatures(value: Any, field: str) -> list[dict[str, Any]] | None:
    """Callbacks, errbacks, chains: a list of signatures, or nothing."""
    if value is None:
        return None
    if isinstance(value, dict):  # Celery lets a single one stand without the list
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise refuse(field, "a list of signatures", value)
    return [_signature(item, field) for item in value]


def signature(value: Any, field: str) -> dict[str, Any] | None:
    return None if value is None else _signature(value, field)


def _signature(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict) or type(value.get("task")) is not str:
        raise refuse(field, "made of signatures (objects that name a task)", value)
    return value
