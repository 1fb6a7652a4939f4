"""`app.conf`: every setting with its value.

1. `Settings`: attribute and item access, in this order: environment variables, what the program set
   (`changes`), what configuration objects say, defaults added by libraries, the defaults of the table.
2. Derived values: the embedded store when no broker is configured, its results, exchange and routing key.
3. `reference`: the page docs/reference/settings.md, from the table.

Not here: the rows (`settings_table.py`, `settings_stores.py`), types and rules of values
(`settings_values.py`), names and sources (`settings_reading.py`).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

from celeriac.app.settings_reading import (
    BY_NAME,
    BY_OLD_NAME,
    new_name,
    read_assignments,
    read_environment,
    read_envvar,
    read_mapping,
    read_object,
    unknown,
)
from celeriac.app.settings_table import ACCEPTED, HONOURED, OURS, REFUSED, Setting
from celeriac.app.settings_values import EMBEDDED_URL, is_secret, mask_url
from celeriac.exceptions import ImproperlyConfigured

__all__ = [
    "EMBEDDED_URL",
    "Setting",
    "Settings",
    "find",
    "mask_url",
    "new_name",
    "read_assignments",
    "read_envvar",
    "read_mapping",
    "read_object",
    "reference",
]

_MASK: Final = "********"


def find(name: str) -> Setting:
    """Return the row of a setting by its new or old name.

    Raises:
        KeyError: there is none.

    Example:
        >>> find("CELERY_ACKS_LATE").name
        'task_acks_late'
    """
    known = new_name(name)
    if known is None:
        raise KeyError(name)
    return BY_NAME[known]


class Settings(MutableMapping[str, Any]):
    """The settings of one app.

    Reading an attribute is a plain instance attribute; all work is done when something is set.

    Args:
        config: what configuration objects say, as `read_object` returned it.
        changes: what the program set, as `read_mapping` returned it.
        environ: the environment; None is the process's own.

    Raises:
        ImproperlyConfigured: on setting an unknown name or a wrong value.

    Example:
        >>> conf = Settings(environ={})
        >>> conf.task_acks_late, conf["task_default_queue"]
        (True, 'celery')
        >>> conf.task_time_limit = 30
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        changes: Mapping[str, Any] | None = None,
        *,
        added: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._config: dict[str, Any] = dict(config or {})
        self._changes: dict[str, Any] = dict(changes or {})
        self._added: dict[str, Any] = dict(added or {})
        self._environ = environ
        self._defaults = {
            name: copy.deepcopy(row.default) if isinstance(row.default, dict) else row.default
            for name, row in BY_NAME.items()
        }
        self.refresh()

    # -- what the values come from ---------------------------------------------------------------------------

    def load(self, config: Mapping[str, Any]) -> None:
        """Put `config` (from `read_object`) in the place of the configuration read before."""
        self._config = dict(config)
        self.refresh()

    def add_defaults(self, defaults: Mapping[str, Any]) -> None:
        """Add defaults that every configuration overrules (what a library brings)."""
        self._added.update(read_mapping(defaults, strict=False))
        self.refresh()

    def refresh(self) -> None:
        """Work out every value anew; needed only after the environment has changed."""
        environment = read_environment(os.environ if self._environ is None else self._environ)
        values = {**self._defaults, **self._added, **self._config, **self._changes, **environment}
        _derive(values)
        public = self.__dict__
        for name in [name for name in public if name not in values and not name.startswith("_")]:
            del public[name]
        public.update(values)
        self._given = {**self._added, **self._config, **self._changes, **environment}

    @property
    def changes(self) -> dict[str, Any]:
        """A copy of what the program set."""
        return dict(self._changes)

    @property
    def defaults(self) -> dict[str, Any]:
        """A copy of the defaults."""
        return {**self._defaults, **self._added}

    def finalize(self) -> None:
        """Nothing is left to do: values are checked when they are set. Kept for Celery's callers."""

    # -- access ----------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        try:
            return self.__dict__[new_name(key) or key]
        except KeyError:
            raise KeyError(key) from None

    def __getattr__(self, name: str) -> Any:
        # Only reached when there is no such attribute: old names, and mistakes.
        row = BY_OLD_NAME.get(name)
        if row is not None and row.name in self.__dict__:
            return self.__dict__[row.name]
        raise AttributeError(name if name.startswith("_") else unknown(name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        """Take back what the program set."""
        del self._changes[new_name(key) or key]
        self.refresh()

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several; all of them or, when one is wrong, none.

        Names that do not look like settings are kept as they are, so that an app can hold its own.
        """
        before = self._changes
        self._changes = {**before, **read_mapping(dict(*args, **kwargs), strict=False)}
        try:
            self.refresh()
        except ImproperlyConfigured:
            self._changes = before
            raise

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and not key.startswith("_") and (new_name(key) or key) in self.__dict__

    def __iter__(self) -> Iterator[str]:
        return (name for name in list(self.__dict__) if not name.startswith("_"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Set `key` unless somebody has given it a value."""
        if not self.value_set_for(key):
            self[key] = default
        return self[key]

    def first(self, *keys: str) -> Any:
        """Return the first value that is not None."""
        return next((self[key] for key in keys if self.get(key) is not None), None)

    def value_set_for(self, key: str) -> bool:
        """True when anybody but the table gave `key` a value."""
        return (new_name(key) or key) in self._given

    def get_by_parts(self, *parts: str) -> Any:
        """``get_by_parts("task", "acks", "late")`` is ``task_acks_late``."""
        return self["_".join(part for part in parts if part)]

    def find_option(self, name: str, namespace: str = "") -> Setting:
        """Return the row of a setting, with or without its `namespace` (``worker``, ``task``, …)."""
        return find(name if new_name(name) else f"{namespace}_{name}")

    def find_value_for_key(self, name: str, namespace: str = "celery") -> Any:
        """Return the value of a setting, with or without its `namespace`."""
        return self[self.find_option(name, namespace).name]

    def maybe_warn_deprecated_settings(self) -> bool:
        """Old names are not deprecated here: never warns. Kept for Celery's callers."""
        return False

    # -- for people ------------------------------------------------------------------------------------------

    def without_defaults(self) -> dict[str, Any]:
        """What was set, by anybody but the table."""
        return dict(self._given)

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """The settings as a dict for reports; `censored` masks what looks like a secret."""
        values = dict(self) if with_defaults else self.without_defaults()
        return {name: _censored(name, value) if censored else value for name, value in values.items()}

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """The settings as text, one per line."""
        from pprint import pformat  # reports only

        rows = self.table(with_defaults, censored)
        return "\n".join(f"{name}: {pformat(value, width=80)}" for name, value in rows.items())

    def __repr__(self) -> str:
        return f"<Settings: {self.table()!r}>"

    # -- copies ----------------------------------------------------------------------------------------------

    def copy(self) -> Settings:
        return Settings(self._config, self._changes, added=self._added, environ=self._environ)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._config, self._changes, self._added)


def _restore(config: dict[str, Any], changes: dict[str, Any], added: dict[str, Any]) -> Settings:
    return Settings(config, changes, added=added)


def _derive(values: dict[str, Any]) -> None:
    broker = values["broker_url"] = values["broker_url"] or EMBEDDED_URL
    values["broker_read_url"] = values["broker_read_url"] or broker
    values["broker_write_url"] = values["broker_write_url"] or broker
    if values["result_backend"] is None and values["broker_read_url"].startswith("sqlite:"):
        values["result_backend"] = values["broker_read_url"]
    queue = values["task_default_queue"]
    values["task_default_exchange"] = values["task_default_exchange"] or queue
    values["task_default_routing_key"] = values["task_default_routing_key"] or queue


def _censored(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _censored(str(key), item) for key, item in value.items()}
    if value and is_secret(name):
        return _MASK
    return mask_url(value) if isinstance(value, str) else value


# -- the reference page ------------------------------------------------------------------------------------

_HEAD = """# Settings

Written by `python -m celeriac.app.settings`: change `src/celeriac/app/settings_table.py`, not this page.

Names are Celery's. Each setting may be written with its new name (`task_acks_late`), with its old one
(`CELERY_ACKS_LATE`), or in a namespace (`CELERY_TASK_ACKS_LATE` after
`app.config_from_object("django.conf:settings", namespace="CELERY")`); two names of one setting in one
configuration are an error, and so are an unknown name and a value of the wrong type. Numbers and
`true`/`false` may be strings, seconds may be a `timedelta`.

The environment variables `CELERIAC_BROKER_URL`, `CELERIAC_RESULT_BACKEND`, `CELERIAC_BROKER_READ_URL` and
`CELERIAC_BROKER_WRITE_URL` (or `CELERY_…`) overrule every other source.
"""

_SECTIONS = (
    (HONOURED, "Honoured", "They do what Celery's documentation says, or what the note says."),
    (
        ACCEPTED,
        "Accepted without effect",
        "They may stay in a configuration; the note says why nothing is lost.",
    ),
    (REFUSED, "Refused", "Any value but the default stops start-up; the note says what to write instead."),
)


def reference() -> str:
    """Return the text of docs/reference/settings.md."""
    ours = {row.name for row in OURS}
    lines = [_HEAD]
    for status, title, sentence in _SECTIONS:
        lines += [f"## {title}", "", sentence, "", "| setting | type | default | old name | note |"]
        lines.append("|---|---|---|---|---|")
        for row in sorted(BY_NAME.values()):
            if row.status == status:
                note = f"Ours. {row.note}" if row.name in ours else row.note
                kind = row.type.replace("|", " or ")
                olds = ", ".join(f"`{old}`" for old in row.old_names)
                lines.append(f"| `{row.name}` | {kind} | `{row.default!r}` | {olds} | {note} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(reference(), end="")
