"""Results in memcached, through pymemcache: Celery's names, Celery's placing on several servers.

1. `MemcachedBackend`: the seam, by `keyvalue.py`.
2. `Memcached`: bytes under names on one or more servers, which share the names by rendezvous hashing.

A memcached forgets everything when it is restarted, and what was not asked for lately when it is full.
URL: see `celeriac.backends.cache`.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from pymemcache import exceptions as memcache  # type: ignore[import-untyped]
from pymemcache.client.base import PooledClient, normalize_server_spec  # type: ignore[import-untyped]
from pymemcache.client.rendezvous import RendezvousHash  # type: ignore[import-untyped]

from celeriac.backends.keyvalue import Item, KeyValueBackend
from celeriac.exceptions import EncodeError, ImproperlyConfigured, OperationalError
from celeriac.utils.batches import batches, sized_batches
from celeriac.utils.perprocess import PerProcess

__all__ = ["Memcached", "MemcachedBackend"]

T = TypeVar("T")

#: Names, and bytes, in one trip.
_NAMES: Final = 200
_BYTES: Final = 1 << 20
#: Longer times than this the server takes for a date.
_MONTH: Final = 30 * 86400
#: Values that the clients pylibmc and python-memcached have compressed carry this flag.
_COMPRESSED: Final = 8
#: Of `cache_backend_options`: ours, and those of other clients that mean nothing to the text protocol.
_OPTIONS: Final = (
    "connect_timeout",
    "timeout",
    "no_delay",
    "max_pool_size",
    "pool_idle_timeout",
    "tls_context",
)
_IGNORED: Final = ("behaviors", "binary")


class MemcachedBackend(KeyValueBackend):
    """See `celeriac.backends.base.ResultBackend`.

    Options: the setting `cache_backend_options`: `timeout` (5) and `connect_timeout` (4) in seconds,
    `no_delay`, `max_pool_size`, `pool_idle_timeout`, `tls_context`, as of pymemcache's clients;
    `global_keyprefix`.

    Example:
        >>> MemcachedBackend("memcached://one:11211;two/", {}).describe()
        'memcached://one:11211;two:11211'
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(Memcached(_servers(url), _client_options(options)), options)


class Memcached:
    """See `celeriac.backends.keyvalue.Names`."""

    def __init__(self, servers: Sequence[str], options: Mapping[str, Any]) -> None:
        specs = [normalize_server_spec(server) for server in servers]
        self._clients = {_node(spec): _client(spec, options) for spec in specs}
        self._placing = RendezvousHash(list(self._clients))

    # -- names -----------------------------------------------------------------------------------------------

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        for node, names in self._placed(keys).items():
            for some in batches(names, _NAMES):
                found.update(self._ask(node, partial(PooledClient.get_many, keys=some)))
        return found

    def put_many(self, items: Sequence[Item]) -> Mapping[str, str]:
        refused: dict[str, str] = {}
        by_name = {item.key: item for item in items}
        for node, names in self._placed(list(by_name)).items():
            for trip in _trips(by_name[name] for name in names):
                refused |= self._put(node, trip)
        return refused

    def _put(self, node: str, trip: Sequence[Item]) -> Mapping[str, str]:
        values, lasts = {item.key: item.value for item in trip}, _lasts(trip[0].ttl)
        try:
            self._ask(node, lambda client: client.set_many(values, lasts, noreply=False))
        except memcache.MemcacheServerError as exc:
            if len(trip) > 1:  # find the one that is refused: the others must not suffer for it
                middle = len(trip) // 2
                return {**self._put(node, trip[:middle]), **self._put(node, trip[middle:])}
            return {trip[0].key: self._refusal(node, trip[0], exc)}
        return {}

    def _refusal(self, node: str, item: Item, exc: Exception) -> str:
        if "too large" not in str(exc):
            raise OperationalError(f"memcached at {node} stores nothing: {exc}") from exc
        return (
            f"it has {len(item.value):,} bytes, more than memcached at {node} takes "
            "(1 MB, unless it is started with a larger -I)."
        )

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        node = self._placing.get_node(key)
        try:
            return bool(self._ask(node, lambda client: client.add(key, value, _lasts(ttl), noreply=False)))
        except memcache.MemcacheServerError as exc:
            raise EncodeError(self._refusal(node, Item(key, value), exc)) from exc

    def delete(self, keys: Sequence[str]) -> None:
        for node, names in self._placed(keys).items():
            for some in batches(names, _NAMES):
                self._ask(node, partial(PooledClient.delete_many, keys=some, noreply=False))

    def expire(self, prefixes: Sequence[str]) -> int:
        """Nothing to do: memcached expires by itself."""
        return 0

    # -- servers ---------------------------------------------------------------------------------------------

    def _placed(self, keys: Sequence[str]) -> Mapping[str, list[str]]:
        """Names by the server that has them: as pymemcache's HashClient, and so Celery, places them."""
        if len(self._clients) == 1:
            return {next(iter(self._clients)): list(keys)} if keys else {}
        placed: dict[str, list[str]] = {}
        for key in keys:
            placed.setdefault(self._placing.get_node(key), []).append(key)
        return placed

    def _ask(self, node: str, question: Callable[[Any], T]) -> T:
        """Ask one server; once more if the connection turns out to be lost, as one that was idle may be.

        Raises `MemcacheServerError` when it refuses, `OperationalError` when it cannot be reached.
        """
        for again in (True, False):
            client = self._clients[node]()
            try:
                return question(client)
            except (OSError, memcache.MemcacheUnexpectedCloseError) as exc:
                client.close()
                if not again or isinstance(exc, TimeoutError):
                    raise OperationalError(f"memcached at {node} cannot be reached: {exc}") from exc
            except memcache.MemcacheServerError:
                raise
            except memcache.MemcacheError as exc:
                raise OperationalError(f"memcached at {node} answers {exc!r}") from exc
        raise AssertionError("unreachable")

    def describe(self) -> str:
        return f"memcached://{';'.join(self._clients)}"

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


class _Plain:
    """Bytes go in as they are; those that another client has compressed come out unpacked."""

    def serialize(self, key: object, value: bytes) -> tuple[bytes, int]:
        return value, 0

    def deserialize(self, key: object, value: bytes, flags: int) -> bytes:
        return zlib.decompress(value) if flags & _COMPRESSED else value


def _trips(items: Iterable[Item]) -> Iterable[Sequence[Item]]:
    """Items of one time to live, not too many at once: they are all sent before an answer is read."""
    by_ttl: dict[int, list[Item]] = {}
    for item in items:
        by_ttl.setdefault(_lasts(item.ttl), []).append(item)
    for group in by_ttl.values():
        yield from sized_batches(group, lambda item: len(item.value), most=_NAMES, most_bytes=_BYTES)


def _lasts(ttl: float | None) -> int:
    """Memcached's time to live: whole seconds, 0 for ever; not less than what was asked for."""
    if ttl is None:
        return 0
    seconds = max(0, int(ttl)) + 1
    return seconds if seconds <= _MONTH else int(time.time()) + seconds


def _client(spec: Any, options: Mapping[str, Any]) -> PerProcess[PooledClient]:
    make = partial(PooledClient, spec, serde=_Plain(), **options)
    return PerProcess(make, lambda client: client.close())


def _node(spec: Any) -> str:
    return spec if isinstance(spec, str) else f"{spec[0]}:{spec[1]}"


def _servers(url: str) -> Sequence[str]:
    """``memcached://one:11211;two/`` → its servers; ``unix:/path`` is one, too."""
    rest = url.partition("://")[2]
    servers = [server.strip().rstrip("/") for server in rest.split(";")]
    for server in servers:
        if "@" in server or "?" in server:
            raise ImproperlyConfigured(
                f"{url!r} is not a memcached URL: write 'cache+memcached://host:port;host2:port/'. There are "
                "no users and passwords; options belong into the setting `cache_backend_options`."
            )
        if not server.startswith("unix:") and not _port_is_fine(server):
            raise ImproperlyConfigured(f"The port in {server!r} of the result backend {url!r} is no number.")
    return [server for server in servers if server] or ["127.0.0.1"]


def _port_is_fine(server: str) -> bool:
    port = server.rpartition("]")[2].rpartition(":")[2] if ":" in server else ""
    return not port or port.isdecimal()


def _client_options(options: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(options.get("cache_backend_options") or {})
    unknown = [name for name in given if name not in _OPTIONS + _IGNORED]
    if unknown:
        raise ImproperlyConfigured(
            f"The setting `cache_backend_options` has no {unknown[0]!r} here. "
            f"Known are: {', '.join(_OPTIONS)}."
        )
    return {
        "connect_timeout": options.get("socket_connect_timeout") or 4.0,
        "timeout": options.get("socket_timeout") or 5.0,
        "no_delay": True,
        **{name: value for name, value in given.items() if name not in _IGNORED},
    }
