"""Results in stores that keep bytes under names, with Celery's names: memcached, files, object stores.

1. `Names`: what such a store has to be able to do; `Item`.
2. `KeyValueBackend`: the seam of result stores over it; chords by `chords.py`.
3. `key_prefix`: the option `global_keyprefix`, as Celery reads it.

Documents are stored as they are, so Celery reads ours and we read Celery's. Nobody tells a waiting client
that one has come: it looks (`polling.py`). Not here: the stores themselves.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from celeriac import states
from celeriac.backends.base import BackendCapabilities, ResultTarget, StoredResult
from celeriac.backends.chords import KeyValueChords
from celeriac.backends.polling import PollingWatch, Seen
from celeriac.exceptions import EncodeError
from celeriac.wire.results import encode_result, is_final

__all__ = ["EXPIRES", "GROUP", "TASK", "Item", "KeyValueBackend", "Names", "key_prefix"]

logger = logging.getLogger("celeriac.backend")

TASK: Final = "celery-task-meta-"
GROUP: Final = "celery-taskset-meta-"
CHORD: Final = "celeriac-chord-"
#: Seconds that results are kept when nobody says how long.
EXPIRES: Final = 86400.0

#: Names that every store takes; memcached's limit is 250 bytes, that of files 255.
_LONGEST: Final = 250
_PLAIN: Final = re.compile(r"[\w.:@+=,~-]+", re.ASCII)


class Item(NamedTuple):
    """What is kept under a name; `ttl`: for how many seconds, None: for ever."""

    key: str
    value: bytes
    ttl: float | None = None


class Names(Protocol):
    """Keeps bytes under names. Batch-first, thread-safe, fork-safe; raises `OperationalError` when it cannot.

    Names are plain: ASCII letters, digits and some punctuation, no slash, 250 characters at most.
    """

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Values by name; those that are not there, or have expired, are absent."""

    def put_many(self, items: Sequence[Item]) -> Mapping[str, str]:
        """Store, in place of what was there. Returns the names of those that the store does not take (and
        never will), with the reason."""

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        """See `celeriac.backends.chords.KeyValues`."""

    def delete(self, keys: Sequence[str]) -> None:
        """Unknown names are no error."""

    def expire(self, prefixes: Sequence[str]) -> int:
        """Delete what has expired among the names that begin so, where the store does not do it by itself."""

    def describe(self) -> str: ...

    def close(self) -> None: ...


def key_prefix(options: Mapping[str, Any]) -> str:
    """What all names begin with: the option `global_keyprefix`; a separator is added, as Celery does.

    Example:
        >>> key_prefix({"global_keyprefix": "shop"}), key_prefix({"global_keyprefix": "shop:"})
        ('shop_', 'shop:')
    """
    prefix = str(options.get("global_keyprefix") or "")
    return f"{prefix}_" if prefix and prefix[-1] not in ":_-." else prefix


class KeyValueBackend:
    """See `celeriac.backends.base.ResultBackend`.

    Args:
        names: where it is kept.
        options: `global_keyprefix`; the setting `result_serializer`.
        first: seconds after which somebody who waits looks for the second time.
    """

    capabilities: BackendCapabilities = BackendCapabilities(push=False, native_chord=True)

    def __init__(self, names: Names, options: Mapping[str, Any], *, first: float | None = None) -> None:
        prefix = key_prefix(options)
        self.chords = KeyValueChords(_ForChords(names), prefix + CHORD)
        self._names = names
        self._task, self._group, self._chord = prefix + TASK, prefix + GROUP, prefix + CHORD
        self._serializer = str(options.get("result_serializer") or "json")
        self._first = first

    # -- store, load, forget ---------------------------------------------------------------------------------

    def store(self, batch: Sequence[StoredResult]) -> None:
        named = {_name(self._task, result.task_id): result for result in batch}
        refused = self._names.put_many([Item(key, each.document, each.ttl) for key, each in named.items()])
        if refused:
            self._store_failures({key: named[key] for key in refused}, refused)

    def _store_failures(self, named: Mapping[str, StoredResult], refused: Mapping[str, str]) -> None:
        """A failure stands for a result that the store does not take: nobody must wait for it for ever."""
        items = []
        for key, result in named.items():
            logger.error("The result of task %s is not stored: %s", result.task_id, refused[key])
            error = EncodeError(f"The result cannot be stored: {refused[key]}")
            document = encode_result(result.task_id, states.FAILURE, error, serializer=self._serializer)
            items.append(Item(key, document, result.ttl))
        self._names.put_many(items)

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        names = {_name(self._task, task_id): task_id for task_id in ids}
        found = self._names.get_many(list(names)) if names else {}
        return {names[key]: document for key, document in found.items()}

    def forget(self, ids: Sequence[str]) -> None:
        if ids:
            self._names.delete([_name(self._task, task_id) for task_id in dict.fromkeys(ids)])

    def watch(self, ids: Iterable[str] = ()) -> PollingWatch:
        if self._first is None:
            return PollingWatch(self._look, ids)
        return PollingWatch(self._look, ids, first=self._first)

    def _look(self, ids: Sequence[str]) -> Mapping[str, Seen]:
        return {
            task_id: Seen(document, is_final(document, self._serializer))
            for task_id, document in self.load(ids).items()
        }

    def target(self) -> ResultTarget | None:
        return None

    # -- groups ----------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None:
        """Raises `EncodeError` when the store does not take it."""
        key = _name(self._group, group_id)
        refused = self._names.put_many([Item(key, document, ttl)])
        if refused:
            raise EncodeError(f"The group {group_id} cannot be saved: {refused[key]}")

    def load_group(self, group_id: str) -> bytes | None:
        key = _name(self._group, group_id)
        return self._names.get_many([key]).get(key)

    def delete_group(self, group_id: str) -> None:
        self._names.delete([_name(self._group, group_id)])

    # -- the store -------------------------------------------------------------------------------------------

    def expire(self) -> int:
        """Delete what has expired, where the store does not do it by itself; return how many."""
        return self._names.expire((self._task, self._group, self._chord))

    def describe(self) -> str:
        return self._names.describe()

    def close(self) -> None:
        self._names.close()


class _ForChords:
    """See `celeriac.backends.chords.KeyValues`."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        plain = {_name("", key): key for key in keys}
        return {plain[name]: value for name, value in self._names.get_many(list(plain)).items()}

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        for reason in self._names.put_many([Item(_name("", key), value, ttl)]).values():
            raise EncodeError(f"The member of a chord cannot be stored: {reason}")

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        return self._names.add(_name("", key), value, ttl)

    def delete(self, keys: Sequence[str]) -> None:
        self._names.delete([_name("", key) for key in keys])


def _name(prefix: str, id_: str) -> str:
    """Celery's name; of an id that not every store takes, a name made from its hash."""
    if len(prefix) + len(id_) <= _LONGEST and _PLAIN.fullmatch(id_):
        return prefix + id_
    return f"{prefix}sha256-{hashlib.sha256(id_.encode('utf-8', 'surrogatepass')).hexdigest()}"
