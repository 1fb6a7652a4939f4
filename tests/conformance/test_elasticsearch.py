"""`elasticsearch+http://` keeps the contracts of result stores and chords, on a stand-in of few calls."""

from __future__ import annotations

from typing import Any

import pytest
from tests.servers import free_port

from celeriac.backends.base import StoredResult
from celeriac.conformance import ChordContract, ResultBackendContract
from celeriac.conformance.kit import until
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.wire.results import decode_result, encode_result

elasticsearch = pytest.importorskip("elasticsearch")

from celeriac.backends.elasticsearch import ElasticBackend, place_of  # noqa: E402


class TestElasticsearch(ResultBackendContract, ChordContract):
    backend_class = ElasticBackend
    crowds = (3, 8)

    @pytest.fixture
    def url(self, elastic_server: Any) -> str:
        return str(elastic_server.index())

    def test_bytes_that_are_no_text_are_kept(self, backend: ElasticBackend) -> None:
        backend.store([StoredResult("a", b"\0\xff\x80", 60)])
        assert backend.load(["a"]) == {"a": b"\0\xff\x80"}

    def test_what_has_expired_is_not_seen_and_then_deleted(self, backend: ElasticBackend) -> None:
        backend.store(
            [StoredResult("short", b"1", 0.2), StoredResult("long", b"2", 60), StoredResult("ever", b"3")]
        )
        until(lambda: "short" not in backend.load(["short"]))
        assert backend.expire() == 1
        assert set(backend.load(["short", "long", "ever"])) == {"long", "ever"}

    @pytest.mark.parametrize("expires", [3600.0, 0, None])
    def test_documents_of_celerys_workers_are_deleted_when_they_are_old(
        self, url: str, expires: float | None
    ) -> None:
        backend = ElasticBackend(url, {"result_expires": expires})
        place = place_of(url)
        with elasticsearch.Elasticsearch(place.node) as client:
            for id_, when in (("old", "2020-01-01T00:00:00.000Z"), ("new", "2999-01-01T00:00:00.000Z")):
                source = {"result": "{}", "@timestamp": when}
                client.index(index=place.name, id=f"celery-task-meta-{id_}", document=source)
        assert backend.expire() == (1 if expires else 0)
        assert set(backend.load(["old", "new"])) == {"new"} | (set() if expires else {"old"})
        backend.close()

    def test_expiring_an_index_that_is_not_there_deletes_nothing(self, backend: ElasticBackend) -> None:
        assert backend.expire() == 0

    def test_a_result_may_be_kept_as_an_object(self, url: str) -> None:
        backend = ElasticBackend(url, {"elasticsearch_save_meta_as_text": False})
        document = encode_result("a", "FAILURE", ValueError("bad"), traceback="text")
        backend.store([StoredResult("a", document, 60), StoredResult("b", b"nonsense", 60)])
        with elasticsearch.Elasticsearch(place_of(url).node) as client:
            kept = client.get(index=place_of(url).name, id="celery-task-meta-a")["_source"]["result"]
        assert (kept["status"], kept["traceback"]) == ("FAILURE", '"text"')
        found = backend.load(["a", "b"])
        assert decode_result(found["a"]) == decode_result(document)
        assert found["b"] == b"nonsense"
        backend.close()

    def test_nobody_at_home_is_an_operational_error(self) -> None:
        backend = ElasticBackend(f"elasticsearch://127.0.0.1:{free_port()}", {"elasticsearch_max_retries": 0})
        with pytest.raises(OperationalError, match="does not do its work"):
            backend.load(["a"])
        backend.close()


@pytest.mark.parametrize("url", ["elasticsearch+ftp://h", "elasticsearch://h:port"])
def test_a_wrong_url_is_said_to_be_wrong(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="elasticsearch"):
        ElasticBackend(url, {})
