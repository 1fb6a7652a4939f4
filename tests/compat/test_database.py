"""Celery's tables, shared with Celery 5.7: its rows read here, ours read there; tables of older versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bench.environments import python_with
from tests.compat.asking import ask
from tests.faults.harness import ROOT, Journal, Node, environment

from celeriac import Celeriac
from celeriac.exceptions import DecodeError, TaskRevokedError
from celeriac.result import AsyncResult, GroupResult

pytest.importorskip("sqlalchemy")

IDS = ("success", "date", "none", "failure", "retry", "revoked", "started", "progress")
CALL = ["proj.add", [1, 2], {"a": 1}, "celery@w1", 2, "fast"]


@pytest.fixture(scope="session")
def sql_python() -> str:
    """The interpreter of a virtual environment with Celery 5.7 and its SQL store, made on first use."""
    requirements = ("celery[redis]==5.7.0", "sqlalchemy>=2", "psycopg[binary]>=3.2", "pymysql")
    return str(python_with("compat-celery-sql", requirements))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLAlchemy's URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/results.db"
    url: str = request.getfixturevalue("postgres_server").database()
    return url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def peer(sql_python: str, database: str) -> Callable[..., Any]:
    """Runs one scenario of Celery's and returns what it saw."""
    return partial(ask, sql_python, "sql_peer.py", database)


@pytest.fixture
def app(database: str) -> Iterator[Celeriac]:
    app = Celeriac("ours", broker="memory://", backend=f"db+{database}", set_as_current=False)
    yield app
    app.close()


# -- their rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["plain", "extended"])
def test_their_rows_are_read(peer: Callable[..., Any], app: Celeriac, layout: str) -> None:
    peer("write", layout)
    found = {name: app.AsyncResult(name) for name in IDS}
    assert found["success"].get(timeout=30) == {"x": [1, "ü"]}
    assert [child.id for child in found["success"].children or []] == ["child-1", "child-2"]
    assert found["success"].date_done is not None
    assert abs((found["success"].date_done - datetime.now(UTC)).total_seconds()) < 60
    assert found["date"].get(timeout=30) == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert found["none"].get(timeout=30) is None
    with pytest.raises(ValueError, match="bad"):
        found["failure"].get(timeout=30)
    assert found["failure"].traceback == "the traceback"
    assert (found["retry"].state, found["retry"].date_done) == ("RETRY", None)
    with pytest.raises(TaskRevokedError):
        found["revoked"].get(timeout=30)
    assert (found["started"].state, found["started"].result) == ("STARTED", {"pid": 1, "hostname": "w1"})
    assert (found["progress"].state, found["progress"].result) == ("PROGRESS", {"done": 5})
    group = GroupResult.restore("group", app=app)
    assert group is not None
    assert [each.id for each in group.results] == ["success", "failure"]
    call = found["success"]
    if layout == "extended":
        assert (call.name, call.args, call.worker, call.retries, call.queue) == (
            "proj.add", [1, 2], "celery@w1", 2, "fast",
        )  # fmt: skip
        assert call.kwargs == {"a": datetime(2030, 1, 2)}
    else:
        assert (call.name, call.args, call.worker) == (None, None, None)


@pytest.mark.parametrize("layout", ["plain", "extended"])
def test_rows_of_older_versions_are_read_without_running_them(
    peer: Callable[..., Any], app: Celeriac, layout: str
) -> None:
    peer("old", layout)
    when = datetime(2030, 1, 2, tzinfo=UTC)
    assert app.AsyncResult("success").get(timeout=30) == {"x": [1, "ü"], "when": when}
    assert app.AsyncResult("success").date_done == datetime(2026, 1, 2, tzinfo=UTC)
    assert app.AsyncResult("none").get(timeout=30) is None
    with pytest.raises(ValueError, match="bad"):
        app.AsyncResult("failure").get(timeout=30)
    with pytest.raises(KeyError, match="k"):
        app.AsyncResult("exception").get(timeout=30)
    with pytest.raises(DecodeError, match=r"sys\.exit"):
        app.AsyncResult("evil").get(timeout=30)
    group = GroupResult.restore("group", app=app)
    assert group is not None
    assert [each.id for each in group.results] == ["success"]
    if layout == "extended":
        assert app.AsyncResult("success").args == [1, 2]


# -- our rows --------------------------------------------------------------------------------------------


def fill(app: Celeriac) -> None:
    """Rows of every state, as our worker writes them."""
    from celeriac.backends.base import StoredResult
    from celeriac.exceptions import Retry
    from celeriac.wire.results import encode_result

    extended = {
        "name": "proj.add", "args": [1, 2], "kwargs": {"a": 1}, "worker": "celery@w1", "retries": 2,
        "queue": "fast", "children": [AsyncResult("child-1", app=app).as_tuple()],
    }  # fmt: skip
    states: dict[str, tuple[str, Any, dict[str, Any]]] = {
        "success": ("SUCCESS", {"x": [1, "ü"]}, extended),
        "date": ("SUCCESS", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), {}),
        "none": ("SUCCESS", None, {}),
        "failure": ("FAILURE", ValueError("bad", 3), {"traceback": "the traceback\0 \ud800"}),
        "retry": ("RETRY", Retry("again", exc=ValueError("first")), {}),
        "revoked": ("REVOKED", TaskRevokedError("revoked"), {}),
        "started": ("STARTED", {"pid": 1}, {}),
        "progress": ("PROGRESS", {"done": 5}, {}),
    }
    app.backend.store(
        [StoredResult(name, encode_result(name, *end[:2], **end[2]), 60) for name, end in states.items()]
    )
    GroupResult("group", [app.AsyncResult("success"), app.AsyncResult("failure")], app=app).save()


def test_our_rows_are_read_by_celery(peer: Callable[..., Any], app: Celeriac) -> None:
    fill(app)
    seen = peer("read", *IDS)
    check(seen)
    assert seen["success"]["children"] == ["child-1"]
    assert seen["success"]["call"] == CALL
    assert app.AsyncResult("success").get(timeout=30) == {"x": [1, "ü"]}


@pytest.mark.parametrize("layout", ["plain", "extended"])
def test_our_rows_in_tables_of_older_versions(peer: Callable[..., Any], app: Celeriac, layout: str) -> None:
    """They hold pickles, which those versions read; 5.7 does, too."""
    peer("old", layout)
    fill(app)
    assert peer("raw", "success").startswith("80")
    assert app.AsyncResult("success").get(timeout=30) == {"x": [1, "ü"]}
    assert app.AsyncResult("success").args == ([1, 2] if layout == "extended" else None)
    seen = peer("read", *IDS)  # adds the columns it misses
    check(seen)
    app.backend.close()
    fill(app)
    check(peer("read", *IDS))


def check(seen: dict[str, Any]) -> None:
    results = {name: (seen[name]["state"], seen[name]["result"]) for name in IDS}
    date = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert results == {
        "success": ("SUCCESS", "{'x': [1, 'ü']}"),
        "date": ("SUCCESS", repr(date)),
        "none": ("SUCCESS", "None"),
        "failure": ("FAILURE", "ValueError('bad', 3)"),
        "retry": ("RETRY", "ValueError('first')"),
        "revoked": ("REVOKED", "TaskRevokedError('revoked')"),
        "started": ("STARTED", "{'pid': 1}"),
        "progress": ("PROGRESS", "{'done': 5}"),
    }
    assert seen["failure"]["traceback"].startswith("the traceback")
    assert seen["success"]["done"] == str(datetime.now(UTC).date())
    assert seen["group"] == ["success", "failure"]


# -- workers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["ours", "theirs"])
def test_both_workers_store_what_our_client_waits_for(
    who: str, redis_server: Any, postgres_server: Any, sql_python: str, tmp_path: Path
) -> None:
    redis_server.flush()
    backend = "db+" + postgres_server.database().replace("postgresql://", "postgresql+psycopg://")
    Journal(tmp_path / "journal")
    env = environment(redis_server.url, backend, tmp_path / "journal")
    app = Celeriac("client", broker=redis_server.url, backend=backend, set_as_current=False)
    app.conf.update(task_default_queue="faults")
    options: dict[str, Any] = {"name": who, "log": tmp_path / "log"}
    if who == "theirs":
        env = {**env, "FAULTS_LIBRARY": "celery", "PYTHONPATH": str(ROOT)}
        options |= {"python": sql_python, "module": "celery"}
    with Node(env, "-c", "2", "-Q", "faults", **options):
        assert app.send_task("add", (2, 3)).get(timeout=40) == 5
        with pytest.raises(ValueError, match="no way"):
            app.send_task("fail", ("no way",)).get(timeout=30)
        assert app.send_task("flaky", ("peer",), {"until": 2, "countdown": 0}).get(timeout=30) == 2
        many = [app.send_task("add", (number, 1)) for number in range(50)]
        assert [result.get(timeout=30) for result in many] == list(range(1, 51))
    app.close()
