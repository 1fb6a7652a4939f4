"""Where the settings of one app come from, and when.

1. `Configuration`: the sources, in the order in which they were named; they are read when a setting is first
   read.
2. What waits for that moment: defaults of libraries, entries of the periodic schedule, `on_after_configure`.

Not here: names, types and precedence (`settings.py`), reading late (`live.py`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from celeriac.app.live import LiveSettings
from celeriac.app.settings import read_mapping, read_object
from celeriac.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.app.periodic import Entry

__all__ = ["Configuration"]

_MODULE: Final = ("CELERIAC_CONFIG_MODULE", "CELERY_CONFIG_MODULE")


class Configuration:
    """The configuration of `app`.

    Args:
        given: settings that the program gave; they outrank all sources.
        source: object, mapping or path to read, or None: the module that the environment names, if any.
        silent: ignore a source that cannot be imported.
        changed: called after every change of a setting.
    """

    def __init__(
        self,
        app: Celeriac,
        given: Mapping[str, Any],
        *,
        source: Any,
        silent: bool,
        changed: Callable[[], None],
    ) -> None:
        self._app = app
        self._source = source
        self._silent = silent
        self._defaults: deque[Any] = deque()
        self._entries: deque[Entry] = deque()
        self.settings = LiveSettings(read_mapping(given, strict=False), self._load, changed)

    def read_from(self, source: Any, *, silent: bool, force: bool) -> None:
        """Take `source` in place of the one before; read it now if settings have been read already."""
        self._source = source
        self._silent = silent
        if self.settings.configured:
            self.settings.load(self._read())
        elif force:
            self.settings.settle()

    def add_defaults(self, defaults: Any) -> None:
        """Add defaults that every source outranks: a mapping, or a function that returns one."""
        if self.settings.configured:
            self.settings.add_defaults(defaults() if callable(defaults) else defaults)
        else:
            self._defaults.append(defaults)

    def schedule(self, entry: Entry) -> None:
        """Add an entry to `beat_schedule`."""
        if not self.settings.configured:
            self._entries.append(entry)
            return
        from celeriac.app.periodic import added

        self.settings.beat_schedule = added(self.settings.beat_schedule, entry)

    def _load(self, settings: LiveSettings) -> None:
        app = self._app
        with app.lock:
            if settings.configured:
                return
            app.on_configure.send(sender=app)
            config = self._read()
            settings.open()
            settings.load(config)
            while self._defaults:
                self.add_defaults(self._defaults.popleft())
            app.on_after_configure.send(sender=app, source=settings)
            while self._entries:
                self.schedule(self._entries.popleft())

    def _read(self) -> dict[str, Any]:
        source = self._source
        if source is None:
            source = next((os.environ[name] for name in _MODULE if os.environ.get(name)), None)
        if source is None:
            return {}
        try:
            return read_object(source, self._app.namespace)
        except ImproperlyConfigured as exc:
            if self._silent and isinstance(exc.__cause__, ImportError):
                return {}
            raise
