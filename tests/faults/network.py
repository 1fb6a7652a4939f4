"""A network between clients and one server that can do all that networks do.

1. `Network`: a TCP proxy on a free port: an event loop in a thread of its own, steered from the test's.
2. `Way`: one direction: latency, jitter, rate, slices, blackhole.

What it can do: delay, throttle, cut into slices, trickle; hold everything back both ways or one way; reset,
half-close, refuse; lose the answer to the n-th command after the server carried it out (`speech.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tests.faults.speech import Amqp, Bytes, Postgres, Resp, Speech, Trap

__all__ = ["SPEECHES", "Network", "Way"]

T = TypeVar("T")

SPEECHES: dict[str, type[Speech]] = {"redis": Resp, "amqp": Amqp, "postgresql": Postgres, "": Bytes}


class Way:
    """One direction of all connections. Change the numbers at any time.

    Attributes:
        latency, jitter: seconds that each chunk takes, at least and at most on top.
        rate: bytes per second of one connection; 0 is without limit.
        slices: bytes per write; 0 is as they come.
        carried: bytes that have passed.
    """

    def __init__(self, chance: random.Random) -> None:
        self.latency = self.jitter = 0.0
        self.rate = self.slices = self.carried = 0
        self.open = asyncio.Event()
        self.open.set()
        self._chance = chance

    def reset(self) -> None:
        self.latency = self.jitter = 0.0
        self.rate = self.slices = 0
        self.open.set()

    def due(self, now: float) -> float:
        """When a chunk that sets out now arrives."""
        return now + self.latency + self._chance.uniform(0, self.jitter)


class _Line:
    """One connection through the network."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, speech: Speech) -> None:
        self.client = client
        self.server = server
        self.speech = speech

    def reset(self) -> None:
        for writer in (self.client, self.server):
            _reset(writer)


class Network:
    """Listens on a free port of 127.0.0.1 as long as the context is open.

    Args:
        server_port: where the server listens.
        protocol: redis, amqp or postgresql: what `drop_reply` understands; "": any, chunk by chunk.
        seed: of the jitter.

    Attributes:
        port: where to connect; `url` puts it into a URL.
        up, down: the ways to the server and to the client.
        opened: connections so far.

    Example::

        with Network(server.port, "redis") as network:
            app = Celeriac(broker=network.url(server.url))
            network.drop_reply(b"EVALSHA")
            network.blackhole(up=False)
            network.heal()
    """

    def __init__(self, server_port: int, protocol: str = "redis", *, seed: int = 0) -> None:
        self.server_port = server_port
        self._speech = SPEECHES[protocol]
        self._trap = Trap()
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.opened = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        chance = random.Random(seed)
        self.up, self.down = Way(chance), Way(chance)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._thread.start()
        self._do(self._listen())

    @property
    def dropped(self) -> threading.Event:
        """Set when the answer asked for in `drop_reply` is lost."""
        return self._trap.sprung

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._lines)

    def url(self, url: str) -> str:
        """`url` with our port in place of the server's."""
        changed = re.sub(rf"(?<=:){self.server_port}(?!\d)", str(self.port), url)
        assert changed != url, f"{url} does not name port {self.server_port}"
        return changed

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Reset every connection, stop listening."""
        self.refuse()
        self.cut()
        self._do(self._wind_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # -- faults ---------------------------------------------------------------------------------------------

    def drop_reply(self, word: bytes, nth: int = 1) -> None:
        """Lose the answer to the nth command from now that contains `word`, and reset its connection."""
        self._trap.set(word, nth)

    def blackhole(self, *, up: bool = True, down: bool = True) -> None:
        """Nothing passes, nothing is refused; what is sent meanwhile arrives after `heal`."""
        for way, closed in ((self.up, up), (self.down, down)):
            if closed:
                self._call(way.open.clear)

    def heal(self) -> None:
        """No latency, no limits, no blackhole; connections are accepted."""
        self._call(self.up.reset)
        self._call(self.down.reset)
        if self._server is None:
            self._do(self._listen())

    def cut(self) -> None:
        """Reset all connections, both ends."""
        self._call(lambda: [line.reset() for line in tuple(self._lines)])

    def half_close(self, *, client: bool = True, server: bool = False) -> None:
        """Say "end of file" to clients or to the server, and go on carrying what the other end says."""

        def close() -> None:
            for line in tuple(self._lines):
                for writer, wanted in ((line.client, client), (line.server, server)):
                    if wanted:
                        with contextlib.suppress(OSError, RuntimeError):
                            writer.write_eof()

        self._call(close)

    def refuse(self) -> None:
        """Nobody listens any more; open connections stay."""

        def close() -> None:
            if self._server is not None:
                self._server.close()
                self._server = None

        self._call(close)

    # -- the loop -------------------------------------------------------------------------------------------

    def _call(self, what: Callable[[], object]) -> None:
        async def call() -> None:
            what()

        self._do(call())

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> None:
        if self._listener.fileno() < 0:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    async def _wind_up(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_server, server = await asyncio.open_connection("127.0.0.1", self.server_port)
        except OSError:
            _reset(client)
            return
        self.opened += 1
        line = _Line(client, server, self._speech(self._trap))
        self._lines.add(line)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pump(self.up, reader, server, lambda data: self._goes_up(line, data)))
                ways.create_task(
                    self._pump(self.down, from_server, client, lambda data: self._comes_down(line, data))
                )
        except* OSError:
            pass  # an end has reset it, or we have
        finally:
            self._lines.discard(line)
            line.reset()

    def _goes_up(self, line: _Line, data: bytes) -> bytes:
        if line.speech.up(data):

            def cut() -> None:  # the server is to read all of it: a polite end for it, a reset for the client
                self._trap.sprung.set()
                with contextlib.suppress(OSError, RuntimeError):
                    line.server.write_eof()
                _reset(line.client)

            asyncio.get_running_loop().call_soon(cut)
            line.server.write(data)
            return b""
        return data

    def _comes_down(self, line: _Line, data: bytes) -> bytes:
        passed = line.speech.down(data)
        if passed.cut:
            self._trap.sprung.set()
            line.client.write(passed.data)
            line.reset()
            raise ConnectionAbortedError("its answer is lost")
        return passed.data

    async def _pump(
        self,
        way: Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        look: Callable[[bytes], bytes],
    ) -> None:
        """Carry until one end is through; a chunk under way does not keep the next one from setting out."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        now = asyncio.get_running_loop().time

        async def read() -> None:
            while data := await reader.read(1 << 16):
                if seen := look(data):
                    await under_way.put((way.due(now()), seen))
            await under_way.put((way.due(now()), b""))

        async def write() -> None:
            while True:
                due, data = await under_way.get()
                if (left := due - now()) > 0:
                    await asyncio.sleep(left)
                await way.open.wait()
                if not data:
                    with contextlib.suppress(OSError, RuntimeError):
                        writer.write_eof()
                    return
                await self._write(way, writer, data)

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            group.create_task(write())

    async def _write(self, way: Way, writer: asyncio.StreamWriter, data: bytes) -> None:
        at = 0
        while at < len(data):
            size = way.slices or (max(1, way.rate // 20) if way.rate else len(data))
            piece = data[at : at + size]
            at += size
            try:
                writer.write(piece)
            except RuntimeError:  # half-closed meanwhile: what comes now goes nowhere
                return
            await writer.drain()
            way.carried += len(piece)
            if way.rate:
                await asyncio.sleep(len(piece) / way.rate)
            elif way.slices:
                await asyncio.sleep(0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    transport = writer.transport
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
