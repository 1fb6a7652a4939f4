"""`dynamodb://` keeps the contracts of result stores and chords, on moto's server (an emulator)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from tests.servers import free_port

from celeriac.backends.base import StoredResult
from celeriac.conformance import ChordContract, ResultBackendContract
from celeriac.exceptions import ImproperlyConfigured, OperationalError

boto3 = pytest.importorskip("boto3")

from celeriac.backends.dynamodb import DynamoBackend, place_of  # noqa: E402


class Items:
    """What is in the table of a URL, seen by a stranger."""

    def __init__(self, url: str) -> None:
        place = place_of(url)
        self._table = place.table
        self._client = boto3.client(
            "dynamodb", region_name="us-east-1", endpoint_url=place.endpoint,
            aws_access_key_id="key", aws_secret_access_key="secret",
        )  # fmt: skip

    def ttl(self) -> str:
        description = self._client.describe_time_to_live(TableName=self._table)["TimeToLiveDescription"]
        return str(description["TimeToLiveStatus"])

    def get(self, task_id: str) -> Mapping[str, Any]:
        key = {"id": {"S": f"b'celery-task-meta-{task_id}'"}}
        item: Mapping[str, Any] = self._client.get_item(TableName=self._table, Key=key)["Item"]
        return item

    def names(self) -> list[str]:
        return [item["id"]["S"] for item in self._client.scan(TableName=self._table)["Items"]]

    def delete(self, name: str) -> None:
        self._client.delete_item(TableName=self._table, Key={"id": {"S": name}})


class TestDynamoDB(ResultBackendContract, ChordContract):
    backend_class = DynamoBackend
    many, crowds = 500, (3, 8)  # the emulator takes its time

    @pytest.fixture
    def url(self, dynamo_server: Any) -> str:
        return str(dynamo_server.table())

    @pytest.fixture
    def items(self, url: str) -> Items:
        return Items(url)

    def test_the_table_deletes_what_has_expired(self, backend: DynamoBackend, items: Items) -> None:
        backend.store([StoredResult("a", b"1", 60), StoredResult("b", b"1")])
        assert items.ttl() == "ENABLED"
        assert 0 < int(items.get("a")["ttl"]["N"]) - time.time() <= 61
        assert "ttl" not in items.get("b")

    @pytest.mark.parametrize(("seconds", "status"), [("120", "ENABLED"), ("-1", "DISABLED")])
    def test_the_url_says_how_long_items_are_kept(
        self, url: str, items: Items, seconds: str, status: str
    ) -> None:
        backend = DynamoBackend(f"{url}?ttl_seconds={seconds}", {})
        backend.store([StoredResult("a", b"1", 60)])
        assert items.ttl() == status
        if status == "ENABLED":
            assert 61 < int(items.get("a")["ttl"]["N"]) - time.time() <= 121
        else:
            assert "ttl" not in items.get("a")
        backend.close()

    def test_what_was_shorter_before_is_not_mixed_with_what_is_longer(self, backend: DynamoBackend) -> None:
        for document in (b"a" * 900_000, b"b", b"c" * 1_300_000, b"d" * 900_000):
            backend.store([StoredResult("a", document, 60)])
            assert backend.load(["a"]) == {"a": document}

    def test_a_piece_that_is_lost_is_no_result(self, backend: DynamoBackend, items: Items) -> None:
        backend.store([StoredResult("a", b"x" * 900_000, 60)])
        items.delete(next(name for name in items.names() if name.endswith(".1")))
        assert backend.load(["a"]) == {}

    def test_nobody_at_home_is_an_operational_error(self) -> None:
        backend = DynamoBackend(f"dynamodb://key:secret@127.0.0.1:{free_port()}", {})
        with pytest.raises(OperationalError, match="cannot be reached"):
            backend.load(["a"])


@pytest.mark.parametrize("url", ["dynamodb://key@eu-west-1", "dynamodb://@eu-west-1/t?read=many"])
def test_a_wrong_url_is_said_to_be_wrong(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="dynamodb://"):
        DynamoBackend(url, {})


def test_the_setting_wins_over_the_host() -> None:
    place = place_of("dynamodb://localhost:8000/t", "http://other:1")
    assert (place.endpoint, place.region, place.table) == ("http://other:1", "us-east-1", "t")
