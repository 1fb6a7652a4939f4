"""Tables and durations."""

from __future__ import annotations

import pytest

from celeriac.bin.tables import age, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (-1, "0.0 s"), (9.94, "9.9 s"), (60, "60 s"), (150, "2 min"), (7200, "120 min"),
     (40_000, "11 h"), (400_000, "5 d")],
)  # fmt: skip
def test_ages(seconds: float | None, text: str) -> None:
    assert age(seconds) == text


def test_columns_are_aligned() -> None:
    text = table(["queue", "depth"], [["a", "7"], ["a.long.name", "12345"]], right=[1])
    assert text.splitlines() == ["queue        depth", "a                7", "a.long.name  12345"]


def test_only_the_headings_are_styled() -> None:
    assert table(["a"], [["b"]], style=str.upper).splitlines() == ["A", "b"]
