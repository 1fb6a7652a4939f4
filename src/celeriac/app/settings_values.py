"""The values of settings: types, conversion, rules, secrets.

1. `convert`: check one value by its row, and turn numbers and words in strings into values.
2. `is_secret`, `mask_url`: what must not be shown.

Not here: which names there are (`settings_table.py`), where values come from (`settings_reading.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from celeriac.app.settings_table import REFUSED, Setting
from celeriac.exceptions import ImproperlyConfigured

__all__ = ["EMBEDDED_URL", "URL_SETTINGS", "convert", "is_secret", "mask_url"]

#: What ``broker_url = None`` means.
EMBEDDED_URL: Final = "sqlite:///.celeriac/celeriac.db"

URL_SETTINGS: Final = ("broker_url", "broker_read_url", "broker_write_url", "result_backend")

_SECRET = re.compile(
    "API|TOKEN|KEY|SECRET|PASS|PROFANITIES_LIST|SIGNATURE|DATABASE|BEAT_DBURI", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s;:@]*):[^/\s;]*(?=@)")

_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})
_FALSE = frozenset({"0", "false", "no", "off", "f", "n", ""})


def is_secret(name: str) -> bool:
    """True when the value of `name` must not be shown."""
    return _SECRET.search(name) is not None


def mask_url(url: str, mask: str = "********") -> str:
    """Return `url` (or several, joined by ``;``) with every password replaced by `mask`."""
    return _URL_PASSWORD.sub(rf"\1:{mask}", url)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_EXACT: dict[str, Callable[[Any], bool]] = {
    "any": lambda value: True,
    "None": lambda value: value is None,
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": _number,
    "seconds": _number,
    "str": lambda value: isinstance(value, str),
    "bytes": lambda value: isinstance(value, bytes),
    "dict": lambda value: isinstance(value, Mapping),
    "list": lambda value: isinstance(value, list | tuple | set | frozenset),
    "tuple": lambda value: isinstance(value, list | tuple | set | frozenset),
}


def _to_bool(value: Any) -> bool:
    word = str(value).strip().lower() if isinstance(value, str | int) else "?"
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(value)


def _to_int(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return int(value)
    raise ValueError(value)


def _to_float(value: Any) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return float(value)
    raise ValueError(value)


def _to_str(value: Any) -> str:
    return os.fsdecode(value)


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    raise ValueError(value)


def _to_list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, Mapping | bytes):
        raise TypeError(value)
    return list(value)


_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "bool": _to_bool,
    "int": _to_int,
    "float": _to_float,
    "seconds": _to_float,
    "str": _to_str,
    "bytes": _to_bytes,
    "list": _to_list,
    "tuple": lambda value: tuple(_to_list(value)),
}

_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "seconds": "a number of seconds or a timedelta",
    "str": "a string",
    "bytes": "bytes",
    "dict": "a dict",
    "list": "a list",
    "tuple": "a tuple",
    "None": "None",
}


def _known_zone(value: Any) -> bool:
    if not isinstance(value, str):
        return value is None or hasattr(value, "utcoffset")
    from zoneinfo import ZoneInfo  # only a named zone needs it

    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        return False
    return True


#: Beyond the type: setting → (is it all right?, what it must be).
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "timezone": (_known_zone, "the name of a time zone ('Europe/Vienna'), a tzinfo or None"),
    "task_protocol": (lambda value: value == 2, "2; protocol 1 is read, never written"),
    "task_default_delivery_mode": (
        lambda value: value in (1, 2, "transient", "persistent"),
        "1 ('transient') or 2 ('persistent')",
    ),
    "worker_concurrency": (
        lambda value: value in (None, "auto") or (isinstance(value, int) and value >= 0),
        "a whole number, 'auto' or None",
    ),
    "task_delivery_limit": (
        lambda value: value is None or value >= 1,
        "None or a whole number of at least 1",
    ),
    "worker_lease_ttl": (lambda value: value >= 1, "at least 1 second"),
}


def _fitting(row: Setting, value: Any) -> Any:
    words = row.type.split("|")
    if any(_EXACT[word](value) for word in words):
        return value
    for word in words:
        if word in _CONVERTED:
            try:
                return _CONVERTED[word](value)
            except (TypeError, ValueError, OverflowError):
                continue
    raise ValueError(value)


def _normal(row: Setting, value: Any) -> Any:
    if row.name == "worker_concurrency" and isinstance(value, str) and value.isdigit():
        return int(value)
    if row.name in URL_SETTINGS:
        if isinstance(value, list | tuple):
            value = ";".join(map(str, value))
        if value == "sqlite://":
            return EMBEDDED_URL
    return value


def convert(row: Setting, value: Any, written: str = "") -> Any:
    """Return `value` as the type of `row`.

    Args:
        row: the setting.
        value: what the user wrote.
        written: the name the user wrote, for the error.

    Raises:
        ImproperlyConfigured: wrong type, forbidden value, or a refused setting.
    """
    name = written or row.name
    if row.status == REFUSED:
        if value == row.default:
            return value
        raise ImproperlyConfigured(f"Setting {name!r} is not supported. {row.note}")
    try:
        fitting = _normal(row, _fitting(row, value))
    except ValueError:
        expected = " or ".join(_WORDS[word] for word in row.type.split("|"))
        raise ImproperlyConfigured(_wrong(name, value, expected)) from None
    rule = _RULES.get(row.name)
    if rule and not rule[0](fitting):
        raise ImproperlyConfigured(_wrong(name, value, rule[1]))
    return fitting


def _wrong(name: str, value: Any, expected: str) -> str:
    shown = "********" if is_secret(name) else mask_url(repr(value))
    return f"Setting {name!r} is {shown} ({type(value).__name__}); it must be {expected}."
