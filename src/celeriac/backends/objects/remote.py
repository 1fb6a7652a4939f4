"""Bytes under names in a storage that fsspec speaks to: S3, Google Cloud Storage, Azure, and others.

`Objects`: one object each. It needs of the storage that objects appear whole or not at all, and (for chords)
that an object can be made only if there is none. Objects do not expire by themselves: `expire` deletes those
that were written longer than `result_expires` ago; a rule of the bucket does it cheaper.

The one importer of fsspec.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import fsspec  # type: ignore[import-untyped]

from celeriac.backends.keyvalue import Item
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.utils.batches import batches
from celeriac.utils.perprocess import PerProcess

__all__ = ["Objects"]

#: Objects that one request deletes.
_AT_ONCE: Final = 1000
#: Where storages say when an object was written.
_DATES: Final = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


class Objects:
    """See `celeriac.backends.keyvalue.Names`.

    Args:
        protocol: fsspec's name of the storage.
        root: what all names begin with: bucket, slash, and any more.
        options: of fsspec's filesystem.
        expires: seconds, as the setting `result_expires`; None: nothing expires.
        extra: what to install of this package for the storage.

    Example:
        >>> objects = Objects("memory", "bucket/", {}, 60.0)
        >>> objects.put_many([Item("a", b"1")])
        {}
        >>> objects.get_many(["a", "b"]), objects.add("a", b"2", None)
        ({'a': b'1'}, False)
        >>> objects.delete(["a", "b"])
    """

    def __init__(
        self, protocol: str, root: str, options: Mapping[str, Any], expires: float | None, extra: str = ""
    ) -> None:
        try:
            fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as exc:
            advice = f"Run: pip install 'celeriac[{extra}]'" if extra else str(exc)
            raise ImproperlyConfigured(
                f"There is no driver for the storage {protocol!r} of results. {advice}"
            ) from exc
        self._protocol = protocol
        self._root = root
        self._expires = expires or None
        self._exclusive = False  # it has shown that it makes an object only if there is none
        #: Connections, and the thread that serves them, do not survive a fork.
        self._storage: PerProcess[Any] = PerProcess(
            partial(
                fsspec.filesystem, protocol, skip_instance_cache=True, use_listings_cache=False, **options
            )
        )

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        if not keys:
            return {}
        with self._trouble():
            storage = self._storage()
            names = {storage._strip_protocol(self._root + key): key for key in keys}
            values = storage.cat(list(names), on_error="return")
            found = {}
            for name, value in values.items():
                if isinstance(value, FileNotFoundError):
                    continue
                if isinstance(value, Exception):
                    raise value
                found[names[name]] = value
        return found

    def put_many(self, items: Sequence[Item]) -> Mapping[str, str]:
        if items:
            with self._trouble():
                self._storage().pipe({self._root + item.key: item.value for item in items})
        return {}

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        if not self._create(key, value):
            return False
        if not self._exclusive:  # some servers with S3's protocol make an object twice, and say nothing
            if self._create(key, value):
                raise ImproperlyConfigured(
                    f"Chords cannot be counted in {self.describe()}: this storage makes an object although "
                    "there is one of that name. Set result_backend to another store."
                )
            self._exclusive = True
        return True

    def _create(self, key: str, value: bytes) -> bool:
        with self._trouble():
            try:
                self._storage().pipe_file(self._root + key, value, mode="create")
            except FileExistsError:
                return False
        return True

    def delete(self, keys: Sequence[str]) -> None:
        with self._trouble():
            self._delete([self._root + key for key in keys])

    def expire(self, prefixes: Sequence[str]) -> int:
        if self._expires is None:
            return 0
        with self._trouble():
            old = list(self._old(tuple(prefixes), time.time() - self._expires))
            for some in batches(old, _AT_ONCE):
                self._delete(some)
        return len(old)

    def describe(self) -> str:
        return f"{self._protocol}://{self._root}"

    def close(self) -> None:
        """Connections are fsspec's; they end with the process."""
        self._storage.close()

    # -- the storage -----------------------------------------------------------------------------------------

    def _delete(self, paths: Sequence[str]) -> None:
        storage = self._storage()
        try:
            if paths:
                storage.rm(list(paths))
        except FileNotFoundError:  # where that is an error, it says nothing of the others
            for path in paths:
                try:
                    storage.rm_file(path)
                except FileNotFoundError:
                    continue

    def _old(self, prefixes: tuple[str, ...], before: float) -> Iterator[str]:
        """Paths of the objects that were written before a time."""
        storage = self._storage()
        root = storage._strip_protocol(self._root + "x")[:-1]
        storage.invalidate_cache()
        for path, about in storage.find(root.rpartition("/")[0], maxdepth=1, detail=True).items():
            if path.startswith(tuple(root + prefix for prefix in prefixes)):
                written = _written(about)
                if written is not None and written < before:
                    yield path

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """Storages raise what their libraries raise; all of it means that the store cannot be reached now."""
        try:
            yield
        except Exception as exc:
            raise OperationalError(f"The results in {self.describe()} cannot be reached: {exc!r}") from exc


def _written(about: Mapping[str, Any]) -> float | None:
    """When an object was written, as Unix time."""
    for name in _DATES:
        value = about.get(name)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return None
