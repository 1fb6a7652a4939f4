"""The shapes of canvases: their dicts, and the messages they become.

1. `Sending`: one message to be; `Start`: a chord that begins with it.
2. `checked`: a signature's dict, which may come from a message, made complete or refused.
3. `as_list`, `joined`: options that are one item or several.
4. `waiting_ids`: the calls that wait in a message for their turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Sending", "Start", "as_list", "checked", "joined", "waiting_ids"]


class Start(NamedTuple):
    """A chord that begins with a message: its header's id, how many members there are (0: not known yet),
    and the body."""

    chord_id: str
    size: int
    body: Mapping[str, Any]


class Sending(NamedTuple):
    """One message to be: `options` are those of `apply_async`, `task_id` is always among them. `starts`: the
    chords that have to be made known to their store before."""

    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: dict[str, Any]
    starts: tuple[Start, ...] = ()


def as_list(value: Any) -> list[Any]:
    """`value` as a list: a list or tuple becomes one, None an empty one, anything else its only item."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def joined(old: Any, new: Any) -> list[Any]:
    """The items of `old`, then those of `new` that are not among them."""
    kept = as_list(old)
    return kept + [item for item in as_list(new) if item not in kept]


def checked(d: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a signature's dict with what is missing filled in.

    Raises:
        ValueError: a part has the wrong type.
    """
    task, args = d.get("task"), d.get("args") or ()
    kwargs, options = d.get("kwargs") or {}, d.get("options") or {}
    wrong = [
        name
        for name, fits in (
            ("task", isinstance(task, str)),
            ("args", isinstance(args, list | tuple)),
            ("kwargs", isinstance(kwargs, dict)),
            ("options", isinstance(options, dict)),
        )
        if not fits
    ]
    if wrong:
        raise ValueError(
            f"this is not a signature, its {', '.join(wrong)} cannot be used: {str(dict(d))[:200]}"
        )
    return {
        **d,
        "task": task,
        "args": tuple(args),
        "kwargs": kwargs,
        "options": options,
        "subtask_type": d.get("subtask_type"),
        "immutable": bool(d.get("immutable")),
    }


def waiting_ids(steps: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Task ids of all calls in frozen signatures (the rest of a chain, as a message carries it).

    When a step of a chain has failed, these will never run: whoever concludes it stores the failure for them,
    too, so that nobody waits for them for ever. What has no id, or not the shape of a signature, is left out.

    Example:
        >>> waiting_ids([{"task": "proj.add", "options": {"task_id": "a"}}])
        ['a']
    """
    ids: list[str] = []
    for step in steps or ():
        if not isinstance(step, Mapping):
            continue
        options, kwargs = step.get("options"), step.get("kwargs")
        inner = kwargs if isinstance(kwargs, Mapping) and step.get("subtask_type") else {}
        tasks, body = inner.get("tasks"), inner.get("body")
        if isinstance(tasks, list | tuple):
            ids += waiting_ids(tasks)
        elif isinstance(body, Mapping):
            header = inner.get("header")
            ids += waiting_ids([*([header] if isinstance(header, Mapping) else as_list(header)), body])
        elif isinstance(options, Mapping) and isinstance(options.get("task_id"), str):
            ids.append(options["task_id"])
        if isinstance(options, Mapping) and isinstance(options.get("chain"), list | tuple):
            ids += waiting_ids(options["chain"])  # what a replaced call has left behind its replacement
    return ids
