"""From trials to a report: medians with spread, ratios against the targets, as text and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.measures import Measure


class Result(NamedTuple):
    """One trial's outcome: its figures, or why there are none."""

    measure: str
    contender: str
    round: int
    figures: dict[str, float]
    foreign: float
    discarded: int
    failure: str = ""


class Spread(NamedTuple):
    """Median, least and greatest of the rounds."""

    median: float
    least: float
    greatest: float


Summary = Mapping[tuple[str, str, str], Spread]


def summarise(results: Sequence[Result]) -> Summary:
    """Spread of every figure by (measure, contender, figure)."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for result in results:
        for figure, value in result.figures.items():
            values.setdefault((result.measure, result.contender, figure), []).append(value)
    return {key: Spread(statistics.median(seen), min(seen), max(seen)) for key, seen in values.items()}


def table(measure: Measure, results: Sequence[Result]) -> str:
    """One measure's table: contenders from best to worst, each figure as median (least-greatest)."""
    mine = [result for result in results if result.measure == measure.name]
    summary = summarise(mine)
    main = measure.figures[0]
    names = sorted(
        {contender for _, contender, figure in summary if figure == main},
        key=lambda name: summary[measure.name, name, main].median,
        reverse=measure.more_is_better,
    )
    rows = [["", *measure.figures, "foreign cores"]]
    for name in names:
        cells = [_spread(summary[measure.name, name, figure]) for figure in measure.figures]
        foreign = [result.foreign for result in mine if result.contender == name]
        rows.append([name, *cells, " ".join(f"{load:.2f}" for load in foreign)])
    lines = [f"{measure.title}  [{measure.name}]", *_aligned(rows)]
    lines += [
        f"    {result.contender}, round {result.round}: {result.failure}" for result in mine if result.failure
    ]
    return "\n".join(lines)


def _spread(spread: Spread) -> str:
    return f"{number(spread.median)} ({number(spread.least)}-{number(spread.greatest)})"


def number(value: float) -> str:
    """Three significant digits, thousands marked."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        right = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("    " + "  ".join([name.ljust(widths[0]), *right]))
    return lines
