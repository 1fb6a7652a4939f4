"""Entries of `beat`'s schedule that a program adds.

1. `entry_of`: a schedule and a call → a name and an entry, as `beat_schedule` holds them.
2. `added`: `beat_schedule` with one entry more.

Not here: schedules (`schedules/`), and who sends the calls (`beat/`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from celeriac.canvas import Signature

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["Entry", "added", "entry_of"]


class Entry(NamedTuple):
    """One entry. `named`: the program gave it its name."""

    key: str
    named: bool
    fields: dict[str, Any]


def entry_of(
    app: Celeriac,
    schedule: Any,
    sig: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    name: str | None,
    options: Mapping[str, Any],
) -> Entry:
    """The entry that runs `sig` (a signature or a task) by `schedule`."""
    if isinstance(sig, Signature):
        call = sig.clone(args, dict(kwargs or {}))
    else:
        call = app.signature(sig.name, args, dict(kwargs or {}))
    fields = {
        "schedule": schedule,
        "task": call.task,
        "args": tuple(call.args),
        "kwargs": dict(call.kwargs),
        "options": {**call.options, **options},
    }
    return Entry(name or repr(call), name is not None, fields)


def added(schedule: Mapping[str, Any], entry: Entry) -> dict[str, Any]:
    """`schedule` with `entry` in it; warns when an entry without a name takes another's place."""
    before = schedule.get(entry.key)
    if before is not None and not entry.named and before != entry.fields:
        warnings.warn(
            f"The periodic task {entry.key!r} takes the place of another of the same call; give each a name.",
            stacklevel=4,
        )
    return {**schedule, entry.key: entry.fields}
