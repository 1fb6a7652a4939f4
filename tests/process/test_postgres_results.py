"""Waiting for results in PostgreSQL: told, not looked for; over lost connections, restarts and poolers."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from tests.servers import PgBouncer, PostgresServer

from celeriac.backends.base import StoredResult, Watch

pytest.importorskip("psycopg")

from celeriac.backends.postgres import PostgresBackend, ear, hub


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of this test alone: it is killed, frozen and asked what it does."""
    server = PostgresServer({"fsync": "off"})
    yield server
    server.stop()


@pytest.fixture
def connect(server: PostgresServer) -> Iterator[Callable[..., PostgresBackend]]:
    made: list[PostgresBackend] = []

    def connect(url: str = "", **options: Any) -> PostgresBackend:
        made.append(PostgresBackend(url or server.url, options))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def collect(watch: Watch, wanted: int, timeout: float = 20.0) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    deadline = time.monotonic() + timeout
    while len(found) < wanted:
        left = deadline - time.monotonic()
        assert left > 0, f"{len(found)} of {wanted} came"
        found.update(watch.wait(left))
    return found


def results(prefix: str, count: int) -> list[StoredResult]:
    return [StoredResult(f"{prefix}{n}", str(n).encode(), 60) for n in range(count)]


def settle(watch: Watch, backend: PostgresBackend) -> None:
    """Return when the watch listens, and its first quick looks are over."""
    backend.store([StoredResult("settled", b"", 60)])
    watch.add(["settled"])
    collect(watch, 1)
    watch.wait(sum(ear.EARLY) + 0.2)


def test_a_burst_comes_whole_and_without_polling(
    connect: Callable[..., PostgresBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ear, "SLOW_POLL", 3600.0)
    backend, writer = connect(), connect(timeout=9)
    watch = backend.watch()
    settle(watch, writer)
    batch = results("id-", 5000)
    watch.add([each.task_id for each in batch])
    for start in range(0, len(batch), 700):
        writer.store(batch[start : start + 700])
    assert collect(watch, 5000) == {each.task_id: each.document for each in batch}
    watch.close()


def test_all_threads_share_one_connection(
    connect: Callable[..., PostgresBackend], server: PostgresServer
) -> None:
    backend, writer = connect(), connect(timeout=9)
    watches = [backend.watch([f"t{n}"]) for n in range(20)]
    found: dict[str, bytes] = {}
    threads = [threading.Thread(target=lambda w=watch: found.update(collect(w, 1))) for watch in watches]
    for thread in threads:
        thread.start()
    writer.store(results("t", 20))
    for thread in threads:
        thread.join(20)
    assert len(found) == 20
    listening = server.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%watcher%' OR query LIKE 'LISTEN%'"
    )
    assert int(listening) <= 2
    assert int(server.sql("SELECT count(*) FROM celeriac.watcher")) == 1
    for watch in watches:
        watch.close()


def test_nobody_is_told_when_nobody_waits(
    connect: Callable[..., PostgresBackend], server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "IDLE", 0.2)
    monkeypatch.setattr(ear, "REST", 0.1)
    backend = connect()
    watch = backend.watch(["a"])
    backend.store([StoredResult("a", b"1", 60)])
    assert collect(watch, 1) == {"a": b"1"}
    watch.close()
    deadline = time.monotonic() + 30
    while server.sql("SELECT count(*) FROM celeriac.watcher") != "0":
        assert time.monotonic() < deadline, "the listener has not left"
        time.sleep(0.02)
    again = backend.watch(["b"])
    backend.store([StoredResult("b", b"2", 60)])
    assert collect(again, 1) == {"b": b"2"}
    again.close()


@pytest.mark.parametrize("how", ["terminated", "killed", "frozen"])
def test_what_was_stored_while_the_connection_was_lost_is_told(
    how: str, connect: Callable[..., PostgresBackend], server: PostgresServer
) -> None:
    backend, writer = connect(timeout=3), connect(timeout=15)
    watch = backend.watch(["before", "meanwhile"])
    writer.store([StoredResult("before", b"1", 60)])
    assert collect(watch, 1) == {"before": b"1"}
    found: list[Mapping[str, bytes]] = []
    thread = threading.Thread(target=lambda: found.append(collect(watch, 1, 40)))
    thread.start()
    if how == "terminated":
        server.close_all_connections()
    elif how == "killed":
        server.kill()
        server.start()
    else:
        server.freeze()
        watch.wake()
        time.sleep(4)  # longer than one trip may take
        server.thaw()
    writer.store([StoredResult("meanwhile", b"2", 60)])
    thread.join(40)
    assert found == [{"meanwhile": b"2"}]
    watch.close()


def test_behind_a_pooler_that_hears_nothing_results_still_come(
    connect: Callable[..., PostgresBackend], server: PostgresServer
) -> None:
    bouncer = PgBouncer(server)
    try:
        backend, writer = connect(bouncer.url), connect()
        watch = backend.watch(["a"])
        assert watch.wait(1.5) == {}  # the quick looks of the beginning are over
        begun = time.monotonic()
        writer.store([StoredResult("a", b"1", 60)])
        assert collect(watch, 1) == {"a": b"1"}
        assert time.monotonic() - begun < 10
        watch.add(["b"])
        backend.store([StoredResult("b", b"2", 60)])
        assert collect(watch, 1) == {"b": b"2"}
        watch.close()
        backend.close()
    finally:
        bouncer.stop()


def test_dropped_tables_are_made_anew(
    connect: Callable[..., PostgresBackend], server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ear, "SLOW_POLL", 1.0)  # our row is gone as well, so nobody tells us
    backend = connect()
    watch = backend.watch(["a", "b"])
    backend.store([StoredResult("a", b"1", 60)])
    assert collect(watch, 1) == {"a": b"1"}
    server.sql("DROP SCHEMA celeriac CASCADE")
    backend.store([StoredResult("b", b"2", 60)])
    assert backend.load(["a", "b"]) == {"b": b"2"}
    assert collect(watch, 1) == {"b": b"2"}
    watch.close()


def test_a_forked_child_listens_for_itself(connect: Callable[..., PostgresBackend]) -> None:
    backend = connect()
    watch = backend.watch(["a", "parent"])
    backend.store([StoredResult("a", b"1", 60)])
    assert collect(watch, 1) == {"a": b"1"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            own = backend.watch(["child"])
            backend.store([StoredResult("child", b"2", 60)])
            status = 0 if collect(own, 1) == {"child": b"2"} else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    backend.store([StoredResult("parent", b"3", 60)])
    assert collect(watch, 1) == {"parent": b"3"}
    watch.close()
