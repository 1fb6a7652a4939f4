"""A TCP proxy in front of a Redis server that can do what networks do at the worst moment.

1. `drop_reply(word)`: the next request that contains `word` is carried out, its reply is swallowed and the
   connection reset.
2. `hold(word)` and `let_go`: such a request is kept back while its connection is reset towards the client,
   and delivered later.
3. `blackhole`, `heal`: nothing passes, nothing is refused.
4. `cut`: reset all connections. `dribble`: one byte at a time. `no_resp3`: HELLO is an unknown command.

The client has one request in flight, so what the server sends next is its reply.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

__all__ = ["Proxy"]


class Proxy:
    """Listens on a free port of 127.0.0.1 as long as the context is open.

    Attributes:
        port: where to connect.
        url: ``redis://127.0.0.1:<port>/0``.
        dropped: set when a reply has been swallowed.
        held: set when a request is kept back.
        seen: how many requests passed.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.dropped = threading.Event()
        self.held = threading.Event()
        self.seen = 0
        self.no_resp3 = False
        self.dribble = False
        self._drop: bytes | None = None
        self._hold: bytes | None = None
        self._kept: list[tuple[socket.socket, bytes]] = []
        self._open = threading.Event()
        self._open.set()
        self._ended = False
        self._answered = threading.Event()
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._start(self._accept)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended = True
        self.heal()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing it would leave its thread in accept()
        self._listener.close()
        self.cut()
        for server, _ in self._kept:
            server.close()

    def drop_reply(self, word: bytes) -> None:
        self.dropped.clear()
        self._drop = word

    def hold(self, word: bytes) -> None:
        self.held.clear()
        self._hold = word

    def let_go(self) -> None:
        """Deliver what was held; the server's answers go nowhere."""
        for server, data in self._kept:
            self._answered.clear()
            server.sendall(data)
            assert self._answered.wait(5), "the server did not answer what was held back"
            server.close()
        self._kept.clear()

    def blackhole(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        self._open.set()

    def cut(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for client, server in pairs:
            _reset(client)
            _reset(server)

    def _start(self, target: object, *args: object) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed: the proxy ends
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port), 5)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.append((client, server))
            swallow = threading.Event()
            self._start(self._requests, client, server, swallow)
            self._start(self._replies, client, server, swallow)

    def _requests(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                self._open.wait()
                if self._ended:
                    return
                self.seen += 1
                if self.no_resp3 and b"HELLO" in data:
                    client.sendall(b"-ERR unknown command 'HELLO'\r\n")
                    continue
                if self._drop is not None and self._drop in data:
                    self._drop = None
                    swallow.set()
                if self._hold is not None and self._hold in data:
                    self._hold = None
                    self._keep(client, server, data)
                    return
                server.sendall(data)
        _reset(server)

    def _keep(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        with self._lock:
            self._pairs.remove((client, server))
        self._kept.append((server, data))
        self.held.set()  # before the client hears of anything
        _reset(client)

    def _replies(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                self._open.wait()
                if self._ended:
                    return
                self._answered.set()
                if swallow.is_set():
                    self.dropped.set()
                    break
                with contextlib.suppress(OSError):  # nobody listens any more: what was held is answered yet
                    self._answer(client, data)
        _reset(client)

    def _answer(self, client: socket.socket, data: bytes) -> None:
        if not self.dribble:
            client.sendall(data)
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(data)):
            client.sendall(data[at : at + 1])


def _reset(sock: socket.socket) -> None:
    """Close with RST, and wake whoever blocks on it."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sock.close()
