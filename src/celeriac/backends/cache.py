"""The result backend that Celery calls `cache`: which cache a URL, or the setting `cache_backend`, means.

`CacheBackend`: makes the store, `memory.py` or `memcached.py`.

URLs: ``cache+memcached://host:port;host2/``, ``memcached://…``, ``memcache://…``; ``cache+memory://``;
``cache`` alone: what the setting `cache_backend` says, e.g. ``memcached://127.0.0.1:11211/`` or ``memory``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from celeriac.backends.base import ResultBackend
from celeriac.exceptions import ImproperlyConfigured

__all__ = ["CacheBackend"]

#: Celery's names of client libraries; the protocol is the same, and so is our client.
_MEMCACHED: Final = ("memcached", "memcache", "pymemcache", "pylibmc", "python-memcached")


def CacheBackend(url: str, options: Mapping[str, Any]) -> ResultBackend:
    """The store that `url` means; nothing is connected.

    Example:
        >>> CacheBackend("cache://", {"cache_backend": "memory://shop"}).describe()
        'memory://shop'
    """
    scheme, _, rest = url.partition("://")
    if scheme.lower() == "cache":
        named = str(options.get("cache_backend") or "")
        if not named:
            raise ImproperlyConfigured(
                "The result backend 'cache' does not say which cache. Set result_backend = "
                "'cache+memcached://127.0.0.1:11211/', or the setting `cache_backend`."
            )
        scheme, _, rest = named.partition("://")
    kind = scheme.lower().removeprefix("cache+")
    if kind == "memory":
        from celeriac.backends.memory import MemoryBackend

        return MemoryBackend(f"memory://{rest}", {})
    if kind in _MEMCACHED:
        from celeriac.backends.memcached import MemcachedBackend

        return MemcachedBackend(f"memcached://{rest}", options)
    raise ImproperlyConfigured(
        f"There is no cache {kind!r} for results. Known are memcached and memory, as in "
        "result_backend = 'cache+memcached://127.0.0.1:11211/'."
    )
