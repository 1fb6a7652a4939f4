"""The scheduler under kill -9: nothing is lost, and what is sent again is recognisable."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from celeriac import Celeriac
from celeriac.beat.store import ScheduleFile

KILLS = 8

APP = """
from celeriac import Celeriac

app = Celeriac("clockwork")
app.conf.beat_schedule = {"often": {"task": "clockwork.tick", "schedule": 0.02}}
"""


class Clockwork:
    """A project with one entry that is due fifty times a second, and no worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "clockwork.py").write_text(APP)
        url = f"sqlite:///{folder / 'messages.db'}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CELER")}
        self.env = {**kept, "CELERIAC_BROKER_URL": url}
        self.app = Celeriac("onlooker", broker=url, set_as_current=False)

    def sent(self) -> Counter[str]:
        """How often each task id was sent."""
        messages = self.app.broker.browse("celery", 1_000_000)
        return Counter(message.headers["id"] for message in messages)  # type: ignore[union-attr]

    def runs_written_down(self) -> int:
        file = ScheduleFile(self.folder / "celerybeat-schedule")
        file.open()
        try:
            return file.load()["often"].total_run_count
        finally:
            file.close()

    @contextmanager
    def beat(self) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / "log").open("ab") as log:
            words = [sys.executable, "-m", "celeriac", "-A", "clockwork", "beat", "-l", "info"]
            process = subprocess.Popen(words, cwd=self.folder, env=self.env, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def await_more(self, count: int) -> None:
        goal, until = sum(self.sent().values()) + count, time.monotonic() + 60
        while sum(self.sent().values()) < goal:
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.01)


@pytest.fixture
def clockwork(tmp_path: Path) -> Iterator[Clockwork]:
    made = Clockwork(tmp_path)
    yield made
    made.app.close()


def test_what_a_kill_repeats_has_the_same_id(clockwork: Clockwork) -> None:
    chance = random.Random(7)
    for _ in range(KILLS):
        with clockwork.beat() as process:
            clockwork.await_more(5)
            time.sleep(chance.uniform(0, 0.04))
            process.kill()
    with clockwork.beat() as process:
        clockwork.await_more(5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    sent = clockwork.sent()
    assert clockwork.runs_written_down() == len(sent)
    assert sum(sent.values()) - len(sent) <= KILLS


def test_a_signal_ends_it_at_once_and_well(clockwork: Clockwork) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with clockwork.beat() as process:
            clockwork.await_more(1)
            asked = time.monotonic()
            process.send_signal(number)
            assert process.wait(30) == 0
            assert time.monotonic() - asked < 6
    assert clockwork.runs_written_down() == len(clockwork.sent())
