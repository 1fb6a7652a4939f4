"""`mongodb://` keeps the contracts of result stores and chords, on an emulator of MongoDB's protocol."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celeriac.backends.base import StoredResult
from celeriac.conformance import ChordContract, ResultBackendContract
from celeriac.wire.results import decode_result, encode_result

pymongo = pytest.importorskip("pymongo")

from celeriac.backends.mongodb import MongoBackend  # noqa: E402


class TestMongoDB(ResultBackendContract, ChordContract):
    backend_class = MongoBackend

    @pytest.fixture
    def url(self, mongo_server: Any) -> str:
        return str(mongo_server.database())

    def test_the_server_deletes_by_a_date_of_its_own(self, backend: MongoBackend, url: str) -> None:
        """Celery asks for an index on `date_done` and would be refused, were ours there and different."""
        backend.store([StoredResult("a", encode_result("a", "SUCCESS", 1), 60), StoredResult("b", b"1")])
        with pymongo.MongoClient(url) as client:
            tasks = client.get_default_database()["celery_taskmeta"]
            indexes = {index["key"][0][0]: index for index in tasks.index_information().values()}
            assert indexes["expires_at"]["expireAfterSeconds"] == 0
            assert "expireAfterSeconds" not in indexes["date_done"]
            tasks.create_index("date_done", background=True)
            left = (tasks.find_one({"_id": "a"}) or {})["expires_at"] - datetime.now(UTC).replace(tzinfo=None)
            assert 0 < left.total_seconds() <= 60
            assert "expires_at" not in (tasks.find_one({"_id": "b"}) or {})

    @pytest.mark.parametrize("expires", [3600.0, 0, None])
    def test_documents_of_celerys_workers_are_deleted_when_they_are_old(
        self, url: str, expires: float | None
    ) -> None:
        backend = MongoBackend(url, {"result_expires": expires})
        with pymongo.MongoClient(url) as client:
            tasks = client.get_default_database()["celery_taskmeta"]
            now = datetime.now(UTC)
            done = {"old": now - timedelta(hours=2), "new": now, "running": None}
            tasks.insert_many(
                [
                    {"_id": id_, "status": "SUCCESS", "result": "1", "date_done": date}
                    for id_, date in done.items()
                ]
            )
        assert backend.expire() == (1 if expires else 0)
        assert set(backend.load(list(done))) == {"new", "running"} | (set() if expires else {"old"})
        backend.close()

    def test_a_result_that_is_too_big_is_a_failure(
        self, backend: MongoBackend, caplog: pytest.LogCaptureFixture
    ) -> None:
        big = encode_result("big", "SUCCESS", "x" * (17 << 20))
        backend.store([StoredResult("big", big, 60), StoredResult("a", encode_result("a", "SUCCESS", 1), 60)])
        found = {id_: decode_result(document) for id_, document in backend.load(["big", "a"]).items()}
        assert (found["big"].status, found["big"].result["exc_type"]) == ("FAILURE", "EncodeError")
        assert found["a"].result == 1
        assert "task big was refused" in caplog.text

    def test_many_large_results_are_stored_at_once(self, backend: MongoBackend) -> None:
        documents = {f"id-{n}": encode_result(f"id-{n}", "SUCCESS", "x" * (6 << 20)) for n in range(3)}
        backend.store([StoredResult(id_, each, 60) for id_, each in documents.items()])
        assert {
            id_: len(decode_result(each).result) for id_, each in backend.load(list(documents)).items()
        } == (dict.fromkeys(documents, 6 << 20))
