"""Ways to reach a Redis: TLS, unix sockets, passwords, Sentinel, fail-over lists, forks, many threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import RedisServer, free_port

from celeriac.backends.base import StoredResult
from celeriac.backends.redis import RedisBackend
from celeriac.brokers.base import ConsumerSpec
from celeriac.brokers.redis import RedisBroker
from celeriac.conformance.kit import ack, ids, out, until
from celeriac.exceptions import OperationalError


def round_trip(url: str, **options: object) -> RedisBroker:
    """Publish, wake, take, settle with a result, through one URL."""
    broker, backend = RedisBroker(url, options), RedisBackend(url, options)
    target = backend.target()
    consumer = broker.consumer(ConsumerSpec("c", ["celery"], results=target))
    assert not consumer.exchange((), 1).deliveries
    thread = threading.Thread(target=consumer.wait, args=(4,))
    begun = time.monotonic()
    thread.start()
    broker.publish([out("a")])
    thread.join()
    assert time.monotonic() - begun < 3
    received = consumer.exchange((), 1)
    assert ids(received.deliveries) == ["a"]
    watch = backend.watch(["a"])
    consumer.exchange(ack(*received.deliveries, results=[StoredResult("a", b"{}", 60)]), 0)
    assert watch.wait(5) == {"a": b"{}"}
    watch.close()
    consumer.close()
    backend.close()
    broker.close()
    return broker


class Certificates:
    """A certificate authority of its own and a certificate for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        ca_key, request = folder / "ca.key", folder / "request.pem"
        extensions = folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1\n")
        new = ["req", "-newkey", "rsa:2048", "-nodes", "-subj"]
        usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]  # Python 3.13 insists on it
        authority = ["/CN=test authority", "-x509", "-days", "2", *usage]
        self._openssl(*new, *authority, "-keyout", ca_key, "-out", self.ca)
        self._openssl(*new, "/CN=127.0.0.1", "-keyout", self.key, "-out", request)
        signing = ["-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2", "-extfile", extensions]
        self._openssl("x509", "-req", "-in", request, *signing, "-out", self.cert)

    def _openssl(self, *words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    assert shutil.which("openssl"), "the TLS tests make their certificates with the openssl command"
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_port(certificates: Certificates) -> Iterator[int]:
    port = free_port()
    server = RedisServer(
        "--tls-port", str(port), "--tls-cert-file", str(certificates.cert), "--tls-key-file",
        str(certificates.key), "--tls-ca-cert-file", str(certificates.ca), "--tls-auth-clients", "no",
    )  # fmt: skip
    yield port
    server.stop()


def test_tls_with_the_right_authority(certificates: Certificates, tls_port: int) -> None:
    round_trip(f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificates.ca}")
    round_trip(f"rediss://127.0.0.1:{tls_port}/1", ssl={"ssl_ca_certs": str(certificates.ca)})


def test_tls_carries_large_messages(certificates: Certificates, tls_port: int) -> None:
    broker = RedisBroker(f"rediss://127.0.0.1:{tls_port}/2?ssl_ca_certs={certificates.ca}", {})
    message = out("a").message._replace(body=b"x" * 2_000_000)
    broker.publish([out("a")._replace(message=message)] * 3)
    consumer = broker.consumer(ConsumerSpec("c", ["celery"]))
    received = consumer.exchange((), 3)
    assert [len(delivery.message.body) for delivery in received.deliveries] == [2_000_000] * 3  # type: ignore[union-attr]
    consumer.close()
    broker.close()


@pytest.mark.parametrize("query", ["", "?ssl_cert_reqs=required"])
def test_tls_with_an_unknown_authority_is_refused(tls_port: int, query: str) -> None:
    broker = RedisBroker(f"rediss://127.0.0.1:{tls_port}/0{query}", {})
    with pytest.raises(OperationalError, match="TLS"):
        broker.publish([out("a")], timeout=0.5)


def test_tls_with_the_wrong_host_name_is_refused(certificates: Certificates, tls_port: int) -> None:
    broker = RedisBroker(f"rediss://localhost:{tls_port}/0?ssl_ca_certs={certificates.ca}", {})
    with pytest.raises(OperationalError, match="TLS"):
        broker.publish([out("a")], timeout=0.5)


def test_tls_may_be_left_unverified_on_request(tls_port: int) -> None:
    round_trip(f"rediss://127.0.0.1:{tls_port}/3?ssl_cert_reqs=CERT_NONE")


def test_tls_to_a_plain_server_is_refused(redis_server: RedisServer) -> None:
    broker = RedisBroker(f"rediss://127.0.0.1:{redis_server.port}/0", {})
    with pytest.raises(OperationalError):
        broker.publish([out("a")], timeout=0.5)


def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    server = RedisServer("--unixsocket", str(path))
    try:
        round_trip(f"unix://{path}")
        round_trip(f"redis+socket://{path}?virtual_host=2")
    finally:
        server.stop()


def test_passwords_and_users() -> None:
    rights = ["worker", "on", ">pw", "~*", "&*", "+@all"]
    server = RedisServer("--requirepass", "s3cret/@", "--user", *rights)
    try:
        round_trip(f"redis://:s3cret%2F%40@127.0.0.1:{server.port}/0")
        round_trip(f"redis://worker:pw@127.0.0.1:{server.port}/1", client_name="here")
        for wrong in ("", ":no@", "worker:no@"):
            broker = RedisBroker(f"redis://{wrong}127.0.0.1:{server.port}/0", {})
            begun = time.monotonic()
            with pytest.raises(OperationalError, match="password") as caught:
                broker.publish([out("a")])
            assert time.monotonic() - begun < 3.5, "a wrong password does not get right by trying"
            assert ":no@" not in str(caught.value)
    finally:
        server.stop()


def test_a_list_of_servers_is_tried_in_order(redis_server: RedisServer) -> None:
    redis_server.flush()
    round_trip(f"redis://127.0.0.1:{free_port()}/0;{redis_server.url}")


def test_sentinel_is_followed_to_the_new_master(tmp_path: Path) -> None:
    master, replica = RedisServer(), RedisServer()
    replica.send("REPLICAOF", "127.0.0.1", str(master.port))
    until(lambda: b"master_link_status:up" in replica.send("INFO", "replication"))
    sentinel = Sentinel(tmp_path, master)
    try:
        url = f"sentinel://127.0.0.1:{free_port()};sentinel://127.0.0.1:{sentinel.port}/0"
        broker = RedisBroker(url, {"master_name": "mymaster"})
        broker.publish([out("a")])
        until(lambda: b"slaves=1" in sentinel.send("INFO", "sentinel"), timeout=30)
        consumer = broker.consumer(ConsumerSpec("c", ["celery"]))
        (a,) = consumer.exchange((), 1).deliveries
        until(lambda: b"connected_slaves:1" in master.send("INFO", "replication"))
        assert master.send("WAIT", "1", "5000") == b":1\r\n"
        master.kill()
        broker.publish([out("b")], timeout=40)
        assert ids(consumer.exchange(ack(a), 1).deliveries) == ["b"]
        assert b"role:master" in replica.send("INFO", "replication")
        consumer.close()
        broker.close()
    finally:
        sentinel.stop()
        master.stop()
        replica.stop()


class Sentinel(RedisServer):
    """One sentinel is a majority of one; it gives a master up after half a second."""

    def __init__(self, folder: Path, master: RedisServer) -> None:
        self._configuration = folder / "sentinel.conf"
        self._configuration.write_text(
            f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 4000\n"
        )
        super().__init__()

    def command(self) -> list[str]:
        words = ["--sentinel", "--port", str(self.port), "--bind", "127.0.0.1"]
        return [self._binary, str(self._configuration), *words]


def test_a_forked_child_and_its_parent_do_not_share_connections(redis_server: RedisServer) -> None:
    redis_server.flush()
    broker = RedisBroker(redis_server.url, {})
    broker.publish([out("parent")])
    children = []
    for child in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for n in range(200):
                    broker.publish([out(f"{child}-{n}")])
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    for n in range(200):
        broker.publish([out(f"parent-{n}")])
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
    assert broker.depth("celery") == 801
    broker.close()


def test_many_threads_share_few_connections(redis_server: RedisServer) -> None:
    redis_server.flush()
    broker = RedisBroker(redis_server.url, {"client_name": "crowd"})

    def publish(name: int) -> None:
        for n in range(100):
            broker.publish([out(f"{name}-{n}")])

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broker.depth("celery") == 1600
    assert redis_server.send("CLIENT", "LIST").count(b"name=crowd") <= 16
    broker.close()
    until(lambda: b"name=crowd" not in redis_server.send("CLIENT", "LIST"))
