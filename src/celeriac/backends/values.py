"""What is inside result documents, for stores that keep their parts apart (columns, fields).

1. `open_document`: a document's parts, values as they are written.
2. `value_of`: one part that a store kept as bytes or text, whoever wrote it; `result_of`: the same of a
   result, whose failure may be a pickled exception.
3. `dumps`: one part as bytes.

Not here: where parts are kept (`database/rows.py`, `mongodb/rows.py`).
"""

from __future__ import annotations

from typing import Any

from celeriac import states
from celeriac.exceptions import DecodeError
from celeriac.wire import json, pickles, serialization

__all__ = ["dumps", "open_document", "result_of", "value_of"]


def open_document(document: bytes, serializer: str) -> Any:
    """The document; of JSON, the values inside stay as they are written.

    Raises:
        DecodeError: it is not what `serializer` writes.

    Example:
        >>> open_document(b'{"status": "SUCCESS"}', "json")
        {'status': 'SUCCESS'}
    """
    return json.loads_plain(document) if serializer == "json" else _loads(document, serializer)


def dumps(value: Any, serializer: str) -> bytes:
    """One part, as `serializer` writes it. Raises `EncodeError`."""
    return serialization.dumps(value, serializer)[2]


def value_of(part: bytes | str | None, serializer: str) -> Any:
    """What a part says; a pickle is read without running it, unless `serializer` is pickle.

    Raises:
        DecodeError: it cannot be read.

    Example:
        >>> value_of(b"[1, 2]", "json"), value_of(None, "json")
        ([1, 2], None)
    """
    if part is None:
        return None
    data = part.encode() if isinstance(part, str) else bytes(part)
    if pickles.is_pickle(data) and serializer != "pickle":
        return pickles.loads(data)
    if serializer == "json":
        return json.loads_plain(data)
    if serializer == "pickle" and not pickles.is_pickle(data):
        return json.loads(data)
    return _loads(data, serializer)


def result_of(state: str, part: bytes | str | None, serializer: str) -> Any:
    """The value of a result in `state`; of a failure the description of its exception.

    Raises:
        DecodeError: it cannot be read, or is an object of a class that is not read.
    """
    value = value_of(part, serializer)
    if not isinstance(value, pickles.Stranger):
        return value
    if state not in states.EXCEPTION_STATES:
        raise DecodeError(f"it was pickled as an object of the class {value.module}.{value.name}")
    return pickles.described(value)


def _loads(data: bytes, serializer: str) -> Any:
    codec = serialization.find(serializer)
    return serialization.loads(
        data, codec.content_type, codec.content_encoding, frozenset({codec.content_type})
    )
