"""Results in Redis or Valkey, as Celery keeps them there.

1. `RedisBackend`: ``celery-task-meta-<id>`` with an expiry, published on a channel of the same name;
   ``celery-taskset-meta-<id>`` for groups.
2. `RedisWatch`: those channels, as documents by task id.

Not here: chords (`redis_chords.py`).

URL: see `celeriac.transport.redis.url.parse`. Options: `global_keyprefix` and those of the transport.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from celeriac.backends.base import BackendCapabilities, ResultTarget, StoredResult
from celeriac.backends.keyvalue import key_prefix
from celeriac.backends.redis_chords import RedisChords
from celeriac.transport.redis.link import Link, pack
from celeriac.transport.redis.pool import Pool, checked
from celeriac.transport.redis.subscription import Subscription
from celeriac.transport.redis.url import parse

__all__ = ["RedisBackend", "RedisWatch"]

TASK: Final = "celery-task-meta-"
GROUP: Final = "celery-taskset-meta-"
#: Stores and publishes a document if what is there is still what was seen. ARGV: that (empty: nothing), the
#: document, milliseconds until it expires (0: never).
_PUT_IF: Final = b"""
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1"""
#: Keys in one command.
_CHUNK: Final = 1000


class RedisWatch:
    """See `celeriac.backends.base.Watch`."""

    replays = True

    def __init__(self, subscription: Subscription, prefix: bytes) -> None:
        self._subscription = subscription
        self._prefix = prefix

    def add(self, ids: Iterable[str]) -> None:
        self._subscription.add([self._prefix + task_id.encode() for task_id in ids])

    def discard(self, ids: Iterable[str]) -> None:
        self._subscription.discard([self._prefix + task_id.encode() for task_id in ids])

    def wait(self, timeout: float | None) -> Mapping[str, bytes]:
        skip = len(self._prefix)
        return {name[skip:].decode(): document for name, document in self._subscription.wait(timeout)}

    def wake(self) -> None:
        self._subscription.wake()

    def close(self) -> None:
        self._subscription.close()


class RedisBackend:
    """See `celeriac.backends.base.ResultBackend`.

    Example:
        >>> RedisBackend("redis://localhost:6379/1", {}).target().prefix
        'celery-task-meta-'
    """

    capabilities: BackendCapabilities = BackendCapabilities(native_chord=True, compares=True)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.server = parse(url, options)
        self._pool = Pool(self.server)
        prefix = key_prefix(options)
        self._task = prefix + TASK
        self._group = prefix + GROUP
        self.chords = RedisChords(self._pool, self._group)

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, Any]) -> RedisBackend:
        return cls(url, options)

    def store(self, batch: Sequence[StoredResult]) -> None:
        self._put([(self._task + task_id, document, ttl) for task_id, document, ttl, _ in batch])

    def store_if(self, batch: Sequence[StoredResult], seen: Mapping[str, bytes]) -> None:
        commands = []
        for task_id, document, ttl, _ in batch:
            key = (self._task + task_id).encode()
            expiry = 0 if ttl is None else max(1, int(ttl * 1000))
            words = (b"EVAL", _PUT_IF, 1, key, seen.get(task_id, b""), document, expiry)
            commands.append((key, [pack(words)]))
        for key, data in self._by_node(commands):
            self._pool.run(key, _trip(data))

    def _put(self, items: Sequence[tuple[str, bytes, float | None]]) -> None:
        commands = [(key.encode(), _set_and_publish(key, document, ttl)) for key, document, ttl in items]
        for key, data in self._by_node(commands):
            self._pool.run(key, _trip(data))

    def _by_node(self, commands: Sequence[tuple[bytes, list[bytes]]]) -> Iterable[tuple[bytes, list[bytes]]]:
        """One trip; on a cluster, one for each key."""
        if self._pool.is_cluster or not commands:
            return commands
        return [(commands[0][0], [word for _, words in commands for word in words])]

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        skip = len(self._task)
        keys = [(self._task + task_id).encode() for task_id in ids]
        return {key.decode()[skip:]: document for key, document in self._load(keys).items()}

    def _load(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        size = 1 if self._pool.is_cluster else _CHUNK
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), size):
            some = keys[start : start + size]
            values = self._call(some[0], b"MGET", *some)
            found.update((key, value) for key, value in zip(some, values, strict=True) if value is not None)
        return found

    def forget(self, ids: Sequence[str]) -> None:
        self._delete([(self._task + task_id).encode() for task_id in ids])

    def _delete(self, keys: Sequence[bytes]) -> None:
        size = 1 if self._pool.is_cluster else _CHUNK
        for start in range(0, len(keys), size):
            self._call(keys[start], b"DEL", *keys[start : start + size])

    def watch(self, ids: Iterable[str] = ()) -> RedisWatch:
        watch = RedisWatch(Subscription(self._pool, self._load), self._task.encode())
        watch.add(ids)
        return watch

    def target(self) -> ResultTarget | None:
        return None if self._pool.is_cluster else ResultTarget(self.server.location, self._task)

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None:
        self._put([(self._group + group_id, document, ttl)])

    def load_group(self, group_id: str) -> bytes | None:
        key = (self._group + group_id).encode()
        return self._load([key]).get(key)

    def delete_group(self, group_id: str) -> None:
        self._delete([(self._group + group_id).encode()])

    def expire(self) -> int:
        """Nothing to do: Redis expires by itself."""
        return 0

    def describe(self) -> str:
        place = self.server.path or ",".join(f"{host}:{port}" for host, port in self.server.addresses)
        return f"redis://{place}/{self.server.db}"

    def close(self) -> None:
        self._pool.close()

    def _call(self, key: bytes, *words: bytes) -> Any:
        def ask(link: Link, until: float) -> Any:
            return link.call(*words, deadline=until)

        return self._pool.run(key, ask)


def _trip(commands: Sequence[bytes]) -> Callable[[Link, float], Sequence[Any]]:
    return lambda link, until: checked(link.pipeline(commands, until), link.where)


def _set_and_publish(key: str, document: bytes, ttl: float | None) -> list[bytes]:
    expiry: tuple[Any, ...] = () if ttl is None else (b"PX", max(1, int(ttl * 1000)))
    return [pack((b"SET", key, document, *expiry)), pack((b"PUBLISH", key, document))]
