"""The private servers of the tests: they start again after SIGKILL, and end with a run that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.conftest import provided
from tests.servers import MariaServer, PgBouncer, PostgresServer, RabbitServer, RedisServer, ValkeyServer

SERVERS = [RedisServer, ValkeyServer, RabbitServer, PostgresServer, MariaServer]

#: Starts a server, tells of it, and waits for its death.
CODE = """
import time
from tests.servers import {kind}
try:
    server = {kind}()
except RuntimeError:
    print("none")
else:
    print(*server.pids(), server.folder, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.__name__)
def test_a_server_starts_again_after_sigkill_on_the_same_port(kind: type[RedisServer]) -> None:
    with provided(kind) as server:
        first = server.pids()
        server.kill()
        assert not any(os.path.exists(f"/proc/{pid}/exe") for pid in first)
        server.start()
        assert server.answers()
    assert not server.folder.exists()


def test_a_pool_before_postgres_answers_and_leads_to_the_same_database() -> None:
    with provided(PostgresServer) as server, provided(lambda: PgBouncer(server)) as pool:
        assert pool.answers()
        assert pool.to(server.database("mine")).endswith(f":{pool.port}/mine")


@pytest.mark.parametrize("kind", ["RedisServer", "RabbitServer", "PostgresServer"])
def test_nothing_outlives_a_run_that_is_killed(kind: str) -> None:
    code = CODE.format(kind=kind)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        *pids, folder = run.stdout.readline().split()
        if folder == "none":
            pytest.skip(f"no {kind} here")
        run.send_signal(signal.SIGKILL)
        run.wait()
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}/exe") for pid in pids) or os.path.exists(folder):
        assert time.monotonic() < deadline, f"{pids} {folder}"
        time.sleep(0.02)
