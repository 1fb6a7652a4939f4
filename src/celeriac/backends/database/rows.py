"""Result documents as rows of Celery's tables, and back. No database here.

1. `TaskRow`: a row of ``celery_taskmeta``. `row_of` makes one of a document, `document_of` the way back.
2. `column_of_group`, `document_of_group`: the same for ``celery_tasksetmeta``.
3. `refused`: what is stored in place of a row that the database does not take.

| column                     | Celery 5.7                      | Celery up to 5.6              |
|----------------------------|---------------------------------|-------------------------------|
| result                     | bytes of `result_serializer`    | a pickle                      |
| args, kwargs               | bytes of `result_serializer`    | the same; the column may lack |
| children, stamps           | bytes of `result_serializer`    | no such column                |
| date_done                  | no zone: that of the application | the same                     |

Both are read, whatever the table looks like. What is written follows the table (`Shape`).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NamedTuple

from celeriac import states
from celeriac.backends.values import open_document, result_of, value_of
from celeriac.exceptions import DecodeError, EncodeError
from celeriac.wire import json, pickles, serialization
from celeriac.wire.errors import describe_exception

__all__ = ["Shape", "TaskRow", "column_of_group", "document_of", "document_of_group", "refused", "row_of"]

#: Begins a group's document that is none, as no serializer's bytes do.
_OPAQUE: Final = b"\0\0"
_PICKLE_PROTOCOL: Final = 4


class Shape(NamedTuple):
    """How values are written.

    Attributes:
        serializer: the setting `result_serializer`.
        zone: of dates without a zone.
        pickled: the column `result` holds pickles, for clients of Celery up to 5.6.
    """

    serializer: str = "json"
    zone: tzinfo = UTC
    pickled: bool = False


class TaskRow(NamedTuple):
    """A row without its number. A `status` of None: `result` is the document itself, which is no result
    document."""

    task_id: str
    status: str | None = None
    result: bytes | None = None
    date_done: datetime | None = None
    traceback: str | None = None
    children: bytes | None = None
    name: str | None = None
    args: bytes | None = None
    kwargs: bytes | None = None
    worker: str | None = None
    retries: int | None = None
    queue: str | None = None
    stamps: bytes | None = None


# -- writing ----------------------------------------------------------------------------------------------


def row_of(task_id: str, document: bytes, shape: Shape) -> TaskRow:
    """The row that says what `document` says.

    Example:
        >>> row_of("a", b'{"status": "SUCCESS", "result": [1, 2]}', Shape()).result
        b'[1, 2]'
    """
    try:
        read = open_document(document, shape.serializer)
    except DecodeError:
        return TaskRow(task_id, None, document)
    if not isinstance(read, dict) or not isinstance(read.get("status"), str):
        return TaskRow(task_id, None, document)
    get = read.get
    extended = "name" in read
    stamped = get("stamped_headers")
    stamps = (
        {"stamped_headers": stamped, "stamps": {key: read[key] for key in stamped if key in read}}
        if isinstance(stamped, list)
        else None
    )
    column = _Column(shape.serializer)
    return TaskRow(
        task_id,
        read["status"],
        _pickled(get("result"), shape) if shape.pickled else column(get("result")),
        _naive(get("date_done"), shape.zone),
        _text(get("traceback")),
        column(get("children")) if get("children") else None,
        _text(get("name")),
        column(get("args")) if extended else None,
        column(get("kwargs")) if extended else None,
        _text(get("worker")),
        get("retries") if type(get("retries")) is int else None,
        _text(get("queue")),
        column(stamps) if stamps else None,
    )


class _Column:
    """Writes one value."""

    def __init__(self, serializer: str) -> None:
        self.serializer = serializer

    def __call__(self, value: Any) -> bytes:
        return serialization.dumps(value, self.serializer)[2]


def _pickled(value: Any, shape: Shape) -> bytes:
    return pickle.dumps(
        json.revive(value) if shape.serializer == "json" else value, protocol=_PICKLE_PROTOCOL
    )


def _naive(value: Any, zone: tzinfo) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo is None else value.astimezone(zone).replace(tzinfo=None)


def refused(row: TaskRow, reason: str, shape: Shape) -> TaskRow:
    """The failure that stands for a row the database does not take: nobody must wait for ever."""
    failure = describe_exception(EncodeError(f"The result cannot be stored: {reason}"))
    value = _pickled(failure, shape) if shape.pickled else _Column(shape.serializer)(failure)
    return TaskRow(row.task_id, states.FAILURE, value, row.date_done)


# -- reading ----------------------------------------------------------------------------------------------


def document_of(row: TaskRow, shape: Shape) -> bytes:
    """The document that says what `row` says; of a row that cannot be read, why.

    Example:
        >>> document_of(TaskRow("a", "STARTED", b'{"pid": 1}'), Shape())[:41]
        b'{"status": "STARTED", "result": {"pid": 1'
    """
    if row.status is None:
        return row.result or b""
    done = row.date_done
    if done is not None:
        done = (done.replace(tzinfo=shape.zone) if done.tzinfo is None else done).astimezone(UTC)
    try:
        document: dict[str, Any] = {
            "status": row.status,
            "result": result_of(row.status, row.result, shape.serializer),
            "traceback": row.traceback,
            "children": _shown(row.children, shape.serializer) or [],
            "date_done": None if done is None else done.isoformat(),
        }
    except DecodeError as exc:
        return _unreadable(f"The result of task {row.task_id} cannot be read: {exc}", shape)
    if row.name is not None:
        document |= {
            "name": row.name,
            "args": _shown(row.args, shape.serializer),
            "kwargs": _shown(row.kwargs, shape.serializer),
            "worker": row.worker,
            "retries": row.retries,
            "queue": row.queue,
        }
    stamps = _shown(row.stamps, shape.serializer)
    if isinstance(stamps, dict) and isinstance(stamps.get("stamped_headers"), list):
        document["stamped_headers"] = stamps["stamped_headers"]
        own = stamps.get("stamps")
        document = {**(own if isinstance(own, dict) else {}), **document}
    document["task_id"] = row.task_id
    try:
        return _Column(shape.serializer)(document)
    except EncodeError as exc:  # it was pickled, and the serializer of today knows no such type
        return _unreadable(
            f"The result of task {row.task_id} cannot be given on as {shape.serializer}: {exc}", shape
        )


def _shown(column: bytes | None, serializer: str) -> Any:
    """What is there to be shown only: when it cannot be read, the result is worth reading still."""
    try:
        value = value_of(column, serializer)
    except DecodeError:
        return None
    return repr(value) if isinstance(value, pickles.Stranger) else value


def _unreadable(reason: str, shape: Shape) -> bytes:
    return _Column(shape.serializer)({"unreadable": reason})


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# -- groups -----------------------------------------------------------------------------------------------


def column_of_group(document: bytes, shape: Shape) -> bytes:
    """The column `result` of a saved group's row."""
    try:
        read = open_document(document, shape.serializer)
    except DecodeError:
        read = None
    if not isinstance(read, Mapping) or "result" not in read:
        return _OPAQUE + document
    if shape.pickled:
        return _pickled(read["result"], shape)
    return _Column(shape.serializer)(read["result"])


def document_of_group(column: bytes | None, shape: Shape) -> bytes:
    """The document of a saved group; of one that cannot be read, why."""
    column = bytes(column or b"")
    if column.startswith(_OPAQUE):
        return column[len(_OPAQUE) :]
    try:
        structure = pickles.tuple_of(value_of(column, shape.serializer))
    except DecodeError as exc:
        return _unreadable(f"The saved group cannot be read: {exc}", shape)
    return _Column(shape.serializer)({"result": structure})
