"""`db+…` under what databases do to their clients: restarts, deadlocks, drops, values they do not take."""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.servers import PostgresServer

from celeriac.backends.base import StoredResult
from celeriac.exceptions import DecodeError, OperationalError
from celeriac.wire.results import ResultMeta, decode_group, decode_result, encode_group, encode_result

pytest.importorskip("sqlalchemy")

import sqlalchemy as sa

from celeriac.backends.database import DatabaseBackend
from celeriac.backends.database.engine import make_engine
from celeriac.backends.database.options import Options

Connect = Callable[..., DatabaseBackend]


@pytest.fixture
def connect() -> Iterator[Connect]:
    made: list[DatabaseBackend] = []

    def connect(url: str, **options: Any) -> DatabaseBackend:
        made.append(DatabaseBackend(url, options))
        return made[-1]

    yield connect
    for each in made:
        each.close()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"db+sqlite:///{tmp_path}/results.db"
    server = request.getfixturevalue({"postgresql": "postgres_server"}.get(request.param, "mariadb_server"))
    return f"db+{server.database()}"


def engine_of(url: str) -> Any:
    return make_engine(Options(url.removeprefix("db+"), short_lived=True))


def result(task_id: str, value: Any = None, state: str = "SUCCESS", **extra: Any) -> StoredResult:
    return StoredResult(task_id, encode_result(task_id, state, value, **extra), 60)


def meta(backend: DatabaseBackend, task_id: str) -> ResultMeta:
    return decode_result(backend.load([task_id])[task_id])


def test_batches_that_meet_do_not_lose_anything(connect: Connect, url: str) -> None:
    backend = connect(url)
    backend.store([result("first")])
    failures: list[Exception] = []

    def write(turn: int) -> None:
        names = [f"id-{n}" for n in range(60)]
        names = names if turn % 2 else names[::-1]
        try:
            for round_ in range(5):
                backend.store([result(name, [turn, round_]) for name in names])
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=write, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    found = backend.load([f"id-{n}" for n in range(60)])
    assert len(found) == 60
    assert {decode_result(document).result[1] for document in found.values()} == {4}


def test_a_forked_child_has_connections_of_its_own(connect: Connect, url: str) -> None:
    backend = connect(url)
    backend.store([result("parent", 1)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            backend.store([result("child", 2)])
            status = 0 if meta(backend, "parent").result == 1 else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert [meta(backend, name).result for name in ("parent", "child")] == [1, 2]


def test_text_that_no_database_takes_is_made_harmless(connect: Connect, url: str) -> None:
    backend = connect(url)
    backend.store(
        [result("a", "ok", traceback="a\0b \ud800 \U0001f600", name="n" * 500, args=["\0"], worker="w\0")]
    )
    found = meta(backend, "a")
    assert (found.result, found.args, found.name) == ("ok", ["\0"], "n" * 155)
    assert found.traceback is not None
    assert found.traceback.startswith("a\ufffdb")


def test_an_id_without_room_harms_nobody(
    connect: Connect, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = connect(url)
    backend.store([result("x" * 200), result("a", 1)])
    assert meta(backend, "a").result == 1
    assert "is not stored" in caplog.text


def test_dropped_tables_are_made_anew(connect: Connect, url: str) -> None:
    backend = connect(url)
    backend.store([result("a", 1)])
    with engine_of(url).begin() as connection:
        connection.execute(sa.text("DROP TABLE celery_taskmeta"))
    backend.store([result("b", 2)])
    assert set(backend.load(["a", "b"])) == {"b"}


def test_expire_deletes_what_is_older(connect: Connect, url: str) -> None:
    backend = connect(url, result_expires=3600)
    now = datetime.now(UTC)
    backend.store(
        [result("old", date_done=now - timedelta(hours=2)), result("new"), result("begun", 1, "STARTED")]
    )
    backend.save_group("group", encode_group([["group", None], []]), None)
    assert backend.expire() == 1
    assert set(backend.load(["old", "new", "begun"])) == {"new", "begun"}
    assert backend.load_group("group") is not None
    assert connect(url, result_expires=None).expire() == 0


def test_dates_are_those_of_the_applications_zone(connect: Connect, url: str) -> None:
    """As Celery writes and reads them."""
    done = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
    connect(url, timezone="Asia/Tokyo").store([result("a", date_done=done)])
    with engine_of(url).connect() as connection:
        (written,) = connection.execute(sa.text("SELECT date_done FROM celery_taskmeta")).one()
    assert str(written).startswith("2030-01-02 21:00:00")
    found = meta(connect(url, timezone="Asia/Tokyo"), "a").date_done
    assert found is not None
    assert datetime.fromisoformat(found) == done


def test_names_of_tables(connect: Connect, url: str) -> None:
    names = {"task": "my_tasks", "group": "my_groups"}
    backend = connect(url, database_table_names=names, database_short_lived_sessions=True)
    backend.store([result("a", 1)])
    backend.save_group("g", encode_group([1]), None)
    assert meta(backend, "a").result == 1
    document = backend.load_group("g")
    assert document is not None
    assert decode_group(document) == [1]
    tables = set(sa.inspect(engine_of(url)).get_table_names())
    assert tables - {"sqlite_sequence"} == {"my_tasks", "my_groups"}


def test_schemas_of_tables(connect: Connect, postgres_server: Any) -> None:
    url = f"db+{postgres_server.database()}"
    with engine_of(url).begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA one"))
        connection.execute(sa.text("CREATE SCHEMA two"))
    backend = connect(url, database_table_schemas={"task": "one", "group": "two"})
    backend.store([result("a", 1)])
    backend.save_group("g", encode_group([1]), None)
    assert meta(backend, "a").result == 1
    inspector = sa.inspect(engine_of(url))
    assert inspector.has_table("celery_taskmeta", schema="one")
    assert inspector.has_table("celery_tasksetmeta", schema="two")


def test_short_lived_sessions_leave_no_connection(connect: Connect, postgres_server: Any) -> None:
    url = postgres_server.database()
    backend = connect(
        f"db+{url}", database_short_lived_sessions=True, database_engine_options={"pool_size": 3}
    )
    backend.store([result("a", 1)])
    assert meta(backend, "a").result == 1
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{url.rpartition('/')[2]}'"
    deadline = time.monotonic() + 5
    while postgres_server.sql(count) != "0":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_callback_gets_the_engine(connect: Connect, tmp_path: Path) -> None:
    seen: list[Any] = []
    backend = connect(f"db+sqlite:///{tmp_path}/r.db", database_engine_callback=seen.append)
    backend.store([result("a")])
    assert [type(engine).__name__ for engine in seen] == ["Engine"]


def test_tables_that_celery_made_in_mariadb(connect: Connect, mariadb_server: Any, caplog: Any) -> None:
    """Columns of 64 KB, no Unicode, ids from a sequence."""
    url = f"db+{mariadb_server.database()}"
    with engine_of(url).begin() as connection:
        for statement in (
            "CREATE SEQUENCE task_id_sequence",
            "CREATE TABLE celery_taskmeta (id INTEGER PRIMARY KEY, task_id VARCHAR(155) UNIQUE, status "
            "VARCHAR(50), result BLOB, date_done DATETIME, traceback TEXT, children BLOB, name VARCHAR(155), "
            "args BLOB, kwargs BLOB, worker VARCHAR(155), retries INTEGER, queue VARCHAR(155), stamps BLOB) "
            "CHARSET latin1",
        ):
            connection.execute(sa.text(statement))
    backend = connect(url)
    batch = [result(f"id-{n}", n) for n in range(9)]
    backend.store(
        [*batch, result("large", "x" * 100_000), result("text", 1, "FAILURE", traceback="日本 \U0001f600")]
    )
    assert [meta(backend, f"id-{n}").result for n in range(9)] == list(range(9))
    large = meta(backend, "large")
    assert large.status == "FAILURE"
    assert large.result["exc_type"] == "EncodeError"
    assert "large was refused" in caplog.text
    assert meta(backend, "text").traceback == "\\u65e5\\u672c \\U0001f600"


def test_tables_that_number_their_rows(connect: Connect, mariadb_server: Any) -> None:
    """As an older SQLAlchemy made them there: no sequence is used, even where there is one."""
    url = f"db+{mariadb_server.database()}"
    with engine_of(url).begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE celery_taskmeta (id INTEGER PRIMARY KEY AUTO_INCREMENT, task_id VARCHAR(155) "
                "UNIQUE, status VARCHAR(50), result BLOB, date_done DATETIME, traceback TEXT)"
            )
        )
        connection.execute(sa.text("INSERT INTO celery_taskmeta (task_id) VALUES ('there')"))
    backend = connect(url)
    backend.store([result("a", {"when": datetime(2030, 1, 2)}), result("b", 2)])
    assert meta(backend, "a").result == {"when": datetime(2030, 1, 2)}
    assert meta(backend, "b").result == 2


def test_what_is_no_result_says_so_for_itself_alone(connect: Connect, url: str) -> None:
    backend = connect(url)
    backend.store([result("a", 1), result("b", 2)])
    with engine_of(url).begin() as connection:
        connection.execute(
            sa.text("UPDATE celery_taskmeta SET result = :r WHERE task_id = 'a'"), {"r": b"\xff\xfe"}
        )
    found = backend.load(["a", "b"])
    assert decode_result(found["b"]).result == 2
    with pytest.raises(DecodeError, match="task a"):
        decode_result(found["a"])


def test_pickled_results_on_request(connect: Connect, tmp_path: Path) -> None:
    url = f"db+sqlite:///{tmp_path}/r.db"
    connect(url, pickled_results=True).store([result("a", {"when": datetime(2030, 1, 2)})])
    with engine_of(url).connect() as connection:
        (column,) = connection.execute(sa.text("SELECT result FROM celery_taskmeta")).one()
    assert column.startswith(b"\x80\x04")
    assert meta(connect(url), "a").result == {"when": datetime(2030, 1, 2)}


def test_other_serializers(connect: Connect, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    for name in ("yaml", "pickle"):
        backend = connect(f"db+sqlite:///{tmp_path}/{name}.db", result_serializer=name)
        backend.store([StoredResult("a", encode_result("a", "SUCCESS", {"x": [1]}, serializer=name), 60)])
        assert decode_result(backend.load(["a"])["a"], name).result == {"x": [1]}
        backend.save_group("g", encode_group([1], name), None)
        document = backend.load_group("g")
        assert document is not None
        assert decode_group(document, name) == [1]


def test_a_restart_is_survived_and_an_outage_told(connect: Connect) -> None:
    server = PostgresServer({"fsync": "off"})
    try:
        backend = connect(f"db+{server.url}")
        backend.store([result("a", 1)])
        server.kill()
        begun = time.monotonic()
        with pytest.raises(OperationalError, match="does not do its work") as caught:
            backend.store([result("b", 2)])
        assert time.monotonic() - begun < 30
        assert "[SQL" not in str(caught.value)
        server.start()
        backend.store([result("b", 2)])
        server.close_all_connections()
        assert json.loads(backend.load(["b"])["b"])["result"] == 2
    finally:
        server.stop()
