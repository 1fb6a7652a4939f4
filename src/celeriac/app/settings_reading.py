"""From what a user wrote to checked settings.

1. Names: new, old (``CELERY_ACKS_LATE``), namespaced (``CELERY_TASK_ACKS_LATE``); what is unknown, with a
   did-you-mean; two names of one setting.
2. Sources: `read_mapping`, `read_object`, `read_envvar`, `read_assignments`, `read_environment`.

Every source returns a plain dict of new name → checked value, or raises one `ImproperlyConfigured` that lists
everything that is wrong. Values are checked in `settings_values.py`; the dicts go to `settings.py`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from celeriac.app.settings_stores import STORES
from celeriac.app.settings_table import CORE, Setting
from celeriac.app.settings_values import URL_SETTINGS, convert
from celeriac.exceptions import ImproperlyConfigured

__all__ = [
    "BY_NAME",
    "BY_OLD_NAME",
    "ENVIRONMENT",
    "looks_like_ours",
    "new_name",
    "read_assignments",
    "read_environment",
    "read_envvar",
    "read_mapping",
    "read_object",
    "unknown",
]

BY_NAME: dict[str, Setting] = {row.name: row for row in (*CORE, *STORES)}
BY_OLD_NAME: dict[str, Setting] = {old: row for row in BY_NAME.values() for old in row.old_names}

#: Setting → the environment variables that overrule every other source, first one first.
ENVIRONMENT: dict[str, tuple[str, ...]] = {
    name: (f"CELERIAC_{name.upper()}", f"CELERY_{name.upper()}") for name in URL_SETTINGS
}

#: Settings of packages around Celery; they keep them in the app's configuration.
_FOREIGN = (
    "redbeat_",
    "singleton_",
    "once",
    "beat_dburi",
    "beat_schema",
    "beat_engine_options",
    "sentry_",
    "tenant_",
)
_OUR_PREFIXES = ("task_", "worker_", "broker_", "result_", "beat_", "event_queue_", "control_queue_")


def new_name(key: str) -> str | None:
    """Return the new name of `key` (a new or an old name), or None when it is no setting."""
    if key in BY_NAME:
        return key
    row = BY_OLD_NAME.get(key)
    return row.name if row else None


def _closest(key: str, cutoff: float = 0.75) -> str | None:
    import difflib  # only mistakes need it

    if not key.islower():
        old = difflib.get_close_matches(key, BY_OLD_NAME, n=1, cutoff=max(cutoff, 0.85))
        if old:
            return BY_OLD_NAME[old[0]].name
    found = difflib.get_close_matches(key.lower(), BY_NAME, n=1, cutoff=cutoff)
    return found[0] if found else None


def looks_like_ours(key: str) -> bool:
    """True when `key` is no setting but was probably meant to be one."""
    name = key.lower()
    if name.startswith(_FOREIGN) or name.startswith("_"):
        return False
    return name.startswith(_OUR_PREFIXES) or _closest(key, 0.85) is not None


def unknown(key: str, prefix: str = "") -> str:
    """Return the sentence for the unknown setting `key`, written with the namespace `prefix`."""
    guess = _closest(key)
    written = f"{prefix}{key}"
    if guess is None:
        return f"There is no setting {written!r}. Remove it, or rename it if it is your own."
    if prefix:
        guess = f"{prefix}{guess.upper() if prefix.isupper() else guess}"
    return f"There is no setting {written!r}. Did you mean {guess!r}?"


class _Reading:
    """Collects the settings of one source, and what is wrong with it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.problems: list[str] = []
        self._written: dict[str, str] = {}

    def take(self, row: Setting, value: Any, written: str) -> None:
        earlier = self._written.setdefault(row.name, written)
        if earlier != written:
            self.problems.append(
                f"{earlier!r} and {written!r} are two names of one setting; keep one of them."
            )
            return
        try:
            self.values[row.name] = convert(row, value, written)
        except ImproperlyConfigured as exc:
            self.problems.append(str(exc))

    def done(self, source: str = "") -> dict[str, Any]:
        if not self.problems:
            return self.values
        where = f" in {source}" if source else ""
        if len(self.problems) == 1 and not where:
            raise ImproperlyConfigured(self.problems[0])
        listed = "".join(f"\n  - {problem}" for problem in self.problems)
        raise ImproperlyConfigured(f"The configuration{where} is wrong:{listed}")


def _prefix(namespace: str | None) -> str:
    return f"{namespace.rstrip('_')}_" if namespace else ""


def read_mapping(
    mapping: Mapping[str, Any], namespace: str | None = None, *, source: str = "", strict: bool = True
) -> dict[str, Any]:
    """Read settings from a mapping of names to values.

    Args:
        mapping: the names are new or old; with `namespace` only keys that start with it are read.
        namespace: e.g. ``"CELERY"``.
        source: where the mapping comes from, for the error.
        strict: refuse every unknown key (of the namespace); otherwise only those that look like settings,
            the others are kept as they are.

    Raises:
        ImproperlyConfigured: unknown names, two names of one setting, wrong values.
    """
    prefix, reading = _prefix(namespace), _Reading()
    for written, value in mapping.items():
        if not isinstance(written, str) or not written.startswith(prefix):
            continue
        key = written[len(prefix) :]
        name = new_name(key.lower() if prefix and prefix.isupper() else key) or (
            new_name(written) if prefix else None
        )
        if name is not None:
            reading.take(BY_NAME[name], value, written)
        elif key.lower().startswith(_FOREIGN):
            reading.values[key.lower() if prefix else key] = value
        elif strict or looks_like_ours(key):
            reading.problems.append(unknown(key, prefix))
        else:
            reading.values[key] = value
    return reading.done(source)


def _read_variables(variables: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Read a module or object without a namespace; it may hold other variables too."""
    reading = _Reading()
    for written, value in variables.items():
        name = new_name(written)
        if name is not None:
            reading.take(BY_NAME[name], value, written)
        elif written.startswith(_FOREIGN):
            reading.values[written] = value
        elif _misspelt(written, value):
            reading.problems.append(unknown(written))
    return _with_time_zone(reading.done(source), variables.get("TIME_ZONE"))


def _with_time_zone(values: dict[str, Any], time_zone: Any) -> dict[str, Any]:
    """Django's own zone counts where there is no `timezone`, with a namespace or without."""
    if isinstance(time_zone, str):
        values.setdefault("timezone", time_zone)
    return values


def _misspelt(written: str, value: Any) -> bool:
    if isinstance(value, ModuleType | type) or callable(value):
        return False
    if written.islower():
        return looks_like_ours(written)
    return written.startswith("CELERY") and written.isupper() and _closest(written, 0.9) is not None


def _load(path: str) -> Any:
    """Import ``package.module``, ``package.module:attribute`` or ``package.module.attribute``."""
    folder = os.getcwd()
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        module, _, attribute = path.partition(":")
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as exc:
            parent, _, last = module.rpartition(".")
            if not parent or exc.name != module:
                raise
            found, attribute = importlib.import_module(parent), last
        for part in filter(None, attribute.split(".")):
            found = getattr(found, part)
    except (ImportError, AttributeError) as exc:
        raise ImproperlyConfigured(f"The configuration {path!r} cannot be imported: {exc}.") from exc
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)
    return found


def read_object(obj: Any, namespace: str | None = None) -> dict[str, Any]:
    """Read settings from a mapping, a module, an object, or the dotted path of one.

    Args:
        obj: e.g. ``"proj.celeryconfig"``, ``"django.conf:settings"``, a class, a dict.
        namespace: only names that start with it are read, e.g. ``"CELERY"``.

    Raises:
        ImproperlyConfigured: the path cannot be imported, or the settings are wrong.
    """
    source = obj if isinstance(obj, str) else getattr(obj, "__name__", "")
    if isinstance(obj, str):
        obj = _load(obj)
    if isinstance(obj, Mapping):
        return read_mapping(obj, namespace, source=source)
    names: Iterable[str] = (name for name in dir(obj) if not name.startswith("_"))
    if namespace:
        prefix = _prefix(namespace)
        chosen = {name: getattr(obj, name) for name in names if name.startswith(prefix)}
        return _with_time_zone(
            read_mapping(chosen, namespace, source=source), getattr(obj, "TIME_ZONE", None)
        )
    wanted = {name: getattr(obj, name) for name in names if name == "TIME_ZONE" or _of_interest(name)}
    return _read_variables(wanted, source)


def _of_interest(name: str) -> bool:
    # Other upper-case names are not even read: some of Django's warn when they are.
    return name.islower() or name in BY_OLD_NAME or name.startswith("CELERY")


def read_envvar(variable: str, namespace: str | None = None, *, silent: bool = False) -> dict[str, Any]:
    """Read the configuration whose dotted path stands in the environment `variable`.

    Raises:
        ImproperlyConfigured: the variable is not set (unless `silent`), or as `read_object`.
    """
    path = os.environ.get(variable)
    if path:
        return read_object(path, namespace)
    if silent:
        return {}
    raise ImproperlyConfigured(
        f"The environment variable {variable!r} is not set; set it to a module's dotted path."
    )


def read_assignments(words: Iterable[str], namespace: str = "worker") -> dict[str, Any]:
    """Read what follows ``--`` on a command line, e.g. ``worker.concurrency=10``, ``.pool=solo``.

    Raises:
        ImproperlyConfigured: no ``=``, an unknown name, a wrong value.
    """
    mapping = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ImproperlyConfigured(f"{word!r} is not an assignment; write name=value.")
        name = f"{namespace}{name}" if name.startswith(".") else name
        mapping[name.replace(".", "_")] = None if value == "None" else value
    return read_mapping(mapping, source="the command line")


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read the environment variables that overrule every other source; empty ones do not count."""
    values = {}
    for name, variables in ENVIRONMENT.items():
        for variable in variables:
            if environ.get(variable):
                values[name] = convert(BY_NAME[name], environ[variable], variable)
                break
    return values
