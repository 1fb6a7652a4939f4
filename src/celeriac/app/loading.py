"""Importing the modules that hold an app's tasks.

1. `Loader`: `app.loader`, with Celery's hooks for those who subclass it.
2. `autodiscover_tasks`, `find_related_module`: the `tasks` module of every package.

Not here: finding the app itself (`discovery.py`), configuration (`settings_reading.py`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

from celeriac import signals

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["Loader", "autodiscover_tasks", "cwd_in_path", "find_related_module"]


class Loader:
    """Imports what an app needs. Subclasses may override the hooks, whose names begin with `on_`."""

    builtin_modules: frozenset[str] = frozenset()
    configured = False
    worker_initialized = False

    def __init__(self, app: Celeriac, **kwargs: Any) -> None:
        self.app = app
        self.task_modules: set[str] = set()

    @property
    def conf(self) -> Any:
        return self.app.conf

    def now(self, utc: bool = True) -> datetime:
        return self.app.now()

    # -- hooks ----------------------------------------------------------------------------------------------

    def on_task_init(self, task_id: str, task: Any) -> None:
        """Called before a task runs."""

    def on_process_cleanup(self) -> None:
        """Called after a task has run."""

    def on_worker_init(self) -> None:
        """Called when the worker starts."""

    def on_worker_shutdown(self) -> None:
        """Called when the worker ends."""

    def on_worker_process_init(self) -> None:
        """Called when a child of the worker starts."""

    # -- importing ------------------------------------------------------------------------------------------

    def import_module(self, module: str, package: str | None = None) -> ModuleType:
        return importlib.import_module(module, package=package)

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> ModuleType:
        with cwd_in_path():
            found: ModuleType = (imp or importlib.import_module)(module, package=package)
            return found

    def import_task_module(self, module: str) -> ModuleType:
        """Import a module of tasks, also from the working directory; remember it for reloads."""
        self.task_modules.add(module)
        return self.import_from_cwd(module)

    @property
    def default_modules(self) -> tuple[str, ...]:
        """The modules that `imports` and `include` name."""
        conf = self.app.conf
        return (*self.builtin_modules, *(conf.imports or ()), *(conf.include or ()))

    def import_default_modules(self) -> list[ModuleType]:
        """Import all task modules: first whoever waits for `import_modules` (autodiscovery), then the listed
        ones.

        Raises:
            ImportError, and whatever a module raises while it is imported.
        """
        for _, response in signals.import_modules.send(sender=self.app):
            if isinstance(response, Exception):
                raise response
        return [self.import_task_module(module) for module in self.default_modules]

    def init_worker(self) -> None:
        if not self.worker_initialized:
            self.worker_initialized = True
            self.import_default_modules()
            self.on_worker_init()

    def shutdown_worker(self) -> None:
        self.on_worker_shutdown()

    def init_worker_process(self) -> None:
        self.on_worker_process_init()

    def find_module(self, module: str) -> Any:
        return importlib.util.find_spec(module)

    def autodiscover_tasks(self, packages: Iterable[str], related_name: str | None = "tasks") -> None:
        self.task_modules.update(module.__name__ for module in autodiscover_tasks(packages, related_name))


@contextmanager
def cwd_in_path() -> Iterator[None]:
    """Modules of the working directory can be imported, as they can for a script started there."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    yield


def autodiscover_tasks(packages: Iterable[str], related_name: str | None = "tasks") -> list[ModuleType]:
    """Import the module `related_name` of every package that has one; return them."""
    with cwd_in_path():
        found = [find_related_module(package, related_name) for package in packages]
    return [module for module in found if module is not None]


def find_related_module(package: str, related_name: str | None) -> ModuleType | None:
    """Import `package` and its submodule `related_name`; None when it has no such submodule.

    A Django app may be named by the path of its configuration class: then the package around it counts.

    Raises:
        ModuleNotFoundError: there is no such package, or the submodule imports something that is not there.
    """
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as exc:
        parent, _, _ = package.rpartition(".")
        if not parent or exc.name != package:
            raise
        module = importlib.import_module(parent)  # a class in a module of the package
        if not hasattr(module, "__path__") and module.__package__:
            module = importlib.import_module(module.__package__)
    if not related_name:
        return module
    name = f"{module.__name__}.{related_name}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name != name:  # it is there, and imports something that is not
            raise
        return None
