"""Result documents, as Celery writes them.

1. `encode_result`: state and value of a task as the bytes a result store keeps. On the path of every task.
2. `decode_result`: the way back, as a `ResultMeta`; `is_final`: whether it is the end of its task.
3. `encode_group`, `decode_group`: the saved structure of a group's results.
4. `encode_part`, `decode_part`: what a member of a chord leaves for the chord's body.
5. Re-exports: `describe_exception`, `rebuild_exception`.

A failure's value is the description of its exception (`errors.py`), whatever the serializer.

Not here: where documents are kept (`backends/`), what a state means (`states.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from celeriac import states
from celeriac.exceptions import DecodeError, EncodeError, Retry
from celeriac.wire import json, serialization
from celeriac.wire.errors import describe_exception, rebuild_exception
from celeriac.wire.packing import ENCRYPTED, unpacked
from celeriac.wire.saferepr import saferepr

__all__ = [
    "ResultMeta",
    "decode_group",
    "decode_part",
    "decode_result",
    "describe_exception",
    "encode_group",
    "encode_part",
    "encode_result",
    "is_final",
    "rebuild_exception",
]

_EXTENDED = ("name", "args", "kwargs", "worker", "retries", "queue")


class ResultMeta(NamedTuple):
    """A result document, read.

    Attributes:
        status: the state.
        result: the value; of a failure the description of its exception (`rebuild_exception`).
        traceback: text, or None.
        children: results of the calls the task made, as tuples that `AsyncResult.as_tuple` gives.
        date_done: ISO 8601 text, or None while it is not done.
        task_id, parent_id, group_id: ids.
        name, args, kwargs, worker, retries, queue: only with the setting `result_extended`.
        stamped_headers, stamps: the stamps, only with `result_extended`.
    """

    status: str
    result: Any = None
    traceback: str | None = None
    children: list[Any] | None = None
    date_done: str | None = None
    task_id: str = ""
    parent_id: str | None = None
    group_id: str | None = None
    name: str | None = None
    args: Any = None
    kwargs: Any = None
    worker: str | None = None
    retries: int | None = None
    queue: str | None = None
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None


# -- writing ----------------------------------------------------------------------------------------------


def encode_result(
    task_id: str,
    state: str,
    value: Any,
    *,
    traceback: str | None = None,
    serializer: str = "json",
    children: Sequence[Any] | None = (),
    parent_id: str | None = None,
    group_id: str | None = None,
    date_done: datetime | None = None,
    name: str | None = None,
    args: Any = None,
    kwargs: Any = None,
    worker: str | None = None,
    retries: int | None = None,
    queue: str | None = None,
    stamped_headers: Sequence[str] | None = None,
    stamps: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the document of a task's state. Hot.

    Args:
        task_id: the task's id.
        state: any state; only those that are final get a date.
        value: the result; for RETRY, FAILURE and REVOKED the exception (a `Retry` stands for its cause).
        traceback: text.
        serializer: the setting `result_serializer`.
        children: tuples of `AsyncResult.as_tuple`.
        date_done: when it was done, if not now.
        name, args, kwargs, worker, retries, queue, stamped_headers, stamps: what `result_extended` adds; they
            are written when `name` is given.

    Raises:
        EncodeError: the serializer cannot write the value.
        ImproperlyConfigured: there is no such serializer.

    Example:
        >>> encode_result("a-1", "STARTED", {"pid": 1})[:41]
        b'{"status": "STARTED", "result": {"pid": 1'
    """
    if state in states.EXCEPTION_STATES and issubclass(type(value), BaseException):
        value = describe_exception(_cause(value))
    done = (date_done or datetime.now(UTC)).isoformat() if state in states.READY_STATES else None
    if serializer == "json" and name is None and children is not None and not children:
        return _common(task_id, state, value, traceback, done, parent_id, group_id)
    document: dict[str, Any] = {
        "status": state,
        "result": value,
        "traceback": traceback,
        "children": children if children is None else list(children),
        "date_done": done,
    }
    if group_id:
        document["group_id"] = group_id
    if parent_id:
        document["parent_id"] = parent_id
    if name is not None:
        document |= {
            "name": name,
            "args": _writable(args, serializer),
            "kwargs": _writable(kwargs, serializer),
            "worker": worker,
            "retries": retries,
            "queue": queue,
        }
        if stamped_headers:
            document["stamped_headers"] = list(stamped_headers)
            document = {**(stamps or {}), **document}
    document["task_id"] = task_id
    return serialization.dumps(document, serializer)[2]


def _common(
    task_id: str,
    state: str,
    value: Any,
    traceback: str | None,
    done: str | None,
    parent_id: str | None,
    group_id: str | None,
) -> bytes:
    """A JSON document without children and extended fields, put together as text. Hot."""
    quote = json.quote
    ids = f'"group_id": {quote(group_id)}, ' if group_id else ""
    if parent_id:
        ids += f'"parent_id": {quote(parent_id)}, '
    text = (
        f'{{"status": {quote(state)}, "result": {json.dumps_text(value)}, '
        f'"traceback": {"null" if traceback is None else quote(traceback)}, "children": [], '
        f'"date_done": {"null" if done is None else quote(done)}, {ids}"task_id": {quote(task_id)}}}'
    )
    return text.encode("ascii")


def _cause(exc: BaseException) -> BaseException:
    """What a `Retry` is about. By type(), not isinstance(): that would ask the exception itself."""
    return getattr(exc, "exc", None) or exc if issubclass(type(exc), Retry) else exc


def _writable(value: Any, serializer: str) -> Any:
    """Arguments for show: when the result's serializer cannot write them, text will do."""
    try:
        serialization.dumps(value, serializer)
    except EncodeError:
        return saferepr(value)
    return value


# -- reading ----------------------------------------------------------------------------------------------


def decode_result(document: bytes, serializer: str = "json") -> ResultMeta:
    """Return what `document` says.

    Args:
        document: bytes from a result store; anybody may have written them.
        serializer: the setting `result_serializer`; nothing else is read.

    Raises:
        DecodeError: it is not a result document.
        ImproperlyConfigured: there is no such serializer.

    Example:
        >>> decode_result(encode_result("a-1", "SUCCESS", 3)).result
        3
    """
    value = _load(document, serializer)
    if not isinstance(value, dict) or type(value.get("status")) is not str:
        raise _no_document(value, "a result document: it must be an object with a status")
    get = value.get
    date_done = get("date_done")
    stamped = get("stamped_headers")
    stamped = [key for key in stamped if isinstance(key, str)] if isinstance(stamped, list) else None
    children = get("children")
    return ResultMeta(
        value["status"],
        get("result"),
        _text(get("traceback")),
        list(children) if isinstance(children, (list, tuple)) else None,
        date_done.isoformat() if isinstance(date_done, datetime) else _text(date_done),
        _text(get("task_id")) or "",
        _text(get("parent_id")),
        _text(get("group_id")),
        _text(get("name")),
        get("args"),
        get("kwargs"),
        _text(get("worker")),
        get("retries") if type(get("retries")) is int else None,
        _text(get("queue")),
        stamped,
        {key: value[key] for key in stamped if key in value} if stamped else None,
    )


def is_final(document: bytes, serializer: str = "json") -> bool:
    """True when `document` says how its task ended; False for what cannot be read.

    Example:
        >>> is_final(encode_result("a-1", "SUCCESS", 3)), is_final(encode_result("a-1", "STARTED", None))
        (True, False)
    """
    if document.startswith(ENCRYPTED):
        return True
    try:
        return decode_result(document, serializer).status in states.READY_STATES
    except DecodeError:
        return False


def _load(document: bytes, serializer: str) -> Any:
    if document[:1] == b"\0":  # somebody compressed it
        document = unpacked(document)
    if serializer == "json":
        return json.loads(document)
    codec = serialization.find(serializer)
    return serialization.loads(
        document, codec.content_type, codec.content_encoding, frozenset({codec.content_type})
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _no_document(value: Any, wanted: str) -> DecodeError:
    """A store that finds what it cannot make a document of gives ``{"unreadable": why}`` in its place."""
    why = value.get("unreadable") if isinstance(value, dict) else None
    return DecodeError(why if isinstance(why, str) else f"not {wanted}")


# -- groups -----------------------------------------------------------------------------------------------


def encode_group(structure: Any, serializer: str = "json") -> bytes:
    """Return the document of a saved group.

    Args:
        structure: what `GroupResult.as_tuple` gives: ``((id, parent), [children])``.

    Raises:
        EncodeError: the serializer cannot write it.
    """
    return serialization.dumps({"result": structure}, serializer)[2]


def decode_group(document: bytes, serializer: str = "json") -> Any:
    """Return the structure that `encode_group` was given, with lists for tuples.

    Raises:
        DecodeError: it is not a group's document.
    """
    value = _load(document, serializer)
    if not isinstance(value, dict) or not isinstance(value.get("result"), (list, tuple)):
        raise _no_document(value, "a group's document: it must be an object with a result")
    return value["result"]


# -- parts of chords --------------------------------------------------------------------------------------


def encode_part(task_id: str, state: str, value: Any, serializer: str = "json") -> bytes:
    """Return what is stored of a chord's member when it ends: ``[1, id, state, value]``, as Celery has it.

    Args:
        task_id: the member.
        state: the state it ended in.
        value: its result; for FAILURE and REVOKED the exception.
        serializer: the setting `result_serializer`.

    Raises:
        EncodeError: the serializer cannot write the value.

    Example:
        >>> encode_part("a-1", "SUCCESS", 3)
        b'[1, "a-1", "SUCCESS", 3]'
    """
    if state in states.EXCEPTION_STATES and issubclass(type(value), BaseException):
        value = describe_exception(_cause(value))
    if serializer == "json":
        quote = json.quote
        return f"[1, {quote(task_id)}, {quote(state)}, {json.dumps_text(value)}]".encode("ascii")
    return serialization.dumps([1, task_id, state, value], serializer)[2]


def decode_part(payload: bytes, serializer: str = "json") -> tuple[str, str, Any]:
    """Return the (task id, state, value) of `payload`, which another program may have written.

    Raises:
        DecodeError: it is not such a part.
    """
    value = _load(payload, serializer)
    fits = isinstance(value, (list, tuple)) and len(value) == 4
    if not fits or type(value[1]) is not str or type(value[2]) is not str:
        raise DecodeError("not a part of a chord: it must be a list of a number, an id, a state and a value")
    return value[1], value[2], value[3]
