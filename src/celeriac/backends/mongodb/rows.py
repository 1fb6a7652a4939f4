"""Result documents as documents of Celery's collections, and back. No database here.

1. `row_of`, `document_of`: a document of ``celery_taskmeta``.
2. `group_row_of`, `document_of_group`: of ``celery_groupmeta``.
3. `plainer`: the same with text in place of what BSON cannot hold; `refused`: what stands for a document that
   the database does not take.

| field                                  | what                                                            |
|----------------------------------------|-----------------------------------------------------------------|
| _id, status, traceback, date_done      | as they are; the date is one of BSON                            |
| result                                 | text or bytes of `result_serializer`, compressed if that is set |
| children, args, kwargs and all others  | values                                                          |
| expires_at                             | when the database deletes it; Celery's have none                |
| document                               | in place of all others: bytes that are no result document       |

A group of Celery's is a list of ids in `result`; ours has its full structure in `structure`, besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from celeriac import states
from celeriac.backends.values import dumps, open_document, result_of, value_of
from celeriac.exceptions import DecodeError, EncodeError
from celeriac.wire import pickles
from celeriac.wire.errors import describe_exception
from celeriac.wire.packing import packed, unpacked
from celeriac.wire.saferepr import saferepr

__all__ = ["EXPIRES", "document_of", "document_of_group", "group_row_of", "plainer", "refused", "row_of"]

Row = Mapping[str, Any]

EXPIRES: Final = "expires_at"
_OPAQUE: Final = "document"
_STRUCTURE: Final = "structure"
_SHOWN: Final = ("args", "kwargs")


# -- writing ----------------------------------------------------------------------------------------------


def row_of(task_id: str, document: bytes, serializer: str, method: str | None = None) -> dict[str, Any]:
    """What says in Celery's collection what `document` says.

    Args:
        method: compresses the result.

    Example:
        >>> row_of("a", b'{"status": "SUCCESS", "result": [1, 2]}', "json")["result"]
        '[1, 2]'
    """
    try:
        read = open_document(document, serializer)
    except DecodeError:
        return _opaque(task_id, document)
    if not isinstance(read, dict) or not isinstance(read.get("status"), str):
        return _opaque(task_id, document)
    row = {key: value for key, value in read.items() if isinstance(key, str) and key != "task_id"}
    row["result"] = _field(read.get("result"), serializer, method)
    row["date_done"] = _date(read.get("date_done"))
    for key in ("traceback", "children"):  # Celery's readers want them
        row.setdefault(key, None)
    row["_id"] = task_id
    return row


def _opaque(id_: str, document: bytes) -> dict[str, Any]:
    return {"_id": id_, "status": None, _OPAQUE: document}


def _field(value: Any, serializer: str, method: str | None) -> str | bytes:
    """Text, unless it has to be bytes, as Celery has it."""
    plain = dumps(value, serializer)
    data = packed(plain, method)
    if data is not plain:
        return data
    try:
        return data if pickles.is_pickle(data) or serializer == "msgpack" else data.decode()
    except UnicodeDecodeError:
        return data


def _date(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def plainer(row: Row) -> dict[str, Any]:
    """Text for what is there to be shown only, and no text that is not Unicode."""
    done = {}
    for key, value in row.items():
        if key in _SHOWN and value is not None:
            value = saferepr(value)
        elif not isinstance(value, str | bytes | datetime | type(None)):
            value = _kept(value)
        done[_clean(key).replace("\0", "").lstrip("$")] = _clean(value) if isinstance(value, str) else value
    return done


def _kept(value: Any) -> Any:
    """Children, numbers and lists of names are kept as they are when they are what they should be."""
    if isinstance(value, list | tuple):
        return [_kept(each) for each in value]
    if isinstance(value, str):
        return _clean(value)
    if value is None or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    return saferepr(value)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def refused(task_id: str, reason: str, serializer: str) -> dict[str, Any]:
    """The failure that stands for a result the database does not take: nobody must wait for ever."""
    failure = describe_exception(EncodeError(f"The result cannot be stored: {reason}"))
    return {
        "_id": task_id,
        "status": states.FAILURE,
        "result": _field(failure, serializer, None),
        "traceback": None,
        "children": None,
        "date_done": datetime.now(UTC),
    }


# -- reading ----------------------------------------------------------------------------------------------


def document_of(row: Row, serializer: str) -> bytes:
    """The document that says what `row` says; of one that cannot be read, why.

    Example:
        >>> document_of({"_id": "a", "status": "STARTED", "result": '{"pid": 1}'}, "json")[:41]
        b'{"status": "STARTED", "result": {"pid": 1'
    """
    opaque = row.get(_OPAQUE)
    if isinstance(opaque, bytes) and row.get("status") is None:
        return opaque
    status = row.get("status")
    try:
        value = _read(row.get("result"), serializer, status if isinstance(status, str) else "")
    except DecodeError as exc:
        return _unreadable(f"The result of task {row.get('_id')} cannot be read: {exc}", serializer)
    done = row.get("date_done")
    document = {"status": status, "result": value}
    document |= {
        key: _shown(value) for key, value in row.items() if key not in ("_id", "result", "date_done", EXPIRES)
    }
    document["children"] = row.get("children") or []
    date = _date(done)
    document["date_done"] = None if date is None else date.isoformat()
    document["task_id"] = str(row.get("_id"))
    try:
        return dumps(document, serializer)
    except EncodeError as exc:
        return _unreadable(f"The result of task {row.get('_id')} cannot be given on: {exc}", serializer)


def _read(field: Any, serializer: str, status: str) -> Any:
    """Whatever wrote it: with compression or without, pickled or not, or as a value of BSON itself."""
    if isinstance(field, bytes):
        field = unpacked(field)
    elif not isinstance(field, str):
        return field
    return result_of(status, field, serializer)


def _shown(value: Any) -> Any:
    return value if isinstance(value, str | int | float | list | dict | None) else saferepr(value)


def _unreadable(reason: str, serializer: str) -> bytes:
    return dumps({"unreadable": reason}, serializer)


# -- groups -----------------------------------------------------------------------------------------------


def group_row_of(
    group_id: str, document: bytes, serializer: str, method: str | None = None
) -> dict[str, Any]:
    """The row of a saved group: for Celery the ids of its members."""
    try:
        read = open_document(document, serializer)
    except DecodeError:
        return _opaque(group_id, document)
    structure = read.get("result") if isinstance(read, dict) else None
    ids = _member_ids(structure)
    if ids is None:
        return _opaque(group_id, document)
    return {
        "_id": group_id,
        "result": _field(ids, serializer, method),
        "date_done": datetime.now(UTC),
        _STRUCTURE: _field(structure, serializer, method),
    }


def _member_ids(structure: Any) -> list[str] | None:
    """Of ``((id, parent), [members])``."""
    try:
        return [str(member[0][0]) for member in structure[1]]
    except (TypeError, IndexError, KeyError):
        return None


def document_of_group(row: Row, serializer: str) -> bytes:
    """The document of a saved group; of one that cannot be read, why."""
    opaque = row.get(_OPAQUE)
    if isinstance(opaque, bytes):
        return opaque
    try:
        if row.get(_STRUCTURE) is not None:
            structure = _value(row[_STRUCTURE], serializer)
        else:
            ids = _value(row.get("result"), serializer)
            structure = [[row["_id"], None], [[[str(each), None], None] for each in ids]]
    except (DecodeError, TypeError) as exc:
        return _unreadable(f"The saved group cannot be read: {exc}", serializer)
    return dumps({"result": structure}, serializer)


def _value(field: Any, serializer: str) -> Any:
    if isinstance(field, bytes):
        field = unpacked(field)
    return value_of(field, serializer) if isinstance(field, str | bytes) else field
