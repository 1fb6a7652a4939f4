"""How far a task is: what `Task.progress` stores, and what `result.progress` says.

1. `PROGRESS`: the state; a custom one, as Celery's users write it.
2. `Progress`: what is stored with it, typed.

Not here: when it is sent (`worker/reports.py`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard

from celeriac import states

if TYPE_CHECKING:
    from celeriac.wire.results import ResultMeta

__all__ = ["PROGRESS", "Progress"]

#: The state of a task that said how far it is.
PROGRESS: Final = "PROGRESS"
#: Characters of a message that are kept.
LONGEST: Final = 1000

_HUGE: Final = 1 << 63


class Progress(NamedTuple):
    """How far a task is.

    Attributes:
        current: what is done, in the task's own unit.
        total: what there is to do, in the same unit; None when the task has not said.
        message: what the task says about it.

    Example:
        >>> Progress(30, 120, "reading").fraction
        0.25
    """

    current: float
    total: float | None = None
    message: str | None = None

    @property
    def fraction(self) -> float | None:
        """The part that is done, 0 to 1; None when nobody knows."""
        if not self.total:
            return None
        return min(1.0, max(0.0, self.current / self.total))

    def meta(self) -> dict[str, Any]:
        """What is stored with the state."""
        return {"current": self.current, "total": self.total, "message": self.message}

    @classmethod
    def of(cls, meta: ResultMeta) -> Progress | None:
        """What a document says, whoever wrote it: any state that is not final with a mapping that has
        ``current``, as Celery's users write it with `update_state`."""
        if meta.status in states.READY_STATES or not isinstance(meta.result, Mapping):
            return None
        current, total, message = (meta.result.get(key) for key in ("current", "total", "message"))
        if not _is_number(current):
            return None
        return cls(current, total if _is_number(total) else None, None if message is None else str(message))

    @classmethod
    def checked(cls, current: Any, total: Any, message: Any) -> Progress:
        """Raises `TypeError` for what is no number or no text."""
        if not (message is None or isinstance(message, str)):
            raise TypeError(f"the message of a progress is text, not {type(message).__name__}")
        return cls(
            _number(current),
            None if total is None else _number(total),
            None if message is None else message[:LONGEST],
        )


def _is_number(value: Any) -> TypeGuard[float]:
    return (type(value) is int and -_HUGE < value < _HUGE) or (type(value) is float and math.isfinite(value))


def _number(value: Any) -> float:
    """A plain number that every serializer takes; numpy's and others are converted."""
    if _is_number(value):
        return value
    try:
        plain = operator.index(value) if hasattr(type(value), "__index__") else type(value).__float__(value)
    except (AttributeError, OverflowError):
        plain = None
    if not _is_number(plain):
        raise TypeError(f"progress takes finite numbers, not {value!r:.80}")
    return plain
