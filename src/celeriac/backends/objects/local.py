"""Bytes under names in one folder: a file each, as Celery's filesystem backend keeps them.

`LocalFiles`: written beside and renamed, so a reader finds the whole of a document or none. A file's time of
change says when it expires, as Celery reckons: that time and `result_expires` seconds. Where something is to
be kept for another time, the file is dated forward or back.

A file survives its writer, but for some seconds not the power cut of its machine: nothing is forced to disk.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from celeriac.backends.keyvalue import Item
from celeriac.exceptions import OperationalError

__all__ = ["LocalFiles"]

#: Files that are being written; one that is older (in seconds) was left by a process that died.
_HALF: Final = ".celeriac-"
_ABANDONED: Final = 3600.0
#: Seconds: as good as for ever.
_EVER: Final = 10 * 366 * 86400.0


class LocalFiles:
    """See `celeriac.backends.keyvalue.Names`.

    Args:
        folder: made when it is missing, if its parent is there.
        expires: seconds, as the setting `result_expires`; None: nothing expires.

    Example:
        >>> import tempfile
        >>> files = LocalFiles(tempfile.mkdtemp(), 60.0)
        >>> files.put_many([Item("a", b"1")])
        {}
        >>> files.get_many(["a", "b"]), files.add("a", b"2", None)
        ({'a': b'1'}, False)
    """

    def __init__(self, folder: str | Path, expires: float | None) -> None:
        self._folder = os.path.abspath(folder)
        self._expires = expires or None

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        found = {}
        for key in keys:
            try:
                with open(self._path(key), "rb", buffering=0) as file:
                    if not self._is_over(os.fstat(file.fileno())):
                        found[key] = file.read()
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise self._trouble(exc) from exc
        return found

    def put_many(self, items: Sequence[Item]) -> Mapping[str, str]:
        try:
            for key, value, ttl in items:
                os.replace(self._write(value, ttl), self._path(key))
        except OSError as exc:
            raise self._trouble(exc) from exc
        return {}

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        path = self._path(key)
        try:
            half = self._write(value, ttl)
            try:
                os.link(half, path)
            except FileExistsError:
                if not self._remove_if_over(path):
                    return False
                os.link(half, path)
            finally:
                os.unlink(half)
        except FileExistsError:
            return False
        except OSError as exc:
            raise self._trouble(exc) from exc
        return True

    def delete(self, keys: Sequence[str]) -> None:
        try:
            for key in keys:
                _unlink(self._path(key))
        except OSError as exc:
            raise self._trouble(exc) from exc

    def expire(self, prefixes: Sequence[str]) -> int:
        count, now = 0, time.time()
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    try:
                        if entry.name.startswith(_HALF):
                            if entry.stat().st_mtime < now - _ABANDONED:
                                _unlink(entry.path)
                        elif entry.name.startswith(tuple(prefixes)) and self._is_over(entry.stat()):
                            count += _unlink(entry.path)
                    except FileNotFoundError:
                        continue  # another process was faster
        except FileNotFoundError:
            return 0  # nothing was ever stored
        except OSError as exc:
            raise self._trouble(exc) from exc
        return count

    def describe(self) -> str:
        return f"file://{self._folder}"

    def close(self) -> None:
        """Nothing is open."""

    # -- files -----------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return os.path.join(self._folder, key)

    def _write(self, value: bytes, ttl: float | None) -> str:
        """A new file that nobody looks at; its path."""
        path = self._path(f"{_HALF}{uuid.uuid4().hex}")
        if not os.path.isdir(self._folder):
            Path(self._folder).mkdir(exist_ok=True)
        try:
            with open(path, "xb", buffering=0) as file:
                left = memoryview(value)
                while left:
                    left = left[file.write(left) :]
                if self._expires is not None and ttl != self._expires:
                    now = time.time()
                    os.utime(file.fileno(), (now, now + (_EVER if ttl is None else ttl) - self._expires))
        except OSError:
            _unlink(path)
            raise
        return path

    def _is_over(self, about: os.stat_result) -> bool:
        return self._expires is not None and about.st_mtime + self._expires <= time.time()

    def _remove_if_over(self, path: str) -> bool:
        """Whether the way is free. What is removed is looked at again: it may have been replaced just now."""
        try:
            if not self._is_over(os.stat(path)):
                return False
            aside = self._path(f"{_HALF}{uuid.uuid4().hex}")
            os.rename(path, aside)
        except FileNotFoundError:
            return True
        try:
            if self._is_over(os.stat(aside)):
                return True
            os.link(aside, path)
            return False
        finally:
            os.unlink(aside)

    def _trouble(self, exc: OSError) -> OperationalError:
        hint = ""
        if exc.errno == errno.ENOENT:
            hint = " Its parent folder has to exist."
        elif exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = " The worker and its clients need the right to write there."
        return OperationalError(f"The results in {self._folder} cannot be reached: {exc}.{hint}")


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True
