"""Canvases of every kind, made with whichever library is given, and their shapes as short text.

``python tests/unit/canvas/forms.py`` writes `joins.json` anew, where Celery is installed: what Celery makes
of ``left | right`` for every pair of forms, and of some calls of `chain`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("joins.json")


def forms(canvas: Any, task: Callable[[int], Any], add: Any, total: Any) -> dict[str, Callable[[int], Any]]:
    """Name → a function that makes the canvas; its calls are numbered from the argument on."""
    chain, group, chord = canvas.chain, canvas.group, canvas.chord
    return {
        "task": lambda n: task(n),
        "no steps": lambda n: chain(),
        "one step": lambda n: chain(task(n)),
        "two steps": lambda n: chain(task(n), task(n + 1)),
        "no members": lambda n: group(),
        "one member": lambda n: group(task(n)),
        "two members": lambda n: group(task(n), task(n + 1)),
        "group in group": lambda n: group(group(task(n), task(n + 1))),
        "chain in group": lambda n: group(chain(task(n), task(n + 1)), task(n + 2)),
        "group at the end": lambda n: chain(task(n), group(task(n + 1), task(n + 2))),
        "chord at the end": lambda n: chain(task(n), group(task(n + 1), task(n + 2)), total.s()),
        "chord": lambda n: chord([task(n), task(n + 1)], total.s()),
        "chord of one": lambda n: chord([task(n)], total.s()),
        "chord of none": lambda n: chord([], total.s()),
        "body a chain": lambda n: chord([task(n), task(n + 1)], total.s() | task(n + 2)),
        "body a group": lambda n: chord([task(n), task(n + 1)], group(task(n + 2), task(n + 3))),
        "map": lambda n: add.map([1]),
        "starmap": lambda n: add.starmap([(1, 1)]),
        "chunks": lambda n: add.chunks([(1, 1)], 1),
    }


def calls(canvas: Any, task: Callable[[int], Any]) -> dict[str, Callable[[], Any]]:
    """Ways to call `chain`."""
    chain, group = canvas.chain, canvas.group
    return {
        "group, task": lambda: chain(group(task(1), task(2)), task(3)),
        "list of group, task": lambda: chain([group(task(1), task(2)), task(3)]),
        "group": lambda: chain(group(task(1), task(2))),
        "group, group": lambda: chain(group(task(1), task(2)), group(task(3), task(4))),
        "group, chain": lambda: chain(group(task(1), task(2)), task(3) | task(4)),
        "task, group, group": lambda: chain(task(0), group(task(1), task(2)), group(task(3), task(4))),
        "task, group of one, task": lambda: chain(task(0), group(task(1)), task(2)),
        "group of one, task": lambda: chain(group(task(1)), task(2)),
        "list": lambda: chain([task(1), task(2)]),
        "generator": lambda: chain(task(n) for n in range(3)),
    }


def shape(sig: Any) -> str:
    """``(a|b)`` a chain, ``{a,b}`` a group, ``[a,b>c]`` a chord, else the task and its first argument."""
    kind, inner = sig.get("subtask_type"), sig["kwargs"]
    if kind == "chain":
        return f"({'|'.join(map(shape, inner['tasks']))})"
    if kind == "group":
        return f"{{{','.join(map(shape, inner['tasks']))}}}"
    if kind == "chord":
        header = inner["header"]["kwargs"]["tasks"] if isinstance(inner["header"], dict) else inner["header"]
        return f"[{','.join(map(shape, header))}>{shape(inner['body'])}]"
    return {"celery.map": "xmap", "celery.starmap": "xstarmap", "celery.chunks": "chunks"}.get(
        sig["task"], sig["task"] + "".join(map(str, sig["args"]))
    )


def facts(canvas: Any, add: Any, total: Any) -> dict[str, dict[str, str]]:
    """The shapes of all joins, and of all calls."""
    made = forms(canvas, add.s, add, total)
    return {
        "joins": {
            f"{left} | {right}": shape(made[left](1) | made[right](5)) for left in made for right in made
        },
        "calls": {name: shape(call()) for name, call in calls(canvas, add.s).items()},
    }


def main() -> None:
    from celery import Celery, canvas  # type: ignore[import-not-found, import-untyped, unused-ignore]

    app = Celery("forms", broker="memory://", set_as_current=True)

    @app.task(name="t")
    def add(x: int, y: int = 0) -> int:
        return x

    @app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    recorded = facts(canvas, add, total)
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
