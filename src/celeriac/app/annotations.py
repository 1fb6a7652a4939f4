"""`task_annotations`: attributes of tasks that are set from the configuration.

1. `annotate`: sets them on one task. Names may be `*`; a key `@method` wraps the method instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac.exceptions import ImproperlyConfigured
from celeriac.plugins import load_class

__all__ = ["annotate"]


def annotate(task: Any, annotations: Any) -> None:
    """Set on `task` what `annotations` say of it.

    Args:
        task: the task.
        annotations: `{"*" or task name: {attribute: value}}`, an object with `annotate(task)` and perhaps
            `annotate_any()`, the import path of either, or a list of these: then the first counts that says
            something about the name, and the first that does about `*`.
    """
    if annotations is None:
        return
    sources = [_source(entry, task) for entry in _listed(annotations)]
    for name in ("*", task.name):
        chosen: Mapping[str, Any] = next((found for source in sources if (found := source.get(name))), {})
        for attribute, value in chosen.items():
            _apply(task, attribute, value)


class _FromObject:
    """An object with Celery's `annotate` methods, in the shape of a mapping."""

    def __init__(self, source: Any, task: Any) -> None:
        self.source = source
        self.task = task

    def get(self, name: str) -> Any:
        if name == "*":
            anything = getattr(self.source, "annotate_any", None)
            return anything() if anything is not None else None
        return self.source.annotate(self.task)


def _listed(annotations: Any) -> list[Any]:
    return list(annotations) if isinstance(annotations, (list, tuple)) else [annotations]


def _source(entry: Any, task: Any) -> Any:
    found = entry
    if isinstance(entry, str):
        found = load_class(entry)
        found = found() if isinstance(found, type) else found
    if isinstance(found, Mapping):
        return found
    if hasattr(found, "annotate"):
        return _FromObject(found, task)
    raise ImproperlyConfigured(
        f"task_annotations holds {entry!r}. Write {{'task name or *': {{'attribute': value}}}}, or an object "
        "with a method annotate(task)."
    )


def _apply(task: Any, attribute: str, value: Any) -> None:
    if attribute.startswith("@"):
        method = "run" if attribute[1:] == "__call__" else attribute[1:]
        setattr(task, method, value(getattr(task, method)))
    else:
        setattr(task, attribute, value)
