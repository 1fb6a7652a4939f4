"""The embedded store: transactions, the write lock, and everything that can be wrong with a file."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

import pytest

from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.transport.sqlite import Database, database


def open_store(path: Path, **options: object) -> Database:
    return database(f"sqlite:///{path}", options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


def names(store: Database) -> list[str]:
    with store.read() as connection:
        return [name for (name,) in connection.execute("SELECT name FROM queue ORDER BY name")]


def add(store: Database, name: str, timeout: float | None = None) -> None:
    with store.write(timeout) as connection:
        connection.execute("INSERT INTO queue (name) VALUES (?)", (name,))


# -- transactions ----------------------------------------------------------------------------------------


def test_one_database_per_file_and_process(path: Path) -> None:
    store = open_store(path)
    assert open_store(path) is store
    assert open_store(path, timeout=3) is not store


def test_nothing_is_created_before_the_first_use(path: Path) -> None:
    open_store(path)
    assert not path.exists()


def test_a_transaction_commits_at_its_end(path: Path) -> None:
    add(open_store(path), "a")
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM queue").fetchall() == [("a",)]
    other.close()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, sqlite3.IntegrityError])
def test_a_transaction_that_fails_has_stored_nothing(path: Path, error: type[BaseException]) -> None:
    store = open_store(path)
    expected = OperationalError if issubclass(error, sqlite3.Error) else error

    def fail() -> None:
        with store.write() as connection:
            connection.execute("INSERT INTO queue (name) VALUES ('a')")
            raise error

    with pytest.raises(expected):
        fail()
    assert names(store) == []
    add(store, "b")
    assert names(store) == ["b"]


def test_errors_of_the_library_are_translated(path: Path) -> None:
    store = open_store(path)
    with pytest.raises(OperationalError, match="no such table") as caught, store.read() as connection:
        connection.execute("SELECT * FROM absent")
    assert isinstance(caught.value.__cause__, sqlite3.Error)


def test_readers_do_not_wait_for_writers(path: Path) -> None:
    store = open_store(path)
    add(store, "a")
    with store.write() as connection:
        connection.execute("INSERT INTO queue (name) VALUES ('b')")
        assert names(open_store(path, timeout=5)) == ["a"]
    assert names(store) == ["a", "b"]


def test_threads_wait_for_each_other_until_their_deadline(path: Path) -> None:
    store = open_store(path)
    add(store, "a")
    with store.write():
        failed = threading.Event()

        def refused() -> None:
            with pytest.raises(OperationalError, match="stayed locked"):
                add(store, "b", timeout=0.05)
            failed.set()

        thread = threading.Thread(target=refused)
        thread.start()
        assert failed.wait(10)
        thread.join()
    add(store, "c", timeout=0.05)
    assert names(store) == ["a", "c"]


def test_processes_wait_for_each_other_until_their_deadline(path: Path) -> None:
    store, other = open_store(path), open_store(path, timeout=7)  # two sets of connections, as two processes
    add(store, "a")
    with store.write():
        begun = time.monotonic()
        with pytest.raises(OperationalError, match=r"fuser .*tasks\.db"):
            add(other, "b", timeout=0.1)
        assert 0.09 < time.monotonic() - begun < 5
    add(other, "c", timeout=0.1)


def test_the_switch_interval_is_as_it_was(path: Path) -> None:
    before = sys.getswitchinterval()
    store = open_store(path)
    with store.write():
        assert sys.getswitchinterval() < before
    with pytest.raises(ZeroDivisionError), store.write():
        _ = 1 / 0
    assert sys.getswitchinterval() == before


def test_a_forked_child_opens_connections_of_its_own(path: Path) -> None:
    store = open_store(path)
    add(store, "parent")
    if (child := os.fork()) == 0:
        status = 1
        try:
            add(store, "child")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    add(store, "parent again")
    assert names(store) == ["child", "parent", "parent again"]


def test_a_child_that_is_forked_inside_a_transaction_is_not_blocked_by_it(path: Path) -> None:
    store = open_store(path)
    with store.write() as connection:
        connection.execute("INSERT INTO queue (name) VALUES ('a')")
        if (child := os.fork()) == 0:
            status = 1
            try:
                assert names(store) == []
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    assert names(store) == ["a"]


def test_connections_are_closed_with_the_database(path: Path) -> None:
    store = open_store(path)
    add(store, "a")
    assert Path(f"{path}-wal").exists()
    del store
    gc.collect()
    assert not Path(f"{path}-wal").exists()


# -- the file --------------------------------------------------------------------------------------------


def test_a_file_that_was_deleted_is_noticed(path: Path) -> None:
    store = open_store(path)
    add(store, "a")
    for each in path.parent.iterdir():
        each.unlink()
    store._checked = 0.0  # a second has passed
    add(store, "b")
    assert path.exists()
    assert names(open_store(path, timeout=3)) == ["b"]


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE auth_user (id INTEGER)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(ImproperlyConfigured, match="another program"):
        add(open_store(path), "a")
    assert path.read_bytes() == before


def test_a_store_of_a_newer_version_is_left_alone(path: Path) -> None:
    add(open_store(path), "a")
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(ImproperlyConfigured, match=r"newer version.*99"):
        names(open_store(path, timeout=3))


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"just some text, and more than a header's worth of it" * 50)
    with pytest.raises(OperationalError, match="no SQLite database"):
        add(open_store(path), "a")


def test_a_damaged_file(path: Path) -> None:
    store = open_store(path)
    for n in range(2000):
        with store.write() as connection:
            connection.execute("INSERT INTO queue (name) VALUES (?)", (f"{n}" * 20,))
    store.close()
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    path.write_bytes(raw)
    with pytest.raises(OperationalError, match="damaged"):
        names(open_store(path, timeout=3))


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(OperationalError, match=r"cannot be created.*directory"):
        add(open_store(tmp_path / "typo" / "tasks.db"), "a")


def test_a_disk_that_is_full(path: Path) -> None:
    store = open_store(path)
    add(store, "a")
    with store.write() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")  # of this connection: SQLite's own "disk full"
    with pytest.raises(OperationalError, match="disk is full"), store.write() as connection:
        connection.executemany("INSERT INTO queue (name) VALUES (?)", [(f"{n}" * 50,) for n in range(1000)])
    assert names(store) == ["a"]


def test_a_write_that_the_system_refuses(path: Path) -> None:
    """In a child, which may write no file longer than this one is now."""
    store = open_store(path)
    add(store, "a")
    if (child := os.fork()) == 0:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
            with pytest.raises(OperationalError, match="disk"):
                add(store, "x" * 500_000)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert names(store) == ["a"]


def test_a_file_that_may_not_be_written(path: Path) -> None:
    """As SQLite reports it; file modes mean nothing to the superuser, who may be running this."""
    store = open_store(path)
    add(store, "a")
    with store.read() as connection:
        connection.execute("PRAGMA query_only = ON")
    with pytest.raises(OperationalError, match="Check owner and mode"):
        add(store, "b")
