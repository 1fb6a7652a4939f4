"""How far a task is, as a value."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from celeriac.execution.progress import LONGEST, Progress
from celeriac.wire.results import ResultMeta


@pytest.mark.parametrize(
    ("progress", "fraction"),
    [
        (Progress(1, 4), 0.25),
        (Progress(5, 4), 1.0),
        (Progress(-1, 4), 0.0),
        (Progress(3), None),
        (Progress(0, 0), None),
    ],
)
def test_fraction(progress: Progress, fraction: float | None) -> None:
    assert progress.fraction == fraction


@pytest.mark.parametrize(
    ("state", "info", "progress"),
    [
        ("PROGRESS", {"current": 1, "total": 2, "message": "x"}, Progress(1, 2, "x")),
        ("PROGRESS", {"current": 1.5}, Progress(1.5)),
        ("UPLOADING", {"current": 1, "total": 2, "percent": 50}, Progress(1, 2)),
        ("PROGRESS", {"current": 1, "total": "many", "message": 7}, Progress(1, None, "7")),
        ("PROGRESS", {"done": 1}, None),
        ("PROGRESS", {"current": "1"}, None),
        ("PROGRESS", {"current": True}, None),
        ("PROGRESS", [1, 2], None),
        ("PROGRESS", None, None),
        ("SUCCESS", {"current": 1, "total": 2}, None),
        ("FAILURE", ValueError("x"), None),
    ],
)
def test_progress_is_read_from_what_celery_users_write(
    state: str, info: Any, progress: Progress | None
) -> None:
    assert Progress.of(ResultMeta(state, info)) == progress


def test_what_is_written_is_read() -> None:
    progress = Progress(3, 10, "reading")
    assert Progress.of(ResultMeta("PROGRESS", progress.meta())) == progress


class NumpyLike:
    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize(
    ("given", "kept"), [(NumpyLike(), 7), (True, 1), (Decimal("2.5"), 2.5), (Fraction(1, 4), 0.25), (3, 3)]
)
def test_numbers_become_plain_ones(given: Any, kept: float) -> None:
    current = Progress.checked(given, None, None).current
    assert (current, type(current)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("current", "total", "message"),
    [
        ("3", None, None),
        (None, None, None),
        (float("nan"), None, None),
        (float("inf"), None, None),
        (1, "4", None),
        (1 << 70, None, None),
        (10.0**308 * 10, None, None),
        (1, None, b"bytes"),
    ],
)
def test_what_no_store_takes_is_refused_at_once(current: Any, total: Any, message: Any) -> None:
    with pytest.raises(TypeError):
        Progress.checked(current, total, message)


def test_messages_are_cut() -> None:
    assert len(Progress.checked(1, None, "x" * 5000).message or "") == LONGEST
