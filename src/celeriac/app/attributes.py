"""Attributes of tasks that are not plain values.

1. `FromConfig`: a setting's value, unless the task says otherwise.
2. `SignatureOfRun`: what `inspect.signature(task)` gives.
3. `EXECUTION_OPTIONS`: attributes that are options of every call.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

__all__ = ["EXECUTION_OPTIONS", "FromConfig", "SignatureOfRun", "from_setting"]

#: Options of a call that a task may carry as attributes of the same name.
EXECUTION_OPTIONS: Final = (
    "queue",
    "routing_key",
    "exchange",
    "priority",
    "expires",
    "serializer",
    "delivery_mode",
    "compression",
    "time_limit",
    "soft_time_limit",
)


class FromConfig:
    """A task attribute whose value is a setting unless the task says otherwise.

    On the class it reads None. On an instance it reads the setting, until binding stores the value.
    """

    def __init__(self, setting: str) -> None:
        self.setting = setting

    def __get__(self, task: Any, owner: Any = None) -> Any:
        return None if task is None else task.app.conf[self.setting]


def from_setting(setting: str) -> Any:
    """A `FromConfig`, for type checkers a value of any type."""
    return FromConfig(setting)


class SignatureOfRun:
    """The parameters that a caller gives: those of `run`, without the task itself."""

    def __get__(self, task: Any, owner: Any = None) -> inspect.Signature:
        if task is None:
            raise AttributeError("__signature__")
        signature: inspect.Signature = task.arguments.signature
        return signature
