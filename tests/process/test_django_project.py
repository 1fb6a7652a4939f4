"""A Django project as Celery's guide lays it out, with real workers and a real scheduler.

Everything runs in processes of its own: a web process (Django's test client), `celeriac -A proj worker`,
`celeriac -A proj beat`. Database and messages are SQLite files in the project's folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from celeriac.beat.store import Ran, ScheduleFile

CELERIAC = [sys.executable, "-m", "celeriac", "-A", "proj"]


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(Path(__file__).parent / "djangoproj", folder)
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CELER")}
        self.env = {**kept, "DJANGO_SETTINGS_MODULE": "proj.settings"}
        self.manage("migrate", "--run-syncdb", "--verbosity", "0")
        self.forget_connections()

    def manage(self, *words: str) -> str:
        return self._run([sys.executable, "manage.py", *words])

    def web(self, code: str) -> Any:
        """Run `code` in a web process; return the JSON that it prints last."""
        setting_up = "import django, json; django.setup(); from django.test import Client\n"
        return json.loads(self._run([sys.executable, "-c", setting_up + code]).splitlines()[-1])

    def call(self, task: str, times: int) -> list[Any]:
        """Send a task of `shop.tasks` many times; return the results."""
        found: list[Any] = self.web(f"""
from shop import tasks
sent = [tasks.{task} for _ in range({times})]
print(json.dumps([result.get(timeout=30) for result in sent]))
""")
        return found

    def _run(self, words: list[str]) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def running(self, *words: str, env: Mapping[str, str] | None = None) -> Iterator[Callable[[], str]]:
        """Run `celeriac -A proj …`; gives a function that reads its log. SIGTERM must end it well."""
        log = self.folder / f"{words[0]}-{time.monotonic_ns()}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*CELERIAC, *words],
                cwd=self.folder,
                env={**self.env, **(env or {})},
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        try:
            yield log.read_text
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert "Traceback" not in log.read_text(), log.read_text()

    def forget_connections(self) -> None:
        (self.folder / "connections.log").write_text("")

    def connections(self) -> Counter[int]:
        """How many database connections each process opened."""
        return Counter(map(int, (self.folder / "connections.log").read_text().split()))

    def ticks(self) -> Counter[str]:
        with sqlite3.connect(self.folder / "db.sqlite3") as db:
            found = Counter(dict(db.execute("SELECT entry, count(*) FROM shop_tick GROUP BY entry")))
        db.close()
        return found


def eventually(condition: Callable[[], Any], what: Callable[[], str], within: float = 30.0) -> None:
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until, what()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("django") / "site")


def test_views_workers_and_connections(project: Project) -> None:
    with project.running("worker", "-l", "info", "--concurrency", "2") as log:
        # A view calls delay; the worker writes to the database; the caller gets the result.
        placed = project.web("""
answer = Client().get("/orders/", {"name": "first"}).json()
from celeriac.result import AsyncResult
from shop.models import Order
pk = AsyncResult(answer["task"]).get(timeout=30)
print(json.dumps({"pk": pk, "name": Order.objects.get(pk=pk).name}))
""")
        assert placed["name"] == "first"

        # delay_on_commit: the task sees the row; its id is known before; a rollback sends nothing.
        committed = project.web("""
from celeriac import current_app
from celeriac.result import AsyncResult
good = Client().get("/orders/committed/", {"name": "committed"}).json()
value = AsyncResult(good["task"]).get(timeout=30)
bad = Client().get("/orders/committed/", {"name": "rolled back", "fail": "1"}).json()
zone = str(current_app.timezone)
from shop.tasks import count
assert count.delay("rolled back").get(timeout=30) == 0
state = AsyncResult(bad["task"]).state
print(json.dumps({"early": good["early"], "value": value, "rolled back": state, "zone": zone}))
""")
        assert committed == {
            "early": "PENDING",
            "value": 1,
            "rolled back": "PENDING",
            "zone": "Europe/Vienna",
        }

        # CONN_MAX_AGE=600: children keep their connections, have them to themselves, and open one each.
        project.forget_connections()
        seen = project.call("about_the_connection.delay()", 200)
        assert all(answer["made_here"] for answer in seen)
        children = {answer["pid"] for answer in seen}
        assert len(children) <= 2
        assert all(project.connections()[child] <= 1 for child in children), project.connections()

        # A task that ends inside a transaction leaves nothing behind, for itself or for others.
        project.call("leave_a_transaction_open.delay('left open')", 8)
        assert project.call("count.delay('left open')", 8) == [0] * 8
        assert "it is rolled back" in log()
        assert "was open when this process was forked" not in log()

        # Coroutine tasks use the database as well.
        assert project.call("acount.delay('first')", 5) == [1] * 5


def test_connections_are_closed_after_each_task_without_conn_max_age(project: Project) -> None:
    project.forget_connections()
    env = {"SHOP_CONN_MAX_AGE": "0"}
    with project.running("worker", "-l", "info", "--concurrency", "1", env=env):
        seen = project.call("about_the_connection.delay()", 10)
    (child,) = {answer["pid"] for answer in seen}
    assert not any(answer["was_open"] for answer in seen)
    assert project.connections()[child] == 10


def test_threads_have_connections_of_their_own(project: Project) -> None:
    with project.running("worker", "-l", "info", "--pool", "threads", "--concurrency", "4"):
        project.forget_connections()
        seen = project.call("about_the_connection.delay()", 200)
    (child,) = {answer["pid"] for answer in seen}
    assert 1 <= project.connections()[child] <= 4


@pytest.mark.parametrize("max_age", ["600", "0"])
def test_coroutines_share_the_connection_of_djangos_thread(project: Project, max_age: str) -> None:
    words = ("worker", "-l", "info", "--pool", "asyncio", "--concurrency", "50")
    with project.running(*words, env={"SHOP_CONN_MAX_AGE": max_age}):
        project.forget_connections()
        assert project.call("acount.delay('nobody')", 100) == [0] * 100
        if max_age == "600":
            assert set(project.connections().values()) == {1}


def test_a_connection_that_died_while_idle_is_opened_anew(project: Project) -> None:
    assert project.web("""
from django.db import connection
from celeriac.contrib.django import connections
connection.ensure_connection()
made = connection.connection
connections.after_task("1")
connections.before_task("2")
kept = connection.connection is made
connection.is_usable = lambda: False
connections.before_task("3")
trusted = connection.connection is made
connections._lane.rested_since -= 10
connections.before_task("4")
print(json.dumps([kept, trusted, connection.connection is None]))
""") == [True, True, True]


@pytest.fixture
def a_past(project: Project) -> None:
    """The schedule file of a scheduler that stopped two minutes ago."""
    path = project.folder / "celerybeat-schedule"
    path.unlink(missing_ok=True)
    file = ScheduleFile(path)
    file.open()
    file.save({"crontab": Ran(datetime.now(UTC) - timedelta(minutes=2), 41)})
    file.close()


@pytest.mark.usefixtures("a_past")
@pytest.mark.parametrize("embedded", [False, True], ids=["beat", "worker -B"])
def test_the_schedule_is_sent_and_run(project: Project, embedded: bool) -> None:
    before = project.ticks()

    def ticked() -> Counter[str]:
        return project.ticks() - before

    def enough() -> bool:
        return ticked()["seconds"] >= 4 and ticked()["timedelta"] >= 2 and ticked()["crontab"] >= 1

    worker = ("worker", "-l", "info", "--concurrency", "1")
    if embedded:
        with project.running(*worker, "-B") as log:
            eventually(enough, lambda: f"{ticked()}\n{log()}")
    else:
        with project.running(*worker) as log, project.running("beat", "-l", "info") as beat_log:
            eventually(enough, lambda: f"{ticked()}\n{log()}\n{beat_log()}")
        assert "celeriac beat v" in beat_log()
        assert "Sending due task seconds (shop.tasks.tick)" in beat_log()
    assert not ticked()["nightly"]
    assert ticked()["crontab"] <= 2  # one for what was missed; a minute may have begun since

    file = ScheduleFile(project.folder / "celerybeat-schedule")
    file.open()
    known = file.load()
    file.close()
    assert known.keys() == {"seconds", "timedelta", "crontab", "nightly"}
    assert known["crontab"].total_run_count in (42, 43)
    assert datetime.now(UTC) - known["seconds"].last_run_at < timedelta(seconds=20)
