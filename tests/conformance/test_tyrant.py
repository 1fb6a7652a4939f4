"""`tyrant://` keeps the contract of result stores, against a stand-in for the server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conformance.outages import says_and_survives_outages
from tests.servers import TyrantServer

from celeriac import Celeriac
from celeriac.backends.base import StoredResult
from celeriac.backends.tyrant import TyrantBackend
from celeriac.conformance import ChordContract, ResultBackendContract
from celeriac.exceptions import ImproperlyConfigured


@pytest.fixture(scope="module")
def server() -> Iterator[TyrantServer]:
    server = TyrantServer()
    yield server
    server.stop()


@pytest.fixture
def url(server: TyrantServer) -> str:
    server.flush()
    return server.url


class TestTyrant(ResultBackendContract):
    backend_class = TyrantBackend

    @pytest.fixture
    def url(self, server: TyrantServer) -> str:
        server.flush()
        return server.url


class TestTyrantChords(ChordContract):
    backend_class = TyrantBackend

    @pytest.fixture
    def url(self, server: TyrantServer) -> str:
        server.flush()
        return server.url


def test_what_has_expired_is_deleted_hour_by_hour(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = TyrantBackend(url, {})
    backend.store([StoredResult(f"id-{n}", b"{}", 60) for n in range(5)])
    backend.store([StoredResult("again", b"1", 60), StoredResult("ever", b"2", None)])
    backend.save_group("g", b"[]", 60)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 50)
    backend.store([StoredResult("again", b"3", 7200)])
    assert backend.expire() == 0
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    assert backend.load(["id-1", "again", "ever"]) == {"again": b"3", "ever": b"2"}
    assert backend.expire() == 6
    assert backend.expire() == 0
    assert backend.load(["again", "ever"]) == {"again": b"3", "ever": b"2"}
    monkeypatch.setattr(time, "time", lambda: now + 20_000)
    assert backend.expire() == 1
    link = backend._names._ask(lambda link: link.names(""))
    assert link == ["celery-task-meta-ever"]
    backend.close()


def test_an_outage_is_said_and_survived() -> None:
    with TyrantServer() as server:
        backend = TyrantBackend(server.url, {"socket_timeout": 0.5})
        says_and_survives_outages(backend, server, f"tyrant://127.0.0.1:{server.port}")


def test_the_address_may_be_in_settings() -> None:
    app = Celeriac("proj", broker="memory://", backend="tyrant", set_as_current=False)
    app.conf.update(TT_HOST="old", TT_PORT=1999)
    assert app.backend.describe() == "tyrant://old:1999"
    with pytest.raises(ImproperlyConfigured, match="does not say where"):
        TyrantBackend("tyrant://", {})
    with pytest.raises(ImproperlyConfigured, match="no number"):
        TyrantBackend("tyrant://old:port", {})
