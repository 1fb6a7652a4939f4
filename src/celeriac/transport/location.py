"""Where an embedded store is: a URL and its options, checked; the file and its folder, made safely.

1. `Location`: the parsed URL.
2. `make_file`, `identity`: the file system's side of opening a store.
3. `network_file_system`: says what the file is on, where that can be known.

Not here: SQLite (`sqlite.py`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from celeriac.exceptions import ImproperlyConfigured

__all__ = ["Location", "identity", "make_file", "network_file_system"]

DEFAULT_FILE: Final = os.path.join(".celeriac", "celeriac.db")
SYNCHRONOUS: Final = ("NORMAL", "FULL", "EXTRA", "OFF")
#: Seconds to wait for the write lock when the caller names no deadline.
TIMEOUT: Final = 10.0
#: File systems on which locks or shared memory between hosts do not hold.
_NETWORK: Final = frozenset(
    ["9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"]
)


class Location(NamedTuple):
    """Where a store is and how it is to be opened."""

    path: str
    synchronous: str = "NORMAL"
    timeout: float = TIMEOUT
    clock: Callable[[], float] = time.time

    @classmethod
    def parse(cls, url: str, options: Mapping[str, Any]) -> Location:
        """Read `sqlite://` (the default file), `sqlite:///relative.db` or `sqlite:////absolute.db`.

        `?synchronous=FULL` and `?timeout=5` (seconds) may follow; `options` may hold the same, and `clock`.
        """
        name, _, query = url.partition("://")[2].partition("?")
        if name and not name.startswith("/"):
            raise ImproperlyConfigured(
                f"The URL {url!r} has a host, {name.partition('/')[0]!r}; a file has none. Write three "
                f"slashes for a path relative to the working directory (sqlite:///{name}), or four for an "
                "absolute one."
            )
        path = unquote(name[1:]) or DEFAULT_FILE
        if path == ":memory:":
            raise ImproperlyConfigured(
                "A SQLite database in memory belongs to one connection, so it cannot carry tasks. Use "
                "memory:// for one process, or sqlite:///path/to/file.db."
            )
        given = {**dict(parse_qsl(query, keep_blank_values=True)), **_ours(options)}
        unknown = sorted(given.keys() - {"synchronous", "timeout", "clock"})
        if unknown:
            raise ImproperlyConfigured(
                f"Unknown option {unknown[0]!r} in {url!r}. There are: synchronous, timeout."
            )
        return cls(
            os.path.abspath(os.path.expanduser(path)),
            _synchronous(given.get("synchronous", "NORMAL")),
            _seconds(given.get("timeout", TIMEOUT)),
            given.get("clock", time.time),
        )


def _ours(options: Mapping[str, Any]) -> dict[str, Any]:
    """Transport options are shared with other brokers (`visibility_timeout`, …): take what is for us."""
    return {key: options[key] for key in ("synchronous", "timeout", "clock") if key in options}


def _synchronous(value: object) -> str:
    if str(value).upper() not in SYNCHRONOUS:
        raise ImproperlyConfigured(
            f"synchronous={value!r} is unknown. Choose one of: {', '.join(SYNCHRONOUS)}."
        )
    return str(value).upper()


def _seconds(value: object) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise ImproperlyConfigured(f"timeout={value!r} is no number of seconds above 0.")
    return seconds


def make_file(path: str) -> None:
    """Create an empty file for this user alone, in the default folder that too; several may do it at once."""
    folder = os.path.dirname(path)
    if os.path.basename(folder) == ".celeriac":
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        with contextlib.suppress(FileExistsError), open(os.path.join(folder, ".gitignore"), "x") as ignore:
            ignore.write("*\n")
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def identity(path: str) -> tuple[int, int] | None:
    """What tells this file from another one of the same name; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def network_file_system(path: str) -> str:
    """The type of the network file system that `path` is on; empty when it is on none, or nobody knows."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            entries = [line.split()[1:3] for line in mounts]
    except OSError:
        return ""
    real = os.path.realpath(path)
    around = [(len(point), kind) for point, kind in entries if os.path.commonpath([real, point]) == point]
    kind = max(around, default=(0, ""))[1]
    return kind if kind in _NETWORK else ""
