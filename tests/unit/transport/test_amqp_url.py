"""AMQP URLs, as kombu reads them."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.amqp import dial, tls
from celeriac.transport.amqp.url import Node, parse


@pytest.mark.parametrize(
    ("url", "vhost"),
    [
        ("amqp://h", "/"),
        ("amqp://h/", "/"),
        ("amqp://u:p@h:5672//", "/"),
        ("amqp://h/%2F", "/"),
        ("amqp://h/name", "name"),
        ("amqp://h//name", "/name"),
        ("amqp://h/%2Fname", "/name"),
        ("amqp://h/a%20b/c", "a b/c"),
        ("pyamqp://h/x", "x"),
    ],
)
def test_virtual_hosts(url: str, vhost: str) -> None:
    assert parse(url).nodes[0].vhost == vhost


def test_what_is_not_said() -> None:
    assert parse("amqp://").nodes == (Node("localhost", 5672, "/", "guest", "guest", None),)
    assert parse("").nodes == parse("amqp://").nodes
    assert parse("amqps://h").nodes == (Node("h", 5671, "/", "guest", "guest", {}),)


def test_quoted_names_and_passwords_are_unquoted_and_never_shown() -> None:
    server = parse("amqp://a%40b:s3%2Fcret@h:1/v")
    assert server.nodes == (Node("h", 1, "v", "a@b", "s3/cret"),)
    for shown in (server.url, repr(server), repr(server.nodes), str(server.location)):
        assert "s3/cret" not in shown
        assert "s3%2F" not in shown


def test_several_hosts_keep_their_order() -> None:
    server = parse("amqp://u:p@a//;amqp://b:7/x;amqp://[::1]//")
    assert [(node.host, node.port, node.vhost) for node in server.nodes] == [
        ("a", 5672, "/"), ("b", 7, "x"), ("::1", 5672, "/"),
    ]  # fmt: skip
    assert parse(["amqp://a//", "amqp://b//"]) == parse("amqp://a//;amqp://b//")
    assert [node.host for node in dial.in_turn(server)] == ["a", "b", "::1"]
    dial.remember(server, server.nodes[1])
    assert [node.host for node in dial.in_turn(server)] == ["b", "::1", "a"]
    shuffled = parse("amqp://a//;amqp://b//", {"failover_strategy": "shuffle"})
    seen = {tuple(node.host for node in dial.in_turn(shuffled)) for _ in range(100)}
    assert seen == {("a", "b"), ("b", "a")}


def test_options() -> None:
    server = parse(
        "amqp://h?heartbeat=7", {"login_method": "amqplain", "socket_connect_timeout": 2, "channel_max": 5}
    )
    assert (server.heartbeat, server.login, server.connect_timeout, server.channel_max) == (
        7,
        "AMQPLAIN",
        2,
        5,
    )


def test_location_tells_servers_apart() -> None:
    assert parse("amqp://a//;amqp://b//").location == parse("amqp://b//;amqp://a//").location
    assert parse("amqp://localhost//").location == parse("amqp://127.0.0.1//").location
    assert parse("amqp://a/x").location != parse("amqp://a/y").location


@pytest.mark.parametrize(
    ("url", "options", "what"),
    [
        ("redis://h", {}, "redis"),
        ("amqp://h:port", {}, "port"),
        ("amqp://h", {"login_method": "MAGIC"}, "login_method"),
        ("amqp://h?heartbeat=soon", {}, "heartbeat"),
        ("amqp://h", {"frame_max": -1}, "frame_max"),
    ],
)
def test_what_is_refused(url: str, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=what):
        parse(url, options)


def test_tls_is_strict_unless_told_otherwise() -> None:
    strict = tls.context(parse("amqps://h").nodes[0].tls or {})
    assert strict.check_hostname
    assert strict.verify_mode == ssl.CERT_REQUIRED
    by_setting = parse("amqp://h", {"ssl": {"cert_reqs": ssl.CERT_NONE}}).nodes[0]
    assert by_setting.port == 5671
    lax = tls.context(by_setting.tls or {})
    assert (lax.check_hostname, lax.verify_mode) == (False, ssl.CERT_NONE)
    by_query = parse("amqps://h?ssl_check_hostname=false").nodes[0].tls or {}
    assert not tls.context(by_query).check_hostname
    assert tls.context(by_query).verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("options", [{"cert_reqs": "maybe"}, {"ca_certs": "/nowhere"}, {"ciphers": "none"}])
def test_tls_options_that_cannot_be_used(options: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured):
        tls.context(options)
