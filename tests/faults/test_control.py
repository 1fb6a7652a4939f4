"""The harness finds what Celery loses; one that finds nothing there would prove nothing about us."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.control import celery_storm
from tests.servers import RedisServer


@pytest.mark.timeout(180)  # the first run makes Celery's virtual environment
def test_the_harness_reports_what_celery_strands(redis_server: RedisServer, tmp_path: Path) -> None:
    redis_server.flush()
    findings = celery_storm(redis_server, tmp_path, kills=3, every=0.5, seed=1, slots=2)
    print(findings.text())
    assert findings.kills == 3
    assert findings.stranded > 0
    assert findings.lost > 0
