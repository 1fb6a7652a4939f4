"""The broker dies under load, or its answers get lost on the way to the worker."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.conftest import Store
from tests.faults.harness import PATIENCE, Journal, Node, check, environment, publish_many, until
from tests.faults.residue import residue
from tests.proxy import Proxy
from tests.servers import RedisServer

from celeriac import Celeriac
from celeriac.exceptions import OperationalError

Start = Callable[..., Node]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of its own (append-only file) that may be killed."""
    server = RedisServer()
    yield server
    server.stop()


class Stream(threading.Thread):
    """Publishes without pause until stopped; `returned` and `raised` are the keys."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.app = Celeriac("stream", broker=url, set_as_current=False)
        self.app.conf.update(task_default_queue="faults")
        self.returned: list[str] = []
        self.raised: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        for i in itertools.count():
            if self.ended.wait(0.002):
                break
            key = f"k{i}"
            try:
                self.app.send_task("record", (key, 0.001), ignore_result=True)
            except OperationalError:
                self.raised.append(key)
            else:
                self.returned.append(key)
        self.app.close()

    def stop(self) -> None:
        self.ended.set()
        self.join(30)


def test_redis_is_killed_under_load(server: RedisServer, journal: Journal, tmp_path: Path) -> None:
    """F12: SIGKILL and restart four times. Nothing that was acknowledged is lost, the worker never exits, and
    it works again within five seconds."""
    stream = Stream(server.url)
    with Node(environment(server.url, None, journal.path), "-c", "2", log=tmp_path / "n1.log") as worker:
        pid = worker.pid
        stream.start()
        until(lambda: journal.ended() > 50, 20)
        pauses = []
        for outage in (0.1, 0.5, 1.0, 2.0):
            server.kill()
            time.sleep(outage)
            server.start()
            up = time.monotonic()
            count = journal.ended()
            until(lambda: journal.ended() > count + 20, 5, "it works again")  # noqa: B023
            pauses.append(time.monotonic() - up)
        stream.stop()
        until(lambda: not check(stream.returned, journal).lost, 20, "all have run")
        assert max(pauses) < 5 * PATIENCE
        assert worker.pid == pid
        assert worker.process is not None
        assert worker.process.poll() is None
        store = Store("redis", server.url, server.url)
        report = check([*stream.returned, *stream.raised], journal)
        assert not report.unexpected
        assert worker.stop() == 0
        assert residue(store) == []
        # Nobody died but the server: a task runs twice only where the server forgot that it was settled.
        assert not report.duplicated


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_answers_to_the_worker_are_lost(
    store: Store, redis_server: RedisServer, client: Celeriac, journal: Journal, tmp_path: Path
) -> None:
    """The answers to exchanges are lost: what they settled is settled, what they took is there."""
    with (
        Proxy(redis_server.port) as proxy,
        Node(environment(proxy.url, proxy.url, journal.path), "-c", "2", log=tmp_path / "n1.log") as worker,
    ):
        pid = worker.pid
        keys = [f"k{i}" for i in range(2500)]
        asked = [client.send_task("flaky", (f"f{i}", 1), task_id=f"f{i}") for i in range(20)]
        publish_many(client, "record", [(key, 0.002) for key in keys])
        dropped = 0
        deadline = time.monotonic() + 80
        while not (journal.ended() == len(keys) + len(asked) and all(each.ready() for each in asked)):
            assert time.monotonic() < deadline, f"{journal.ended()} have run, {dropped} answers were lost"
            proxy.drop_reply(b"EVALSHA")
            dropped += proxy.dropped.wait(0.05)
            time.sleep(0.04)  # several exchanges pass
        until(lambda: client.broker.stats(["faults"])[0].in_flight == 0, 5)
        assert worker.pid == pid
        assert worker.stop() == 0
    assert dropped >= 15
    assert all(each.get(timeout=30) == 1 for each in asked)
    assert residue(store) == []
    starts = journal.count("start")
    assert {key for key in keys if starts[key] != 1} == set()
    assert {f"f{i}" for i in range(20) if starts[f"f{i}"] != 2} == set()
