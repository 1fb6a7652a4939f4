"""What stands around the result store when settings ask for it.

1. `sealed`: compression and encryption.
2. `with_hooks`: that, and big results in a second store.

When no setting asks, the store stays what it is. Not here: what they do (`backends/sealed.py`, `large.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from celeriac import plugins
from celeriac.backends.base import ResultBackend
from celeriac.exceptions import ImproperlyConfigured
from celeriac.wire import compression

__all__ = ["SETTINGS", "sealed", "with_hooks"]

logger = logging.getLogger("celeriac.backend")

#: The settings that are read here.
SETTINGS: Final = (
    "result_compression",
    "result_encryption",
    "result_large_backend",
    "result_large_size",
    "result_serializer",
)


def with_hooks(store: ResultBackend, conf: Mapping[str, Any]) -> ResultBackend:
    """What the application uses in place of `store`, which is that of `result_backend`.

    Raises:
        ImproperlyConfigured: a setting is wrong.

    Example:
        >>> from celeriac.backends.memory import MemoryBackend
        >>> plain = MemoryBackend("memory://hooks-example", {})
        >>> with_hooks(plain, dict.fromkeys(SETTINGS)) is plain
        True
    """
    if not any(conf[name] for name in ("result_compression", "result_encryption", "result_large_backend")):
        return store
    if not store.capabilities.stores:
        return store
    url = str(conf.get("result_backend") or "")
    store = sealed(store, url, conf)
    second = conf["result_large_backend"]
    if not second:
        return store
    if not store.capabilities.shared:
        raise ImproperlyConfigured(
            f"result_large_backend needs a result store that everybody can read; {store.describe()} sends "
            "results to whoever made the call."
        )
    from celeriac.backends.large import Large  # few need it

    size = int(conf["result_large_size"])
    options = {name: conf[name] for name in plugins.backend_settings(second)}
    big = sealed(plugins.backend_from_url(second, options), second, conf)
    return Large(store, big, size, conf["result_serializer"] or "json")


def sealed(store: ResultBackend, url: str, conf: Mapping[str, Any]) -> ResultBackend:
    """`store`, or what compresses and encrypts around it. Raises `ImproperlyConfigured`."""
    method, codec = conf["result_compression"], conf["result_encryption"]
    if method:
        compression.compress(b"", method)  # raises now, not in the first worker that has a result
    if method and "result_compression" in plugins.backend_settings(url):
        method = None  # it does it itself, in Celery's way
    elif method and not (store.capabilities.verbatim and store.capabilities.shared):
        logger.warning("result_compression is ignored: %s cannot hold compressed results.", store.describe())
        method = None
    if not method and codec is None:
        return store
    from celeriac.backends.sealed import Sealed  # few need it

    return Sealed(
        store, method, None if codec is None else _codec(codec), conf["result_serializer"] or "json"
    )


def _codec(value: Any) -> Any:
    """The object itself, what is at its path, or what a class there makes."""
    if isinstance(value, str):
        try:
            value = plugins.load_class(value)
        except (ImportError, AttributeError, ValueError) as exc:
            raise ImproperlyConfigured(f"result_encryption = {value!r} cannot be imported: {exc}") from exc
    if isinstance(value, type):
        value = value()
    if not all(callable(getattr(value, name, None)) for name in ("encode", "decode")):
        raise ImproperlyConfigured(
            f"result_encryption is {value!r}; it must be an object with encode(bytes) and decode(bytes), "
            "or its path as 'package.module:name'."
        )
    return value
