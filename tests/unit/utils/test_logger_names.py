"""A logging configuration written for Celery counts as it stands."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import json, logging, logging.config
import celeriac.utils.log as log

class Seen(logging.Handler):
    def emit(self, record):
        seen.append(record.name)

seen = []
logging.config.dictConfig({
    "version": 1, "disable_existing_loggers": False,
    "handlers": {"seen": {"class": "__main__.Seen"}},
    "loggers": {%r: {"handlers": ["seen"], "level": "INFO"}},
})
for name in ("celeriac.worker", "celeriac.worker.courier", "celeriac.beat"):
    logging.getLogger(name).info("hello")
    logging.getLogger(name).debug("too quiet")
log.get_task_logger("proj.tasks").info("hello")
log.get_logger("proj").info("hello")
print(json.dumps(seen))
"""

WORKER = ["celeriac.worker", "celeriac.worker.courier"]


@pytest.mark.parametrize(
    ("configured", "seen"),
    [
        ("celeriac", [*WORKER, "celeriac.beat", "proj.tasks", "proj"]),
        ("celery", [*WORKER, "celeriac.beat", "proj.tasks"]),
        ("celery.worker", WORKER),
        ("celeriac.worker", WORKER),
        ("celery.beat", ["celeriac.beat"]),
        ("celery.task", ["proj.tasks"]),
        ("celeriac.task", ["proj.tasks"]),
    ],
)
def test_either_name_may_be_configured(configured: str, seen: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE % configured], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == seen
