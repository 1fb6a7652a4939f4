"""The AMQP link against a real RabbitMQ, and against what is none."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.proxy import Proxy
from tests.servers import RabbitServer, free_port

from celeriac.exceptions import OperationalError
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import parse
from celeriac.transport.amqp.values import Blocked, ChannelClosed, Disconnected, Refused
from celeriac.wire.message import Message
from celeriac.wire.protocol import write

CALL = write(name="proj.add", id="a-1", args=(2, 3), headers={"nested": [1, {"a": None, "b": [1.5, "ü"]}]})


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def url(rabbit_server: RabbitServer) -> Iterator[str]:
    url = rabbit_server.vhost()
    yield url
    rabbit_server.drop_vhost(url)


@pytest.fixture
def dial(url: str) -> Iterator[Callable[..., Link]]:
    links: list[Link] = []

    def dial(where: str = url, options: dict[str, Any] | None = None, **more: Any) -> Link:
        links.append(Link.dial(parse(where, options), deadline=soon(), **more))
        return links[-1]

    yield dial
    for link in links:
        link.close()


@pytest.fixture
def channel(dial: Callable[..., Link]) -> Channel:
    channel = dial().channel()
    channel.queue_declare("q")
    return channel


def arrive(channel: Channel, count: int) -> list[Any]:
    deadline = soon(30)
    while len(channel.arrivals) < count:
        channel.link.read(1)
        assert time.monotonic() < deadline
    return [channel.arrivals.popleft() for _ in range(count)]


def read_on(link: Link) -> None:
    """Read until that raises."""
    while True:
        link.read(30)


# -- messages ---------------------------------------------------------------------------------------------


def test_a_call_comes_as_it_was_sent(channel: Channel) -> None:
    channel.confirm_select()
    assert channel.publish("", "q", CALL, mandatory=True) == 1
    channel.await_confirms(soon())
    assert (channel.unconfirmed, channel.nacked, channel.returned) == (0, [], [])
    assert channel.queue_declare("q", passive=True) == ("q", 1, 0)
    tag = channel.consume("q")
    [arrival] = arrive(channel, 1)
    assert (arrival.consumer_tag, arrival.redelivered, arrival.routing_key) == (tag, False, "q")
    assert arrival.message[:4] == CALL[:4]
    assert arrival.message.properties["delivery_mode"] == 2
    channel.ack(arrival.delivery_tag)
    channel.cancel(tag)
    assert channel.get("q") is None


@pytest.mark.parametrize("size", [0, 1, 131_063, 131_064, 131_065, 20_000_000])
def test_bodies_of_any_size(channel: Channel, size: int) -> None:
    body = os.urandom(size)
    channel.confirm_select()
    channel.publish("", "q", CALL._replace(body=body))
    channel.await_confirms(soon(30))
    arrival = channel.get("q", deadline=soon(30))
    assert arrival is not None
    assert isinstance(arrival.message, Message)
    assert arrival.message.body == body
    assert arrival.message.headers == CALL.headers


def test_a_message_without_a_queue_comes_back_before_its_confirm(channel: Channel) -> None:
    channel.confirm_select()
    for key in ("q", "nowhere", "q"):
        channel.publish("", key, CALL, mandatory=True)
    channel.await_confirms(soon())
    [returned] = channel.returned
    assert (returned.code, returned.routing_key) == (312, "nowhere")
    assert isinstance(returned.message, Message)
    assert returned.message.headers["id"] == "a-1"


def test_large_publishes_while_large_messages_arrive_do_not_deadlock(channel: Channel) -> None:
    """Both sides have far more to say than the buffers between them hold."""
    big = CALL._replace(body=bytes(2_000_000))
    channel.confirm_select()
    for _ in range(10):
        channel.publish("", "q", big)
    channel.await_confirms(soon(30))
    channel.consume("q", nowait=True)
    for _ in range(10):
        channel.publish("", "q", big)
    channel.await_confirms(soon(30))
    arrivals = arrive(channel, 20)
    assert all(len(arrival.message.body) == 2_000_000 for arrival in arrivals)


def test_prefetch_bounds_what_is_sent_ahead(channel: Channel) -> None:
    channel.confirm_select()
    for _ in range(20):
        channel.publish("", "q", CALL)
    channel.await_confirms(soon())
    channel.qos(5)
    channel.consume("q")
    first = arrive(channel, 5)
    channel.queue_declare("q", passive=True)  # whatever had been sent would be here by now
    assert not channel.arrivals
    channel.ack(first[3].delivery_tag, multiple=True)
    assert len(arrive(channel, 4)) == 4
    channel.nack(first[4].delivery_tag)
    assert arrive(channel, 1)[0].redelivered


def test_exchanges_and_bindings(channel: Channel) -> None:
    channel.exchange_declare("logs", "topic", arguments={"alternate-exchange": "spare"})
    channel.exchange_declare("spare", "fanout", durable=False, auto_delete=True)
    channel.exchange_bind("spare", "logs", "a.#")
    channel.queue_bind("q", "spare")
    channel.confirm_select()
    channel.publish("logs", "a.b", CALL, mandatory=True)
    channel.await_confirms(soon())
    assert channel.queue_purge("q") == 1
    channel.queue_unbind("q", "spare")
    name = channel.queue_declare(exclusive=True).name
    assert name.startswith("amq.gen-")
    assert channel.queue_delete(name) == 0
    assert channel.queue_delete("never-was") == 0
    channel.exchange_delete("logs")


# -- channels and their errors ----------------------------------------------------------------------------


def test_a_channels_error_leaves_the_others_alone(channel: Channel) -> None:
    other = channel.link.channel()
    with pytest.raises(ChannelClosed, match="no queue 'nope'") as caught:
        other.queue_declare("nope", passive=True)
    assert caught.value.code == 404
    with pytest.raises(ChannelClosed):
        other.publish("", "q", CALL)
    with pytest.raises(ChannelClosed) as caught:
        channel.link.channel().queue_declare("q", durable=False)
    assert caught.value.code == 406
    assert channel.queue_declare("q", passive=True).name == "q"


def test_an_error_that_nobody_waits_for_shows_later(channel: Channel) -> None:
    other = channel.link.channel()
    other.ack(99)
    while other.error is None:
        assert channel.link.read(5)
    assert other.error.code == 406
    again = channel.link.channel()
    assert again.number == other.number
    again.close()


def test_a_consumer_whose_queue_is_deleted_is_told(channel: Channel) -> None:
    tag = channel.consume("q")
    channel.link.channel().queue_delete("q")
    while not channel.cancelled:
        assert channel.link.read(5)
    assert channel.cancelled == [tag]


# -- logging in -------------------------------------------------------------------------------------------


def test_wrong_passwords_and_vhosts_are_said_without_secrets(
    rabbit_server: RabbitServer, dial: Callable[..., Link]
) -> None:
    with pytest.raises(Refused, match="did not let the user 'guest' in") as caught:
        dial(rabbit_server.url.replace("guest@", "s3cret@"))
    assert "s3cret" not in str(caught.value)
    with pytest.raises(Refused, match="no virtual host 'nope'"):
        dial(rabbit_server.url.removesuffix("//") + "/nope")
    with pytest.raises(Refused, match="EXTERNAL"):
        dial(rabbit_server.url, {"login_method": "EXTERNAL"})
    assert dial(rabbit_server.url, {"login_method": "AMQPLAIN"}).server_properties["product"] == "RabbitMQ"


def test_nobody_there(dial: Callable[..., Link]) -> None:
    with pytest.raises(
        Disconnected, match=r"Connection refused.*not known|not known.*Connection refused"
    ) as caught:
        dial(f"amqp://u:s3cret@127.0.0.1:{free_port()}//;amqp://u:s3cret@nowhere.invalid//")
    assert "s3cret" not in str(caught.value)


def test_the_next_host_is_tried_and_then_preferred(url: str, dial: Callable[..., Link]) -> None:
    several = f"amqp://127.0.0.1:{free_port()}//;{url}"
    link = dial(several)
    assert link.where in url
    link.close()
    assert dial(several).where in url


def test_a_host_that_does_not_answer_leaves_time_for_the_next(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it lets connect, and says nothing
        server = parse(f"amqp://127.0.0.1:{silent.getsockname()[1]}//;{url}")
        link = Link.dial(server, deadline=soon(6))
        assert link.where in url
        link.close()


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not AMQP"),
        (b"AMQP\x00\x01\x00\x00", "another version"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "closed the connection|amqps"),
        (None, "did not answer in time"),
    ],
)
def test_a_server_that_is_no_rabbitmq(answer: bytes | None, what: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as peer:
                peer.recv(100)
                if answer is None:
                    peer.recv(1)  # until the client gives up
                else:
                    peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        patience = {"socket_connect_timeout": 0.5 if answer is None else 10}
        server = parse(f"amqp://127.0.0.1:{listener.getsockname()[1]}", patience)
        with pytest.raises(Disconnected, match=what):
            Link.dial(server, deadline=soon())
        thread.join(10)


# -- ends -------------------------------------------------------------------------------------------------


def test_a_killed_server_is_noticed_at_once(dial: Callable[..., Link]) -> None:
    server = RabbitServer()
    try:
        link = dial(server.url)
        channel = link.channel()
        channel.queue_declare("q")
        channel.confirm_select()
        channel.publish("", "q", CALL)
        channel.await_confirms(soon())
        server.kill()
        begun = time.monotonic()
        with pytest.raises(Disconnected, match=r"closed|broke"):
            link.read(20)
        assert time.monotonic() - begun < 10
        assert link.closed
        with pytest.raises(Disconnected, match="closed"):
            channel.queue_declare("q")
        server.start()
        # Not how many messages: RabbitMQ may forget a queue that was declared just before it is killed.
        assert dial(server.url).channel().queue_declare("q").name == "q"
    finally:
        server.stop()


def test_a_frozen_server_is_noticed_in_time(dial: Callable[..., Link]) -> None:
    server = RabbitServer()
    try:
        idle, asking = dial(server.url), dial(server.url, heartbeat=0)
        channel = asking.channel()
        server.freeze()
        begun = time.monotonic()
        with pytest.raises(Disconnected, match="did not answer in time"):
            channel.queue_declare("q", deadline=soon(1))
        assert time.monotonic() - begun < 6
        with pytest.raises(Disconnected, match="silent"):
            read_on(idle)
        assert time.monotonic() - begun < 30
    finally:
        server.thaw()
        server.stop()


def test_a_blackholed_server_is_noticed_in_time(url: str, dial: Callable[..., Link]) -> None:
    with Proxy(parse(url).nodes[0].port) as proxy:
        link = dial(f"amqp://guest:guest@127.0.0.1:{proxy.port}{url[url.rindex('/') :]}")
        proxy.blackhole()
        begun = time.monotonic()
        with pytest.raises(Disconnected, match="silent"):
            read_on(link)
        assert time.monotonic() - begun < 30


def test_heartbeats_keep_an_idle_link(rabbit_server: RabbitServer, dial: Callable[..., Link]) -> None:
    link = dial(heartbeat=1)
    assert link.heartbeat == 1
    end = soon(4)
    while time.monotonic() < end:
        link.read(end - time.monotonic())
    assert link.channel().queue_declare("q").name == "q"


def test_the_server_says_why_it_closes(rabbit_server: RabbitServer, dial: Callable[..., Link]) -> None:
    link = dial()
    rabbit_server.close_all_connections()
    with pytest.raises(Disconnected, match="CONNECTION_FORCED") as caught:
        link.read(10)
    assert caught.value.code == 320


def test_another_thread_can_end_a_wait(dial: Callable[..., Link]) -> None:
    link = dial()
    threading.Timer(0.2, link.shut).start()
    with pytest.raises(Disconnected):
        link.read(20)


def test_a_child_never_uses_its_parents_link(dial: Callable[..., Link]) -> None:
    link = dial()
    channel = link.channel()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert not link.usable
            for use in (link.read, link.flush, link.channel, lambda: channel.queue_declare("q")):
                with pytest.raises(Disconnected, match="forked"):
                    use()
            link.close(farewell=1)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert channel.queue_declare("q").name == "q"


def test_an_exception_in_the_middle_closes_the_link(dial: Callable[..., Link], monkeypatch: Any) -> None:
    link = dial()
    channel = link.channel()
    monkeypatch.setattr(channel, "on_method", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        channel.queue_declare("q")
    assert link.closed


# -- alarms -----------------------------------------------------------------------------------------------


def test_an_alarm_fails_publishes_in_time_and_spares_consumers(dial: Callable[..., Link]) -> None:
    server = RabbitServer()
    try:
        sender, taker = dial(server.url).channel(), dial(server.url).channel()
        sender.queue_declare("q")
        sender.confirm_select()
        sender.publish("", "q", CALL)
        sender.await_confirms(soon())
        with server.memory_alarm():
            sender.publish("", "q", CALL)
            begun = time.monotonic()
            with pytest.raises(Blocked, match="memory"):
                sender.await_confirms(soon(1.5))
            assert time.monotonic() - begun < 10
            late = dial(server.url).channel()
            late.publish("", "q", CALL._replace(body=bytes(20_000_000)))
            with pytest.raises(OperationalError):
                late.link.flush(soon(1.5))
            taker.consume("q")
            [arrival] = arrive(taker, 1)
            taker.ack(arrival.delivery_tag)
            taker.link.flush()
        again = dial(server.url).channel()
        again.confirm_select()
        again.publish("", "q", CALL)
        again.await_confirms(soon())
    finally:
        server.stop()


# -- TLS --------------------------------------------------------------------------------------------------


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


KEY = ("-newkey", "rsa:2048", "-nodes")
AUTHORITY = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
#: Name, for whom, valid for how many days.
CERTIFICATES = (
    ("good", "IP:127.0.0.1", "2"),
    ("guest", "IP:127.0.0.1", "2"),
    ("elsewhere", "DNS:elsewhere.example", "2"),
    ("expired", "IP:127.0.0.1", "-1"),
)


def files(name: str) -> tuple[str, ...]:
    return ("-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities; certificates of the first for this host, for another, and one that has expired."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ca", "other"):
        openssl(folder, "req", "-x509", *KEY, *files(name), "-days", "2", "-addext", "keyUsage=keyCertSign")
    for name, host, days in CERTIFICATES:
        (folder / "extensions").write_text(f"subjectAltName={host}\n")
        openssl(folder, "req", *KEY, *files(name))
        openssl(
            folder, "x509", "-req", "-in", f"{name}.pem", *AUTHORITY, "-days", days, "-out", f"{name}.pem"
        )
    return folder


@pytest.fixture(scope="module")
def tls_server(certificates: Path) -> Iterator[tuple[RabbitServer, int]]:
    """A server with a good certificate, and its TLS port."""
    port = free_port()
    server = RabbitServer(
        {
            "listeners.ssl.1": f"127.0.0.1:{port}",
            "ssl_options.cacertfile": certificates / "ca.pem",
            "ssl_options.certfile": certificates / "good.pem",
            "ssl_options.keyfile": certificates / "good.key",
            "ssl_options.verify": "verify_peer",
            "ssl_options.fail_if_no_peer_cert": "false",
            "auth_mechanisms.1": "PLAIN",
            "auth_mechanisms.2": "EXTERNAL",
            "ssl_cert_login_from": "common_name",
        },
        plugins=("rabbitmq_auth_mechanism_ssl",),
    )
    yield server, port
    server.stop()


def test_tls_with_the_right_authority(
    tls_server: tuple[RabbitServer, int], certificates: Path, dial: Callable[..., Link]
) -> None:
    ssl_options = {"ca_certs": str(certificates / "ca.pem")}
    link = dial(f"amqps://127.0.0.1:{tls_server[1]}", {"ssl": ssl_options})
    assert link.is_tls
    channel = link.channel()
    channel.queue_declare("q")
    channel.confirm_select()
    body = os.urandom(5_000_000)
    channel.consume("q")
    for _ in range(3):
        channel.publish("", "q", CALL._replace(body=body))
        channel.publish("", "q", CALL)
    channel.await_confirms(soon(30))
    assert [len(arrival.message.body) for arrival in arrive(channel, 6)] == [len(body), len(CALL.body)] * 3
    assert dial(f"amqps://127.0.0.1:{tls_server[1]}?ssl_ca_certs={certificates / 'ca.pem'}").is_tls


def test_a_certificate_instead_of_a_password(
    tls_server: tuple[RabbitServer, int], certificates: Path, dial: Callable[..., Link]
) -> None:
    options = {
        "ssl": {
            "ca_certs": str(certificates / "ca.pem"),
            "certfile": str(certificates / "guest.pem"),
            "keyfile": str(certificates / "guest.key"),
        },
        "login_method": "EXTERNAL",
    }
    assert dial(f"amqps://127.0.0.1:{tls_server[1]}", options).channel().queue_declare("mine").messages == 0
    del options["ssl"]["certfile"]
    with pytest.raises(Refused):
        dial(f"amqps://127.0.0.1:{tls_server[1]}", options)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"ca_certs": "other.pem"}, "CERTIFICATE_VERIFY_FAILED"),
        ({}, "CERTIFICATE_VERIFY_FAILED"),
        ({"ca_certs": "ca.pem", "server_hostname": "rabbit.example"}, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_tls_fails_closed(
    tls_server: tuple[RabbitServer, int], certificates: Path, options: dict[str, str], what: str
) -> None:
    chosen = {
        name: str(certificates / value) if name == "ca_certs" else value for name, value in options.items()
    }
    with pytest.raises(Disconnected, match=what):
        Link.dial(parse(f"amqps://127.0.0.1:{tls_server[1]}", {"ssl": chosen or True}), deadline=soon())


@pytest.mark.parametrize("name", ["expired", "elsewhere"])
def test_certificates_that_are_not_good(certificates: Path, name: str) -> None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as raw, contextlib.suppress(OSError):
                peer = context.wrap_socket(raw, server_side=True)
                seen.append(peer.recv(100))
                peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        options = {"ssl": {"ca_certs": str(certificates / "ca.pem")}}
        with pytest.raises(Disconnected, match="CERTIFICATE_VERIFY_FAILED"):
            Link.dial(parse(f"amqps://127.0.0.1:{listener.getsockname()[1]}", options), deadline=soon())
        thread.join(10)
    assert not any(seen)


def test_tls_to_a_port_without_tls_and_the_other_way_round(
    tls_server: tuple[RabbitServer, int], certificates: Path
) -> None:
    server, port = tls_server
    options = {"ssl": {"ca_certs": str(certificates / "ca.pem")}}
    with pytest.raises(Disconnected, match="TLS with RabbitMQ"):
        Link.dial(parse(f"amqps://127.0.0.1:{server.port}", options), deadline=soon())
    with pytest.raises(Disconnected, match=r"amqps|closed the connection|broke"):
        Link.dial(parse(f"amqp://127.0.0.1:{port}"), deadline=soon())
