"""Rows about the store itself: it dies, it is full, it forgets.

F12-F14 killed and restarted · F14 all sessions ended by the server · F15 the embedded store · F22 a full
disk · F23 no memory, no connections, no descriptors · F24 emptied while in use.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.faults.ground import Ground
from tests.faults.harness import PATIENCE, Node, until
from tests.faults.stream import Stream
from tests.servers import RedisServer

from celeriac.exceptions import OperationalError

__all__ = [
    "descriptors",
    "embedded",
    "emptied",
    "full_disk",
    "killed",
    "may_mount",
    "no_connections",
    "no_memory",
    "sessions_ended",
]


def work(ground: Ground, *arguments: str, **options: object) -> tuple[Node, Stream]:
    """A worker and a producer, both at work."""
    worker = ground.node("-c", "2", *arguments, **options)  # type: ignore[arg-type]
    stream = ground.stream()
    stream.start()
    ground.progress(50, 30)
    return worker, stream


def finish(ground: Ground, stream: Stream, worker: Node, pid: int, duplicated: int | None = 0) -> str:
    stream.stop()
    assert worker.process is not None
    assert worker.process.poll() is None, "the worker has exited"
    assert worker.pid == pid
    return ground.verdict(stream.returned, stream.unknown).demand(duplicated=duplicated)


def killed(ground: Ground, times: int, down: float = 1.0) -> str:
    """SIGKILL of the server under load, and its restart: nothing acknowledged is lost, work goes on."""
    worker, stream = work(ground)
    pid = worker.pid
    back = []
    for _ in range(times):
        ground.server.kill()
        time.sleep(ground.chance.uniform(0.1, down))
        ground.server.start()
        back.append(ground.progress(20, 10))
        time.sleep(0.5)  # the fault's rhythm
    bound = 10.0 if ground.kind == "rabbitmq" else 5.0
    assert max(back) < bound, f"back after {max(back):.1f} s"
    # A server that loses its last moment may forget that something was settled.
    text = finish(ground, stream, worker, pid, duplicated=None)
    return f"{times} kills, back in {max(back):.1f} s at most; {text}"


def sessions_ended(ground: Ground, rounds: int) -> str:
    """The server ends every session, many times in a second; nobody died, so nothing runs twice."""
    worker, stream = work(ground)
    pid = worker.pid
    ends = 0
    for _ in range(rounds):
        until_ = time.monotonic() + 1.0
        while time.monotonic() < until_:
            with contextlib.suppress(RuntimeError):  # it may end the session that asks for it
                ground.server.close_all_connections()
                ends += 1
        ground.progress(10, 5)
    return f"{ends} times all sessions; {finish(ground, stream, worker, pid)}"


def embedded(ground: Ground, kills: int, lock: float) -> str:
    """SQLite: writers are killed; a reader keeps the log from being folded in; somebody holds the lock; the
    file is copied while in use. Nothing is lost, the file is whole, no caller hears of the lock."""
    nodes = [ground.node("-c", "2") for _ in range(2)]
    stream = ground.stream()
    stream.app.conf.update(broker_publish_timeout=30.0)
    stream.start()
    ground.progress(20, 30)
    path = ground.store.path
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM message").fetchone()
        for _ in range(kills):
            node = ground.chance.choice(nodes)
            ground.progress(10, 20)
            node.kill()
            node.start()
            time.sleep(0.2)
        log = Path(f"{path}-wal").stat().st_size
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        time.sleep(lock)  # the fault's length
        holder.execute("ROLLBACK")
    ground.progress(20, 10)
    copy = ground.folder / "copy.db"
    with closing(sqlite3.connect(path, timeout=30)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    whole = [sound(copy)]
    stream.stop()
    assert not stream.unknown, "a publish failed because of a lock"
    text = ground.verdict(stream.returned).demand(duplicated=None)
    whole.append(sound(path))
    assert whole == ["ok", "ok"], whole
    return f"{kills} kills, {lock:g} s of lock, log of {log / 1e6:.1f} MB, both files sound; {text}"


def sound(path: Path) -> str:
    """What SQLite itself says of a file."""
    with closing(sqlite3.connect(path, timeout=30)) as db:
        return str(db.execute("PRAGMA integrity_check").fetchone()[0])


# -- full ---------------------------------------------------------------------------------------------------


def may_mount() -> bool:
    """Whether a small file system can be made here."""
    if shutil.which("mount") is None:
        return False
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of so many megabytes."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(ground: Ground, megabytes: int = 12) -> str:
    """The disk under the store is full: publishes raise in time, none that returned is lost, and when there
    is room again work goes on without a restart."""
    if ground.kind == "sqlite":
        folder = ground.folder / "store"
        shutil.rmtree(folder)
    else:
        folder = ground.folder / "disk"
    disk = ground.stack.enter_context(small_disk(folder, megabytes))
    if ground.kind == "redis":
        server = RedisServer("--dir", str(disk), "--auto-aof-rewrite-percentage", "0")
        ground.stack.callback(server.stop)
        ground.server = server
        ground.store = ground.store._replace(broker=server.url, backend=server.url)
        ground.client = ground.app()
    worker, stream = work(ground)
    pid = worker.pid
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    failures = len(stream.unknown)
    until(lambda: len(stream.unknown) > failures, 30, "a publish fails")
    slow = stream.slowest
    time.sleep(2.0)  # the fault's length
    ballast.unlink()
    back = ground.progress(20, 15)
    text = finish(ground, stream, worker, pid)
    return f"refused in {slow:.1f} s, back {back:.1f} s after there was room; {text}"


def no_memory(ground: Ground) -> str:
    """The server refuses to store more: publishers get an error or wait for as long as they said, workers go
    on settling, and all heals by itself."""
    worker, stream = work(ground)
    pid = worker.pid
    failures = len(stream.unknown)
    with _no_memory(ground):
        until(lambda: len(stream.unknown) > failures, 30, "a publish fails")
    back = ground.progress(20, 15)
    text = finish(ground, stream, worker, pid)
    assert stream.slowest < 5.0 * PATIENCE, f"a publish took {stream.slowest:.1f} s with a limit of 5"
    return f"slowest publish {stream.slowest:.1f} s of 5, back in {back:.1f} s; {text}"


@contextmanager
def _no_memory(ground: Ground) -> Iterator[None]:
    if ground.kind == "rabbitmq":
        with ground.server.memory_alarm():
            yield
        return
    ground.server.send("CONFIG", "SET", "maxmemory", "1mb")
    try:
        yield
    finally:
        ground.server.send("CONFIG", "SET", "maxmemory", "0")


def no_connections(ground: Ground, seconds: float) -> str:
    """Others have taken every connection of the server, and ours are ended: workers wait and come back."""
    import psycopg

    worker, stream = work(ground)
    pid = worker.pid
    taken: list[psycopg.Connection[object]] = []
    try:
        ground.server.close_all_connections()
        until_ = time.monotonic() + seconds
        while time.monotonic() < until_:
            try:
                taken.append(psycopg.connect(ground.store.broker))  # type: ignore[arg-type]
            except psycopg.OperationalError:
                time.sleep(0.02)
    finally:
        for connection in taken:
            connection.close()
    back = ground.progress(20, 10)
    text = finish(ground, stream, worker, pid)
    return f"{len(taken)} connections taken for {seconds:g} s, back in {back:.1f} s; {text}"


def descriptors(ground: Ground, limit: int = 64) -> str:
    """A worker with few file descriptors works, and says so when it cannot."""
    import resource

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    worker, stream = work(ground, prepare=few)
    pid = worker.pid
    time.sleep(1.0)
    return f"{limit} descriptors; {finish(ground, stream, worker, pid)}"


# -- emptied ------------------------------------------------------------------------------------------------


def emptied(ground: Ground) -> str:
    """Somebody empties the store while it is in use: what was in it is gone, what comes afterwards runs, the
    worker neither exits nor loops."""
    worker = ground.node("-c", "2")
    ground.send([f"warm{i}" for i in range(20)])
    ground.wait(20)
    pid = worker.pid
    keys: list[str] = []
    for at, empty in enumerate(_ways(ground)):
        ground.client.send_task("record", (f"long{at}", 1.5), ignore_result=True)
        until(lambda: ground.journal.count("start")[f"long{at}"], 10)  # noqa: B023
        empty()
        batch = [f"after{at}-{i}" for i in range(20)]
        for key in batch:
            _send_again(ground, key)
        until(lambda: ground.journal.count("end").keys() >= set(batch), 15, "what came after has run")  # noqa: B023
        keys += batch
    until(lambda: ground.handed_out() == 0, 10)
    assert worker.pid == pid
    assert worker.process is not None
    assert worker.process.poll() is None, "the worker has exited"
    lines = worker.log.count("ERROR") + worker.log.count("CRITICAL")
    assert lines < 60, f"{lines} lines of errors"
    ground.stop()
    return f"{len(_ways(ground))} times emptied, {len(keys)} ran afterwards, {lines} lines of errors"


def _send_again(ground: Ground, key: str) -> None:
    """Publish; the first one may hear that everything is gone."""
    until_ = time.monotonic() + 10
    while True:
        try:
            ground.client.send_task("record", (key,), task_id=key, ignore_result=True)
            return
        except OperationalError:
            if time.monotonic() > until_:
                raise
            time.sleep(0.1)


def _ways(ground: Ground) -> list[Callable[[], object]]:
    server = ground.server
    if ground.kind == "redis":
        return [lambda: server.send("SCRIPT", "FLUSH"), lambda: server.send("FLUSHALL"),
                lambda: server.send("FUNCTION", "FLUSH")]  # fmt: skip
    if ground.kind == "rabbitmq":
        vhost = ground.store.broker.rpartition("/")[2]
        queues = f'rabbit_amqqueue:list(<<"{vhost}">>)'
        delete = f'[rabbit_amqqueue:delete(Q, false, false, <<"test">>) || Q <- {queues}]'
        return [lambda: server.eval(delete)]
    if ground.kind == "sqlite":
        return [lambda: _delete_rows(ground.store.path)]
    database = ground.store.broker.rpartition("/")[2]
    return [lambda: server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public", database)]


def _delete_rows(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=30)) as db, db:
        for table in ("message", "ready", "delayed", "claim"):
            db.execute(f"DELETE FROM {table}")
