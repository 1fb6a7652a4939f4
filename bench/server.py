"""A private Redis server for one trial: free port, own folder, the same settings for every contender.

Append-only file, written to disk every second, no snapshots, no eviction: what a careful owner of a task
queue would set. The file is never rewritten in mid-measurement. It is stopped by its pid.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

SETTINGS = (
    *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
    *("--auto-aof-rewrite-percentage", "0", "--maxmemory-policy", "noeviction"),
)
IN_WORDS = "appendonly yes, appendfsync everysec, save '', noeviction; a fresh server per trial, loopback TCP"


class RedisServer:
    """`with RedisServer(folder) as server: server.url`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> RedisServer:
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        if binary is None:
            raise FileNotFoundError(
                "no redis-server on the PATH: install Debian's redis-server, or put one there"
            )
        self.folder.mkdir(parents=True)
        self.port = free_port()
        arguments = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), *SETTINGS)
        with (self.folder / "redis.log").open("wb") as log:
            self._process = subprocess.Popen([binary, *arguments], stdout=log, stderr=log)
        self._wait_until_up()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # nothing of it is needed any more: no time for a last save
        self._process.wait()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 10
        while self.command("PING") != b"+PONG\r\n":
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis-server did not start: see {self.folder}/redis.log")
            time.sleep(0.01)

    def command(self, *words: str) -> bytes:
        """The first bytes of the raw answer to one command; empty when the server is not up."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(" ".join(words).encode() + b"\r\n")
                return connection.recv(65_536)
        except OSError:
            return b""


def version() -> str:
    """The server's version as it says it."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        return "none"
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return " ".join(text.split()[:3])


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
