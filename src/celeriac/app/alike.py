"""Calls that differ in little, as one batch.

`gathered`: calls to one place that differ in arguments, ids and their place in a group only, as an `Alike`:
what they share is looked at, and written, once.

Not here: calls that have to be looked at one by one (`producer.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from celeriac.app.ids import new_id
from celeriac.app.options import LIGHT
from celeriac.brokers.alike import Alike, Draft
from celeriac.wire.pattern import Pattern

if TYPE_CHECKING:
    from celeriac.app.producer import Plan, Request
    from celeriac.app.task import Task

__all__ = ["MANY", "gathered"]

#: Calls from which on it is worth while to look for what they share.
MANY: Final = 16
#: Calls for each pattern, at least: to learn one costs as much as to write some messages.
_EACH: Final = 4
_KEYS: Final = LIGHT.keys()
_OWN: Final = frozenset({"task_id", "group_index"})
_new_draft: Any = tuple.__new__


def gathered(
    requests: Iterable[Request],
    plan_of: Callable[[Task[..., Any]], Plan],
    shared: Mapping[str, Any],
) -> Alike | None:
    """The batch; None when these calls are not alike. `shared`: what all messages hold, unless their options
    say otherwise. Hot."""
    patterns: dict[Any, Pattern] = {}
    drafts: list[Draft] = []
    place: Any = None
    last: Any = None
    pattern: Any = None
    for _, args, kwargs, options, task in requests:
        if task is None or not options.keys() <= _KEYS:
            return None
        get = options.get
        kind = (
            task,
            get("group_id"),
            get("reply_to"),
            get("root_id"),
            get("parent_id"),
            get("ignore_result"),
            id(get("chord")),
        )
        if kind != last:
            last = kind
            pattern = patterns.get(kind)
            if pattern is None:
                plan = plan_of(task)
                if not plan.fixed or plan.place != (place or plan.place):
                    return None
                place = plan.place
                fields = {
                    LIGHT[key]: value
                    for key, value in options.items()
                    if key not in _OWN and value is not None and value != {}
                }
                pattern = patterns[kind] = Pattern(partial(plan.write, **{**shared, **fields}))
        drafts.append(
            _new_draft(Draft, (pattern, get("task_id") or new_id(), args, kwargs or None, get("group_index")))
        )
    if len(drafts) < _EACH * len(patterns):
        return None
    return Alike(drafts, place)
