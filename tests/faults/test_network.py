"""The network of the fault tests does what it says."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from tests.faults.network import Network
from tests.faults.speech import Amqp, Postgres, Trap
from tests.servers import RedisServer


class Echo(threading.Thread):
    """Answers every chunk with itself; `end_of_file` is set when a client has closed its half."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.end_of_file = threading.Event()

    def run(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                while data := sock.recv(1 << 16):
                    sock.sendall(data)
                self.end_of_file.set()
                sock.sendall(b"bye")
            except OSError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    echo.start()
    yield echo
    echo.listener.close()


@pytest.fixture
def network(echo: Echo) -> Iterator[Network]:
    with Network(echo.port, "") as network:
        yield network


def dial(network: Network) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", network.port), 5)
    sock.settimeout(5)
    return sock


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


def test_it_carries(network: Network) -> None:
    with dial(network) as sock:
        block = bytes(range(256)) * 4000
        threading.Thread(target=sock.sendall, args=(block,)).start()
        assert exactly(sock, len(block)) == block
        assert network.up.carried == network.down.carried == len(block)
    assert network.opened == 1


def test_latency_does_not_limit_the_rate(network: Network) -> None:
    with dial(network) as sock:
        network.up.latency = network.down.latency = 0.1
        started = time.monotonic()
        for i in range(10):
            sock.sendall(b"%d" % i)
            time.sleep(0.005)
        assert exactly(sock, 10) == b"0123456789"
        assert 0.2 <= time.monotonic() - started < 1.5  # one after the other: 2


def test_rate(network: Network) -> None:
    with dial(network) as sock:
        network.down.rate = 100_000
        started = time.monotonic()
        sock.sendall(b"x" * 30_000)
        exactly(sock, 30_000)
        assert 0.25 < time.monotonic() - started < 10


def test_slices(network: Network) -> None:
    with dial(network) as sock:
        network.up.slices = network.down.slices = 1
        sock.sendall(b"in pieces")
        assert exactly(sock, 9) == b"in pieces"


@pytest.mark.parametrize("side", ["both", "up", "down"])
def test_a_blackhole_keeps_what_is_sent(network: Network, side: str) -> None:
    with dial(network) as sock:
        network.blackhole(up=side != "down", down=side != "up")
        sock.sendall(b"late")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(10)
        network.heal()
        sock.settimeout(5)
        assert exactly(sock, 4) == b"late"


def test_cut_and_refuse(network: Network) -> None:
    with dial(network) as sock:
        sock.sendall(b"x")
        exactly(sock, 1)
        network.refuse()
        network.cut()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    with pytest.raises(ConnectionRefusedError):
        dial(network)
    network.heal()
    with dial(network) as sock:
        sock.sendall(b"again")
        assert exactly(sock, 5) == b"again"


def test_half_close(network: Network, echo: Echo) -> None:
    with dial(network) as sock:
        sock.sendall(b"x")
        exactly(sock, 1)
        network.half_close(client=False, server=True)
        assert echo.end_of_file.wait(5)
        assert exactly(sock, 3) == b"bye"
    with dial(network) as sock:
        sock.sendall(b"x")
        exactly(sock, 1)
        network.half_close()
        assert sock.recv(1) == b""


def test_the_reply_to_the_nth_command_of_redis_is_lost(redis_server: RedisServer) -> None:
    redis_server.flush()

    def command(*words: bytes) -> bytes:
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)

    with Network(redis_server.port) as network, dial(network) as sock:
        network.drop_reply(b"INCR", 3)
        sock.sendall(command(b"PING") + command(b"INCR", b"n") + command(b"INCR", b"n"))
        assert exactly(sock, 15) == b"+PONG\r\n:1\r\n:2\r\n"
        sock.sendall(command(b"INCR", b"n"))
        assert network.dropped.wait(5)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert redis_server.send("GET", "n") == b"$1\r\n3\r\n"


# -- protocols, without their servers ---------------------------------------------------------------------


def frame(channel: int, class_id: int, method: int, rest: bytes = b"", kind: int = 1) -> bytes:
    payload = struct.pack(">HH", class_id, method) + rest
    return struct.pack(">BHL", kind, channel, len(payload)) + payload + b"\xce"


def confirm(tag: int, multiple: bool) -> bytes:
    return frame(1, 60, 80, struct.pack(">QB", tag, multiple))


def in_bytes(data: bytes, take: Callable[[bytes], object]) -> None:
    for at in range(len(data)):
        take(data[at : at + 1])


def test_the_confirm_of_the_nth_publish_is_lost() -> None:
    trap = Trap()
    line = Amqp(trap)
    in_bytes(b"AMQP\x00\x00\x09\x01" + frame(1, 85, 10), line.up)
    trap.set(b"basic.publish", 2)
    for _ in range(3):
        assert not line.up(
            frame(1, 60, 40, b"...") + frame(1, 60, 0, b"...", kind=2) + frame(1, 0, 0, kind=3)
        )
    assert line.down(confirm(1, False) + confirm(2, False)) == (confirm(1, False), True)
    other = Amqp(trap)
    other.up(b"AMQP\x00\x00\x09\x01" + frame(1, 85, 10))
    trap.set(b"basic.publish", 2)
    for _ in range(3):
        other.up(frame(1, 60, 40, b"..."))
    assert other.down(frame(1, 60, 60) + confirm(1, False)) == (frame(1, 60, 60) + confirm(1, False), False)
    assert other.down(confirm(3, True)) == (b"", True)


def test_other_methods_of_amqp() -> None:
    trap = Trap()
    line = Amqp(trap)
    line.up(b"AMQP\x00\x00\x09\x01")
    trap.set(b"queue.declare")
    assert not line.up(frame(1, 50, 10))
    assert line.down(frame(1, 50, 11)).cut
    trap.set(b"basic.ack")
    assert line.up(frame(1, 60, 80, struct.pack(">QB", 1, 0)))


def message(kind: bytes, payload: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(payload) + 4) + payload


READY, BUSY = message(b"Z", b"I"), message(b"Z", b"T")


def greeted(trap: Trap) -> Postgres:
    line = Postgres(trap)
    in_bytes(struct.pack(">II", 8, 80877103), line.up)
    assert line.down(b"N").data == b"N"
    in_bytes(struct.pack(">II", 12, 196608) + b"u\0v\0", line.up)
    assert line.down(message(b"R", b"\0\0\0\0") + READY).data == message(b"R", b"\0\0\0\0") + READY
    return line


def test_the_answer_to_a_commit_is_lost() -> None:
    trap = Trap()
    line = greeted(trap)
    trap.set(b"COMMIT")
    for statement, answer in ((b"BEGIN", BUSY), (b"INSERT", BUSY)):
        line.up(message(b"Q", statement + b"\0"))
        assert line.down(message(b"C", statement) + answer) == (message(b"C", statement) + answer, False)
    line.up(message(b"Q", b"COMMIT\0"))
    assert line.down(message(b"C", b"COMMIT")) == (b"", False)
    assert line.down(READY) == (b"", True)


def test_a_prepared_statement_in_a_transaction_is_lost_with_the_commit() -> None:
    trap = Trap()
    line = greeted(trap)
    line.up(message(b"P", b"s1\0INSERT INTO t\0\0\0") + message(b"S"))
    assert line.down(message(b"1") + READY).data == message(b"1") + READY
    trap.set(b"INSERT")
    in_bytes(message(b"B", b"\0s1\0") + message(b"E", b"\0") + message(b"S"), line.up)
    done = message(b"2") + message(b"C", b"INSERT 0 1") + BUSY
    assert line.down(done) == (done, False)
    line.up(message(b"Q", b"COMMIT\0"))
    assert line.down(message(b"C", b"COMMIT") + READY) == (b"", True)


def test_the_port_in_a_url(redis_server: RedisServer) -> None:
    with closing(Network(redis_server.port)) as network:
        assert network.url(redis_server.url) == f"redis://127.0.0.1:{network.port}/0"
