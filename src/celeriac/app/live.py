"""`app.conf`: settings that read their sources when they are first looked at.

1. `LiveSettings`: until somebody reads a value, what the program sets is only remembered; the first read
   loads the configuration. So `app.conf.update(…)` may stand before `config_from_object`, and neither imports
   anything.
2. It tells its app of every change.

Not here: settings themselves (`settings.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celeriac.app.settings import Settings

__all__ = ["LiveSettings"]


class LiveSettings(Settings):
    """The settings of one app.

    Args:
        changes: what the program has set already (checked).
        load: reads the configuration; called once, on the first read.
        changed: called after every change that follows.
    """

    def __init__(
        self,
        changes: Mapping[str, Any],
        load: Callable[[LiveSettings], None],
        changed: Callable[[], None],
    ) -> None:
        self._pending = True
        self._load_sources = load
        self._changed = changed
        super().__init__(changes=changes)

    @property
    def configured(self) -> bool:
        """False until the configuration has been loaded."""
        return not self._pending

    def settle(self) -> None:
        """Load the configuration now, if that has not happened yet."""
        if self._pending:
            self._load_sources(self)

    def open(self) -> None:
        """From now on values can be read (called by the loader, before it sends signals)."""
        self._pending = False
        self.refresh()

    def refresh(self) -> None:
        if not self._pending:
            super().refresh()
            self._changed()

    def __getattr__(self, name: str) -> Any:
        # Only reached when there is no such attribute: before the first read there are none.
        if name.startswith("__") or not self.__dict__.get("_pending", False):
            return super().__getattr__(name)
        self.settle()
        return getattr(self, name)

    def __getitem__(self, key: str) -> Any:
        self.settle()
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.settle()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self.settle()
        return super().__iter__()

    def copy(self) -> Settings:
        self.settle()
        return super().copy()

    def __delitem__(self, key: str) -> None:
        self.settle()
        super().__delitem__(key)
