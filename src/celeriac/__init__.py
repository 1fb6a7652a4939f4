"""Celeriac: background tasks for Python and Django, with Celery's API and wire format.

The front door. Every name is imported when it is first used, so that `import celeriac` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.app.base import Celeriac as Celery
    from celeriac.app.declaring import shared_task
    from celeriac.app.queues import Exchange, Queue
    from celeriac.app.task import Task
    from celeriac.app.utils import bugreport
    from celeriac.canvas.base import Signature, maybe_signature, signature
    from celeriac.canvas.chain import chain
    from celeriac.canvas.chord import chord
    from celeriac.canvas.group import group
    from celeriac.canvas.maps import chunks, xmap, xstarmap
    from celeriac.utils import uuid

    subtask = signature
    current_app: Celeriac
    current_task: Any

__version__ = "0.1.0"
VERSION: Final = (0, 1, 0)

__all__ = [
    "VERSION",
    "Celeriac",
    "Celery",
    "Exchange",
    "Queue",
    "Signature",
    "Task",
    "__version__",
    "bugreport",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]

_HOMES: Final = {
    "Celeriac": "celeriac.app.base",
    "Celery": "celeriac.app.base",
    "Exchange": "celeriac.app.queues",
    "Queue": "celeriac.app.queues",
    "Signature": "celeriac.canvas",
    "Task": "celeriac.app.task",
    "bugreport": "celeriac.app.utils",
    "chain": "celeriac.canvas",
    "chord": "celeriac.canvas",
    "chunks": "celeriac.canvas",
    "group": "celeriac.canvas",
    "maybe_signature": "celeriac.canvas",
    "shared_task": "celeriac.app.declaring",
    "signature": "celeriac.canvas",
    "subtask": "celeriac.canvas",
    "uuid": "celeriac.utils",
    "xmap": "celeriac.canvas",
    "xstarmap": "celeriac.canvas",
}

#: Submodules that Celery's users reach as attributes.
_MODULES: Final = frozenset(
    {
        "app",
        "beat",
        "bin",
        "canvas",
        "exceptions",
        "local",
        "result",
        "schedules",
        "signals",
        "states",
        "utils",
    }
)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(import_module(home), name)
    elif name in ("current_app", "current_task"):
        value = _current(name)
    elif name in _MODULES:
        return import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _current(name: str) -> Any:
    from celeriac import _state
    from celeriac.local import Proxy

    return Proxy(_state.get_current_app if name == "current_app" else _state.get_current_task)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
