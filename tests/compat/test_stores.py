"""Celery's results in memcached and in files, read here, and ours read there; django-celery-results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.environments import python_with
from tests.compat.asking import BARE, ask
from tests.conftest import provided
from tests.faults.harness import ROOT
from tests.servers import MemcachedServer

from celeriac import Celeriac
from celeriac.backends.base import StoredResult
from celeriac.result import AsyncResult, GroupResult
from celeriac.wire.results import encode_result

pytest.importorskip("pymemcache")
pytestmark = pytest.mark.timeout(400)  # the first of them makes the environment


@pytest.fixture(scope="session")
def stores_python() -> str:
    """The interpreter of a virtual environment with Celery 5.7, its stores, and what Celeriac needs."""
    requirements = (
        "celery==5.7.0",
        "pymemcache==4.0.0",
        "django>=5.2,<5.3",
        "django-celery-results==2.6.0",
        "click",
        "msgspec",
    )
    return str(python_with("compat-celery-stores", requirements))


@pytest.fixture(scope="module")
def other_server() -> Iterator[MemcachedServer]:
    server = provided(MemcachedServer)
    yield server
    server.stop()


@pytest.fixture(params=["memcached", "two memcached", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}"
    servers = [request.getfixturevalue("memcached_server")]
    if request.param == "two memcached":
        servers.append(request.getfixturevalue("other_server"))
    for server in servers:
        server.flush()
    return f"cache+memcached://{';'.join(f'127.0.0.1:{server.port}' for server in servers)}/"


@pytest.fixture
def peer(stores_python: str, tmp_path: Path) -> Callable[..., Any]:
    """Runs one scenario of the peer's and returns what it saw."""

    def run(scenario: str, url: str) -> Any:
        env = {**BARE, "PYTHONPATH": str(ROOT / "src")} if scenario == "django" else BARE
        return ask(stores_python, "store_peer.py", scenario, url, tmp_path, env=env)

    return run


@pytest.fixture
def app(url: str) -> Iterator[Celeriac]:
    app = Celeriac("ours", broker="memory://", backend=url, set_as_current=False)
    yield app
    app.close()


def test_theirs_are_read(peer: Callable[..., Any], url: str, app: Celeriac) -> None:
    peer("write", url)
    assert app.AsyncResult("success").get(timeout=30) == {"x": [1, "\u00fc"]}
    assert app.AsyncResult("started").info == {"pid": 1}
    with pytest.raises(ValueError, match="bad"):
        app.AsyncResult("failure").get(timeout=30)
    assert app.AsyncResult("failure").traceback == "text"
    assert [app.AsyncResult(f"many-{n}").get(timeout=30) for n in range(50)] == list(range(50))
    assert GroupResult.restore("group", app=app).get(timeout=30) == [{"x": [1, "\u00fc"]}]


def test_ours_are_read_there(peer: Callable[..., Any], url: str, app: Celeriac) -> None:
    app.backend.store(
        [
            StoredResult("success", encode_result("success", "SUCCESS", {"x": [1, "\u00fc"]}), 60),
            StoredResult(
                "failure", encode_result("failure", "FAILURE", KeyError("bad"), traceback="text"), 60
            ),
            StoredResult("started", encode_result("started", "STARTED", {"pid": 1}), 60),
            *(StoredResult(f"many-{n}", encode_result(f"many-{n}", "SUCCESS", n), 60) for n in range(50)),
        ]
    )
    GroupResult("group", [AsyncResult("success", app=app)], app=app).save()
    seen = peer("read", url)
    assert seen["found"] == {
        "success": ["SUCCESS", "{'x': [1, '\u00fc']}", None],
        "failure": ["FAILURE", "KeyError('bad')", "text"],
        "started": ["STARTED", "{'pid': 1}", None],
    }
    assert seen["many"] == list(range(50))
    assert seen["group"] == ["success"]


@pytest.mark.parametrize("store", ["django-db", "django-cache"])
def test_django_celery_results_serves(peer: Callable[..., Any], store: str) -> None:
    seen = peer("django", store)
    assert seen["add"] == 5
    assert seen["failure"] == "ValueError('bad', 3)"
    assert seen["traceback"] is True
    assert seen["group"] == [0, 2, 4]
    assert seen["chord"] == [[2, 4]]
    assert seen["rows"] == ([["SUCCESS", '"(2, 3)"']] if store == "django-db" else [])
    assert seen["cleanup"] == 0
