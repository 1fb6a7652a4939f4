"""Results in Tokyo Tyrant, over its binary protocol. Legacy: for who still has such a server.

1. `TyrantBackend`: the seam, by `keyvalue.py`.
2. `Tyrant`: bytes under names. A value is the time at which it expires (8 bytes, a big-endian double) and
   what is kept; records ``celeriac-expiry-<hour>`` list the names that expire in an hour, for `expire`.
3. `Link`: one connection, one request at a time.

URL: ``tyrant://host:port``; 1978 is the port. The protocol has no users, no encryption.
"""

from __future__ import annotations

import math
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from celeriac.backends.keyvalue import Item, KeyValueBackend
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.utils.batches import batches
from celeriac.utils.perprocess import PerProcess

__all__ = ["Link", "Tyrant", "TyrantBackend"]

T = TypeVar("T")

PORT: Final = 1978
#: Commands: the magic byte and a number.
PUT, PUTKEEP, PUTCAT, OUT = b"\xc8\x10", b"\xc8\x11", b"\xc8\x12", b"\xc8\x20"
MGET, FWMKEYS = b"\xc8\x31", b"\xc8\x58"

_WHEN: Final = struct.Struct(">d")
_SIZE: Final = struct.Struct(">I")
_SIZES: Final = struct.Struct(">II")
_LISTED: Final = "celeriac-expiry-"
_HOUR: Final = 3600.0
#: Names in one request.
_AT_ONCE: Final = 500


class TyrantBackend(KeyValueBackend):
    """See `celeriac.backends.base.ResultBackend`.

    Options: the settings `tyrant_host` and `tyrant_port`, where the URL does not say it; `socket_timeout` and
    `socket_connect_timeout` in seconds; `global_keyprefix`.

    Example:
        >>> TyrantBackend("tyrant://old-server", {}).describe()
        'tyrant://old-server:1978'
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        host, port = _address(url, options)
        patience = (options.get("socket_connect_timeout") or 4.0, options.get("socket_timeout") or 5.0)
        super().__init__(Tyrant(host, port, *patience), options)


class Tyrant:
    """See `celeriac.backends.keyvalue.Names`.

    Args:
        host, port: the server.
        connecting, answering: seconds after which it counts as lost.
    """

    def __init__(self, host: str, port: int, connecting: float = 4.0, answering: float = 5.0) -> None:
        self._server = (host, port)
        self._patience = (connecting, answering)
        self._idle: PerProcess[list[Link]] = PerProcess(list, _close_all)

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        now = time.time()
        return {key: value[8:] for key, value in self._read(keys) if _WHEN.unpack_from(value)[0] > now}

    def _read(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for some in batches(keys, _AT_ONCE):
            yield from self._ask(lambda link, some=some: link.values(some))  # type: ignore[misc]

    def put_many(self, items: Sequence[Item]) -> Mapping[str, str]:
        now = time.time()

        def put(link: Link) -> None:
            for key, names in _by_hour(items, now).items():  # first: what is listed in vain does no harm
                link.change(PUTCAT, key, "".join(f"{name}\n" for name in names).encode())
            for item in items:
                if not link.change(PUT, item.key, _dated(item.value, item.ttl, now)):
                    raise OperationalError(f"{self.describe()} stores nothing.")

        self._ask(put)
        return {}

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        now = time.time()

        def add(link: Link) -> bool:
            for hour, names in _by_hour([Item(key, value, ttl)], now).items():
                link.change(PUTCAT, hour, f"{names[0]}\n".encode())
            return link.change(PUTKEEP, key, _dated(value, ttl, now))

        if self._ask(add):
            return True
        if key in self.get_many([key]):
            return False
        self.delete([key])  # it has expired
        return self._ask(add)

    def delete(self, keys: Sequence[str]) -> None:
        self._ask(lambda link: [link.change(OUT, key) for key in keys])

    def expire(self, prefixes: Sequence[str]) -> int:
        """Delete what has expired, hour by hour; a name that was stored again since is in a later list."""
        count, now = 0, time.time()
        for hour in self._ask(lambda link: link.names(_LISTED)):
            if int(hour.removeprefix(_LISTED)) * _HOUR > now:
                continue
            listed = dict(self._ask(lambda link, hour=hour: link.values([hour]))).get(hour, b"")  # type: ignore[misc]
            names = list(dict.fromkeys(listed.decode().split("\n")[:-1]))
            over = [key for key, value in self._read(names) if _WHEN.unpack_from(value)[0] <= now]
            self.delete([*over, hour])
            count += len(over)
        return count

    def describe(self) -> str:
        return f"tyrant://{self._server[0]}:{self._server[1]}"

    def close(self) -> None:
        self._idle.close()

    def _ask(self, question: Callable[[Link], T]) -> T:
        """Ask; once more over a new connection if this one turns out to be lost, as idle ones may be."""
        for again in (True, False):
            link = None
            try:
                link = self._take() or Link(self._server, *self._patience)
                answer = question(link)
            except OperationalError:  # a refusal: the connection is as good as before
                if link is not None:
                    self._give(link)
                raise
            except (OSError, EOFError) as exc:
                if link is not None:
                    link.close()
                self.close()
                if not again or isinstance(exc, TimeoutError):
                    raise OperationalError(f"{self.describe()} cannot be reached: {exc}") from exc
            else:
                self._give(link)
                return answer
        raise AssertionError("unreachable")

    def _take(self) -> Link | None:
        """A connection that nobody uses."""
        try:
            return self._idle().pop()
        except IndexError:
            return None

    def _give(self, link: Link) -> None:
        self._idle().append(link)


class Link:
    """One connection. Raises `OSError`, and `EOFError` when the server has hung up."""

    def __init__(self, server: tuple[str, int], connecting: float, answering: float) -> None:
        self._socket = socket.create_connection(server, connecting)
        self._socket.settimeout(answering)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def change(self, command: bytes, key: str, value: bytes | None = None) -> bool:
        """Put or delete one record; whether it was done."""
        name = key.encode()
        if value is None:
            self._socket.sendall(command + _SIZE.pack(len(name)) + name)
        else:
            self._socket.sendall(command + _SIZES.pack(len(name), len(value)) + name + value)
        return self._read(1) == b"\0"

    def values(self, keys: Sequence[str]) -> list[tuple[str, bytes]]:
        """Records that are there."""
        names = [key.encode() for key in keys]
        self._socket.sendall(
            MGET + _SIZE.pack(len(names)) + b"".join(_SIZE.pack(len(name)) + name for name in names)
        )
        found = []
        for _ in range(self._count()):
            length, size = _SIZES.unpack(self._read(8))
            found.append((self._read(length).decode(), self._read(size)))
        return found

    def names(self, prefix: str, most: int = 10_000) -> list[str]:
        """Names that begin so."""
        start = prefix.encode()
        self._socket.sendall(FWMKEYS + _SIZES.pack(len(start), most) + start)
        return [self._read(self._number()).decode() for _ in range(self._count())]

    def _count(self) -> int:
        done = self._read(1) == b"\0"
        return self._number() if done else 0

    def _number(self) -> int:
        number: int = _SIZE.unpack(self._read(4))[0]
        return number

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError("the server has hung up")
        return data

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def _close_all(links: Sequence[Link]) -> None:
    for link in links:
        link.close()


def _dated(value: bytes, ttl: float | None, now: float) -> bytes:
    return _WHEN.pack(math.inf if ttl is None else now + ttl) + value


def _by_hour(items: Sequence[Item], now: float) -> Mapping[str, list[str]]:
    """The lists that names belong to: of the hour at whose end they have expired."""
    lists: dict[str, list[str]] = {}
    for key, _, ttl in items:
        if ttl is not None:
            lists.setdefault(f"{_LISTED}{int((now + ttl) // _HOUR) + 1}", []).append(key)
    return lists


def _address(url: str, options: Mapping[str, Any]) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as exc:
        raise ImproperlyConfigured(f"The port in the result backend {url!r} is no number.") from exc
    host = parts.hostname or options.get("tyrant_host")
    if not host:
        raise ImproperlyConfigured(
            "The result backend 'tyrant://' does not say where. Write 'tyrant://host:1978', or set "
            "`tyrant_host`."
        )
    return str(host), int(port or (None if parts.hostname else options.get("tyrant_port")) or PORT)
