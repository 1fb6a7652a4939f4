"""Redis URLs and options."""

from __future__ import annotations

import pytest

from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.redis.url import IDLE_OPTIONS, USED_OPTIONS, Server, parse, tls_context


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", Server("tcp", (("localhost", 6379),))),
        ("redis://:pw@h:1/3", Server("tcp", (("h", 1),), db=3, password="pw")),
        ("redis://me:p%40w@h", Server("tcp", (("h", 6379),), username="me", password="p@w")),
        ("redis://h?db=4", Server("tcp", (("h", 6379),), db=4)),
        ("valkey://h/1", Server("tcp", (("h", 6379),), db=1)),
        ("rediss://h", Server("tcp", (("h", 6379),), tls={})),
        ("rediss://h?ssl_cert_reqs=none", Server("tcp", (("h", 6379),), tls={"ssl_cert_reqs": "none"})),
        ("unix:///tmp/r.sock?db=2", Server("unix", (), path="/tmp/r.sock", db=2)),
        ("redis+socket:///tmp/r.sock?virtual_host=/2", Server("unix", (), path="/tmp/r.sock", db=2)),
        ("redis+cluster://a:1;redis+cluster://b:2", Server("cluster", (("a", 1), ("b", 2)))),
        ("redis://a;redis://b:2", Server("tcp", (("a", 6379), ("b", 2)))),
        ("redis://h?socket_timeout=1.5", Server("tcp", (("h", 6379),), timeout=1.5)),
        ("redis://[::1]:7/0", Server("tcp", (("::1", 7),))),
    ],
)
def test_urls(url: str, expected: Server) -> None:
    assert parse(url) == expected


def test_sentinel_needs_the_name_of_the_master() -> None:
    options = {"master_name": "m", "sentinel_kwargs": {"password": "s"}}
    server = parse("sentinel://:pw@a:1/2;sentinel://b", options)
    assert server.addresses == (("a", 1), ("b", 26379))
    assert (server.db, server.password, server.sentinel_password) == (2, "pw", "s")
    with pytest.raises(ImproperlyConfigured, match="master_name"):
        parse("sentinel://a:1")


@pytest.mark.parametrize(
    ("url", "options", "word"),
    [
        ("http://h", {}, "not a Redis URL"),
        ("redis://h/x", {}, "/0"),
        ("redis://h:99999", {}, "port"),
        ("redis+cluster://h/1", {}, "one database"),
        ("redis://a;unix:///b", {}, "same scheme"),
        ("redis://h", {"global_keyprefx": "x"}, "'global_keyprefix'"),
        ("redis://h", {"socket_timeout": "soon"}, "seconds"),
        ("redis://h", {"socket_timeout": 0}, "more than 0"),
    ],
)
def test_what_is_wrong_is_said(url: str, options: dict[str, object], word: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=word):
        parse(url, options)


def test_options_of_celery_and_of_others_are_accepted() -> None:
    parse("redis://h", dict.fromkeys(IDLE_OPTIONS) | {"confirm_publish": True, "something": 1})
    assert not USED_OPTIONS & IDLE_OPTIONS


def test_secrets_do_not_show() -> None:
    server = parse("redis://me:hush@h/1")
    assert "hush" not in repr(server)
    assert "hush" not in "".join(server.location)


def test_locations_tell_servers_apart_but_not_the_ways_to_write_one() -> None:
    assert parse("redis://localhost/1").location == parse("redis://127.0.0.1:6379/1").location
    assert parse("redis://h/1").location[:-1] == parse("redis://h/2").location[:-1]
    assert parse("redis://h").location[:-1] != parse("redis://u:p@h").location[:-1]
    assert parse("redis://h:1").location != parse("redis://h:2").location


def test_tls_verifies_unless_told_otherwise() -> None:
    import ssl

    assert tls_context({}).verify_mode is ssl.CERT_REQUIRED
    assert tls_context({}).check_hostname
    off = tls_context({"ssl_cert_reqs": ssl.CERT_NONE})
    assert off.verify_mode is ssl.CERT_NONE
    assert tls_context({"ssl_cert_reqs": "CERT_OPTIONAL"}).verify_mode is ssl.CERT_OPTIONAL
    assert not tls_context({"ssl_check_hostname": "false"}).check_hostname
    with pytest.raises(ImproperlyConfigured, match="ssl_cert_reqs"):
        tls_context({"ssl_cert_reqs": "perhaps"})
    with pytest.raises(ImproperlyConfigured, match="cannot be read"):
        tls_context({"ssl_ca_certs": "/nowhere/at/all"})
