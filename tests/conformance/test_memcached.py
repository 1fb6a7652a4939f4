"""`cache+memcached://` keeps the contract of result stores, on one server and on two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.conformance.outages import says_and_survives_outages
from tests.conftest import provided
from tests.servers import MemcachedServer

from celeriac import Celeriac
from celeriac.backends.base import StoredResult
from celeriac.conformance import ChordContract, ResultBackendContract
from celeriac.exceptions import ImproperlyConfigured

pytest.importorskip("pymemcache")

from celeriac.backends.memcached import MemcachedBackend


@pytest.fixture(scope="module")
def other_server() -> Iterator[MemcachedServer]:
    server = provided(MemcachedServer)
    yield server
    server.stop()


class TestMemcached(ResultBackendContract):
    backend_class = MemcachedBackend

    @pytest.fixture
    def url(self, memcached_server: Any) -> str:
        memcached_server.flush()
        return str(memcached_server.url)


class TestMemcachedChords(ChordContract):
    backend_class = MemcachedBackend

    @pytest.fixture
    def url(self, memcached_server: Any) -> str:
        memcached_server.flush()
        return str(memcached_server.url)


class TestOnTwoServers(ResultBackendContract):
    backend_class = MemcachedBackend

    @pytest.fixture
    def url(self, memcached_server: Any, other_server: MemcachedServer) -> str:
        memcached_server.flush()
        other_server.flush()
        return f"memcached://127.0.0.1:{memcached_server.port};127.0.0.1:{other_server.port}/"


def test_a_result_that_is_too_large_becomes_a_failure_and_the_others_are_stored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with provided(lambda: MemcachedServer("-I", "1m")) as server:
        app = Celeriac("proj", broker="memory://", backend=server.url, set_as_current=False)
        small = [StoredResult(f"id-{n}", b"{}", 60) for n in range(500)]
        app.backend.store([*small[:200], StoredResult("big", b"x" * 2_000_000, 60), *small[200:]])
        assert len(app.backend.load([each.task_id for each in small])) == 500
        with pytest.raises(Exception, match="2,000,000 bytes"):
            app.AsyncResult("big").get(timeout=10)
        assert "The result of task big is not stored" in caplog.text
        app.close()


def test_a_restart_of_the_server_is_survived_and_an_outage_is_said() -> None:
    with provided(MemcachedServer) as server:
        backend = MemcachedBackend(server.url, {"cache_backend_options": {"timeout": 0.5}})
        says_and_survives_outages(backend, server, f"memcached at 127.0.0.1:{server.port}")


@pytest.mark.parametrize("task_id", ["a b", "x" * 400, "h\u00e9", "../etc/passwd", "line\r\nbreak", "\ud800"])
def test_any_id_can_be_stored(memcached_server: MemcachedServer, task_id: str) -> None:
    backend = MemcachedBackend(memcached_server.url, {})
    backend.store([StoredResult(task_id, b"1", 60)])
    assert backend.load([task_id]) == {task_id: b"1"}
    backend.forget([task_id])
    assert backend.load([task_id]) == {}
    backend.close()


def test_a_time_to_live_of_more_than_a_month_is_no_date(memcached_server: MemcachedServer) -> None:
    backend = MemcachedBackend(memcached_server.url, {"global_keyprefix": "shop"})
    backend.store([StoredResult("long", b"1", 90 * 86400)])
    assert backend.load(["long"]) == {"long": b"1"}
    assert b"VALUE shop_celery-task-meta-long" in memcached_server.ask(b"get shop_celery-task-meta-long\r\n")
    backend.close()


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("cache+memcached://user:pw@host:1/", {}, "no users and passwords"),
        ("cache+memcached://host:port/", {}, "no number"),
        ("cache+memcached://host/", {"cache_backend_options": {"timeuot": 1}}, "'timeuot'"),
        ("cache+dbm://x", {}, "no cache 'dbm'"),
    ],
)
def test_what_is_misspelled_is_said(url: str, options: dict[str, Any], says: str) -> None:
    app = Celeriac("proj", broker="memory://", backend=url, set_as_current=False)
    app.conf.update(options)
    with pytest.raises(ImproperlyConfigured, match=says):
        _ = app.backend
