"""Documents and rows of Celery's tables: the same meaning, both ways."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from celeriac.backends.database.rows import (
    Shape,
    TaskRow,
    column_of_group,
    document_of,
    document_of_group,
    refused,
    row_of,
)
from celeriac.exceptions import DecodeError
from celeriac.utils.time import as_timezone
from celeriac.wire.results import decode_group, decode_result, encode_group, encode_result

DONE = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
FULL: dict[str, Any] = {
    "traceback": "text", "children": [(("c", None), None)], "date_done": DONE, "name": "proj.add",
    "args": [1, DONE], "kwargs": {"a": 1}, "worker": "w", "retries": 2, "queue": "q",
    "stamped_headers": ["s"], "stamps": {"s": "x"},
}  # fmt: skip


@pytest.mark.parametrize("shape", [Shape(), Shape(pickled=True), Shape(zone=as_timezone("Asia/Tokyo"))])
@pytest.mark.parametrize("value", [5, None, "ü", {"when": DONE}, [1, [2]]])
@pytest.mark.parametrize("extra", [{}, FULL], ids=["short", "full"])
def test_a_document_comes_back(shape: Shape, value: Any, extra: dict[str, Any]) -> None:
    document = encode_result("a", "SUCCESS", value, **extra)
    assert decode_result(document_of(row_of("a", document, shape), shape)) == decode_result(document)


def test_what_is_no_document_is_kept_as_it_is() -> None:
    for raw in (b"", b"{}", b"[1]", b"\xff\0", b'{"status": 1}'):
        assert document_of(row_of("a", raw, Shape()), Shape()) == raw
        assert document_of_group(column_of_group(raw, Shape()), Shape()) == raw


def test_groups_come_back() -> None:
    for shape in (Shape(), Shape(pickled=True)):
        document = encode_group([["g", None], [[["a", None], None]]])
        column = column_of_group(document, shape)
        assert decode_group(document_of_group(column, shape)) == decode_group(document)


def test_what_cannot_be_read_says_so() -> None:
    rows = [
        TaskRow("a", "SUCCESS", b"\xff"),
        TaskRow("a", "SUCCESS", b"\x80\x04damaged"),
        TaskRow("a", "SUCCESS", pickle.dumps(timedelta(1))),  # there is no JSON for it
        TaskRow("a", "SUCCESS", pickle.dumps(ValueError("x"))),  # an exception is a result of failures only
    ]
    for row in rows:
        with pytest.raises(DecodeError, match="task a"):
            decode_result(document_of(row, Shape()))
    with pytest.raises(DecodeError, match="saved group"):
        decode_group(document_of_group(b"\xff", Shape()))


def test_a_refused_row_becomes_a_failure() -> None:
    row = refused(row_of("a", encode_result("a", "SUCCESS", 1), Shape()), "too long", Shape())
    meta = decode_result(document_of(row, Shape()))
    assert meta.status == "FAILURE"
    assert "too long" in meta.result["exc_message"][0]
