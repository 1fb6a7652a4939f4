"""Result documents as MongoDB's, and what the URL and the settings say. No server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

pytest.importorskip("pymongo")

import bson
import pymongo

from celeriac.backends.mongodb import MongoBackend, rows
from celeriac.backends.mongodb.client import options_of
from celeriac.exceptions import DecodeError, ImproperlyConfigured
from celeriac.wire.results import decode_group, decode_result, encode_group, encode_result

CALL: dict[str, Any] = {
    "name": "t",
    "args": [1, {"a": 2}],
    "kwargs": {},
    "worker": "w",
    "retries": 1,
    "queue": "q",
}


def there_and_back(document: bytes, serializer: str, method: str | None = None) -> bytes:
    """As the database gives it back: dates without a zone, in milliseconds."""
    stored = bson.decode(bson.encode(rows.row_of("a", document, serializer, method)))
    return rows.document_of(stored, serializer)


@pytest.mark.parametrize("method", [None, "gzip"])
@pytest.mark.parametrize("serializer", ["json", "pickle", "msgpack", "yaml"])
def test_what_goes_in_comes_out(serializer: str, method: str | None) -> None:
    done = datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    document = encode_result(
        "a", "SUCCESS", {"x": ["ü"] * 50}, serializer=serializer, date_done=done, parent_id="p", group_id="g",
        children=[(("c", None), None)], traceback="text", stamped_headers=["s"], stamps={"s": [1]}, **CALL,
    )  # fmt: skip
    one, two = (
        decode_result(each, serializer) for each in (document, there_and_back(document, serializer, method))
    )
    assert two._replace(children=None) == one._replace(children=None)
    assert [child[0][0] for child in two.children or []] == ["c"]


def test_what_is_no_document_is_kept_as_it_is() -> None:
    for opaque in (b"", b"nonsense", b"[1]", b"\0\xff"):
        assert there_and_back(opaque, "json") == opaque


def test_what_bson_cannot_hold_is_shown_as_text() -> None:
    document = encode_result("a", "SUCCESS", 2**70, traceback="\ud800", **{**CALL, "args": [2**70, "\ud800"]})
    row = rows.row_of("a", document, "json")
    with pytest.raises((OverflowError, UnicodeError, bson.errors.BSONError)):
        bson.encode(row)
    read = decode_result(rows.document_of(bson.decode(bson.encode(rows.plainer(row))), "json"))
    assert read.result == 2**70
    assert str(2**70) in read.args
    assert read.traceback == "?"


def test_a_value_of_the_serializer_bson_is_read() -> None:
    """Celery stores values of BSON itself then."""
    row = {
        "_id": "a",
        "status": "SUCCESS",
        "result": {"x": 1},
        "date_done": None,
        "children": None,
        "traceback": None,
    }
    assert decode_result(rows.document_of(row, "json")).result == {"x": 1}


def test_a_result_that_cannot_be_read_says_so() -> None:
    for result in ("{", b"\0celery-compressed\0application/x-gzip\0damaged"):
        document = rows.document_of({"_id": "a", "status": "SUCCESS", "result": result}, "json")
        with pytest.raises(DecodeError, match="The result of task a cannot be read"):
            decode_result(document)


def test_what_is_refused_is_a_failure() -> None:
    read = decode_result(rows.document_of(rows.refused("a", "too big", "json"), "json"))
    assert (read.status, read.result["exc_type"]) == ("FAILURE", "EncodeError")


def test_a_group_keeps_its_structure_and_is_a_list_for_celery() -> None:
    structure = [["g", None], [[["a", None], None], [["h", None], [[["b", None], None]]]]]
    row = rows.group_row_of("g", encode_group(structure), "json")
    assert row["result"] == '["a", "h"]'
    assert decode_group(rows.document_of_group(row, "json")) == structure
    theirs = {"_id": "g", "result": '["a", "b"]'}
    assert decode_group(rows.document_of_group(theirs, "json")) == [
        ["g", None], [[["a", None], None], [["b", None], None]],
    ]  # fmt: skip


def test_a_group_that_cannot_be_read_says_so() -> None:
    with pytest.raises(DecodeError, match="The saved group cannot be read"):
        decode_group(rows.document_of_group({"_id": "g", "result": "{"}, "json"))


@pytest.mark.parametrize(
    ("url", "settings", "host", "database"),
    [
        ("mongodb://", None, "mongodb://localhost/?", "celery"),
        ("mongodb://a,b:1/jobs?retryWrites=false", None, "mongodb://a,b:1/?retryWrites=false", "jobs"),
        ("mongodb://a/jobs", {"database": "other"}, "mongodb://a/?", "other"),
        (
            "mongodb://me:it@a/jobs?tls=true",
            {"host": "h", "port": 5},
            "mongodb://me:it@h:5/?tls=true",
            "jobs",
        ),
        ("mongodb://a/jobs", {"host": ["h:1", "i"]}, "mongodb://h:1,i:27017/?", "jobs"),
        ("mongodb://a/jobs", {"host": "mongodb://h:1/?tls=true"}, "mongodb://h:1/?tls=true", "jobs"),
        ("mongodb://a/jobs", {"mongo_host": ["h:1"]}, "mongodb://h:1/?", "jobs"),
        ("mongodb+srv://me:it@a.example/jobs", None, "mongodb+srv://me:it@a.example/?", "jobs"),
    ],
)
def test_the_settings_win_over_the_url(
    url: str, settings: dict[str, Any] | None, host: str, database: str
) -> None:
    found = options_of(url, settings)
    assert (found.client["host"], found.database) == (host, database)
    assert "it@" not in found.place


def test_options_and_other_keys_are_the_clients() -> None:
    settings = {"options": {"maxPoolSize": 3}, "ssl": True, "user": "me", "password": "secret"}
    found = options_of("mongodb://a/?connectTimeoutMS=1", settings)
    wanted = {"maxPoolSize": 3, "ssl": True, "username": "me", "password": "secret"}
    assert wanted.items() <= found.client.items()
    assert found.client["socketTimeoutMS"] == 20_000
    assert "connectTimeoutMS" not in found.client  # the URL says it
    assert "secret" not in found.place


def test_the_driver_understands_them() -> None:
    found = options_of(
        "mongodb://me:it@a,b/jobs?connectTimeoutMS=1500&replicaSet=rs", {"options": {"tls": True}}
    )
    client: Any = pymongo.MongoClient(**found.client, connect=False)
    options = client.options
    assert (options.pool_options.connect_timeout, options.server_selection_timeout) == (1.5, 5.0)
    assert (options.replica_set_name, options.pool_options._credentials.source) == ("rs", "admin")
    client.close()


@pytest.mark.parametrize(
    "url", ["mongodb://a:b:c", "mongodb://user:pass@word@h:99999999", "mongodb://h/?bad"]
)
def test_a_wrong_url_is_said_to_be_wrong(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="MongoDB's own"):
        MongoBackend(url, {})


def test_settings_that_are_no_dict_are_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="mongodb_backend_settings"):
        MongoBackend("mongodb://a", {"mongodb_backend_settings": ["a"]})


def test_nobody_at_home_is_an_operational_error() -> None:
    from tests.servers import free_port

    from celeriac.exceptions import OperationalError

    backend = MongoBackend(f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=200", {})
    with pytest.raises(OperationalError, match="does not do its work"):
        backend.load(["a"])
    backend.close()
