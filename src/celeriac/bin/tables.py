"""Tables and durations as people read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["age", "table"]


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    style: Callable[[str], str] = str,
) -> str:
    """`rows` in aligned columns under `headings`.

    Args:
        right: numbers of the columns that are aligned to the right.
        style: applied to the line of headings.

    Example:
        >>> print(table(["queue", "depth"], [["celery", "12"]], right=[1]))
        queue   depth
        celery     12
    """
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        fitted = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(fitted).rstrip()

    return "\n".join([style(line(headings)), *map(line, rows)])


def age(seconds: float | None) -> str:
    """A duration in its largest sensible unit.

    Example:
        >>> age(0.4), age(75), age(7300), age(200000), age(None)
        ('0.4 s', '75 s', '122 min', '56 h', '-')
    """
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    for unit, length, limit in (("s", 1, 120), ("min", 60, 180), ("h", 3600, 72)):
        if seconds < length * limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
