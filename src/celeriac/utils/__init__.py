"""Small helpers that applications import by Celery's names. A leaf: imports nothing of ours but `utils.*`.

1. `uuid`: task ids.
2. `cached_property`, `get_full_cls_name`, `noop`: for code that was written against Celery.

Not here: anything that the package itself could keep in the room where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celeriac.utils.identity import uuid as _random

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["cached_property", "gen_unique_id", "get_full_cls_name", "noop", "uuid"]


def uuid(_uuid: Callable[[], UUID | str] | None = None) -> str:
    """Return a new random id (UUID version 4) as a string.

    Args:
        _uuid: called instead, when given.

    Example:
        >>> len(uuid()), uuid()[14]
        (36, '4')
    """
    return _random() if _uuid is None else str(_uuid())


gen_unique_id = uuid


def get_full_cls_name(obj: type) -> str:
    """Return ``module.Name`` of a class.

    Example:
        >>> get_full_cls_name(ValueError)
        'builtins.ValueError'
    """
    return f"{obj.__module__}.{obj.__name__}"


def noop(*args: Any, **kwargs: Any) -> None:
    """Take anything, do nothing."""
