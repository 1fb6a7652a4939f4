"""Result documents: what is in them, what is refused."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from celeriac.exceptions import DecodeError, EncodeError, ImproperlyConfigured
from celeriac.wire import results

SERIALIZERS = ["json", "msgpack", "yaml", "pickle"]


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_round_trip(serializer: str) -> None:
    document = results.encode_result(
        "i",
        "SUCCESS",
        {"a": [1, None]},
        serializer=serializer,
        parent_id="p",
        group_id="g",
        children=[(("c", None), None)],
        name="t",
        args=[1],
        kwargs={"k": 2},
        worker="w1@h",
        retries=3,
        queue="q",
        stamped_headers=["batch"],
        stamps={"batch": "b1"},
    )
    meta = results.decode_result(document, serializer)
    assert (meta.status, meta.result, meta.task_id) == ("SUCCESS", {"a": [1, None]}, "i")
    assert (meta.parent_id, meta.group_id, meta.name, meta.worker) == ("p", "g", "t", "w1@h")
    assert (meta.args, meta.kwargs, meta.retries, meta.queue) == ([1], {"k": 2}, 3, "q")
    assert (meta.stamped_headers, meta.stamps) == (["batch"], {"batch": "b1"})
    assert list(map(list, meta.children or [])) == [[["c", None], None]] or serializer == "pickle"


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_failures_round_trip(serializer: str) -> None:
    document = results.encode_result("i", "FAILURE", KeyError("k"), traceback="Trace", serializer=serializer)
    meta = results.decode_result(document, serializer)
    assert meta.traceback == "Trace"
    exc = results.rebuild_exception(meta.result)
    assert (type(exc), exc.args) == (KeyError, ("k",))


@pytest.mark.parametrize(
    ("state", "done"),
    [
        ("SUCCESS", True),
        ("FAILURE", True),
        ("REVOKED", True),
        ("RETRY", False),
        ("STARTED", False),
        ("PENDING", False),
        ("PROGRESS", False),
    ],
)
def test_only_final_states_have_a_date(state: str, done: bool) -> None:
    date_done = results.decode_result(results.encode_result("i", state, None)).date_done
    assert (date_done is not None) is done
    if date_done:
        assert abs((datetime.now(UTC) - datetime.fromisoformat(date_done)).total_seconds()) < 60


def test_awkward_ids_and_texts_are_json_still() -> None:
    document = results.encode_result(
        'a"\\\n\ud800é', 'STA"TE', "x", traceback='"\n\x00', parent_id='"', group_id="\\"
    )
    value = json.loads(document)
    assert (value["task_id"], value["status"], value["traceback"]) == ('a"\\\n\ud800é', 'STA"TE', '"\n\x00')
    assert (value["parent_id"], value["group_id"]) == ('"', "\\")
    assert results.decode_result(document).task_id == 'a"\\\n\ud800é'


def test_dialect_values_in_results() -> None:
    value = {"day": date(2030, 1, 1), "raw": b"\xff"}
    assert results.decode_result(results.encode_result("i", "SUCCESS", value)).result == value


@pytest.mark.parametrize("value", [object(), {1, object()}, 1j, lambda: 1])
def test_an_unserialisable_result_is_an_encode_error(value: Any) -> None:
    with pytest.raises(EncodeError):
        results.encode_result("i", "SUCCESS", value)


def test_arguments_for_show_never_spoil_a_result() -> None:
    document = results.encode_result("i", "SUCCESS", 1, name="t", args=(1j,), kwargs={"k": 1})
    meta = results.decode_result(document)
    assert (meta.args, meta.kwargs) == ("(1j,)", {"k": 1})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"status": null}',
        b'{"status": 7}',
        b"\xff",
        b"[" * 100_000,
        b'{"status": "x"',
    ],
    ids=lambda raw: str(raw[:20]),
)
def test_what_is_no_document_is_a_decode_error(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        results.decode_result(raw)


def test_fields_of_the_wrong_type_are_as_if_absent() -> None:
    raw = {
        "status": "SUCCESS",
        "traceback": 7,
        "children": "x",
        "date_done": [],
        "task_id": {},
        "retries": "3",
        "stamped_headers": ["a", 1],
    }
    meta = results.decode_result(json.dumps(raw).encode())
    assert (meta.traceback, meta.children, meta.date_done, meta.task_id, meta.retries) == (
        None,
        None,
        None,
        "",
        None,
    )
    assert (meta.stamped_headers, meta.stamps) == (["a"], {})


def test_documents_of_another_serializer_are_not_read() -> None:
    document = results.encode_result("i", "SUCCESS", 1, serializer="pickle")
    with pytest.raises(DecodeError):
        results.decode_result(document)
    with pytest.raises(ImproperlyConfigured):
        results.decode_result(document, "xml")


def test_groups() -> None:
    structure = (("g", None), [(("a", None), None)])
    assert results.decode_group(results.encode_group(structure)) == [["g", None], [[["a", None], None]]]
    for raw in (b"{}", b"[]", b'{"result": 7}', b"x"):
        with pytest.raises(DecodeError):
            results.decode_group(raw)
