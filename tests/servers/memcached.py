"""A private memcached.

1. `MemcachedServer`: a server of its own.
2. `find_memcached`: its binary.
"""

from __future__ import annotations

import os

from tests.servers.process import Server, find_program

__all__ = ["MemcachedServer", "find_memcached"]


def find_memcached() -> str:
    """Path of `memcached`."""
    if found := find_program("memcached"):
        return found
    raise RuntimeError("No memcached was found. Run `scripts/provide-servers`, or install it.")


class MemcachedServer(Server):
    """A memcached that takes items of up to 8 MB; what it keeps is gone after `kill` and `start`.

    Attributes:
        url: ``cache+memcached://127.0.0.1:<port>/``.

    Args:
        args: options in place of ``-I 8m``.
    """

    patience = 15.0

    def __init__(self, *args: str) -> None:
        super().__init__("memcached")
        self._args = args or ("-I", "8m")
        self.url = f"cache+memcached://127.0.0.1:{self.port}/"
        self.start()

    def command(self) -> list[str]:
        user = ["-u", "root"] if os.geteuid() == 0 else []
        return [find_memcached(), "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", *user, *self._args]

    def answers(self) -> bool:
        return self.ask(b"version\r\n", 64).startswith(b"VERSION")

    def flush(self) -> None:
        """Empty it."""
        assert self.ask(b"flush_all\r\n") == b"OK\r\n"
