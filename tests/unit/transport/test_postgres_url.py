"""`transport.postgres.url`: lists of hosts."""

from __future__ import annotations

import pytest

from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.postgres.url import Server


def test_a_list_of_urls_is_one_url_with_several_hosts() -> None:
    one = Server.parse("postgresql://me:pw@a:1,b:2/shop?sslmode=require", {})
    several = Server.parse(
        "postgresql://me:pw@a:1/shop?sslmode=require; postgresql://me:pw@b:2/shop?sslmode=require", {}
    )
    assert several == one
    assert "target_session_attrs=read-write" in one.conninfo


def test_the_role_that_was_asked_for_stays() -> None:
    asked = "postgresql://a,b/shop?target_session_attrs=any"
    assert "target_session_attrs=any" in Server.parse(asked, {}).conninfo
    assert "target_session_attrs" not in Server.parse("postgresql://a/shop", {}).conninfo


@pytest.mark.parametrize(
    "other", ["postgresql://b/other", "postgresql://you@b/shop", "postgresql://b/shop?x=1"]
)
def test_urls_of_a_list_differ_in_their_hosts_only(other: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="host and port only"):
        Server.parse(f"postgresql://a/shop;{other}", {})


def test_the_connection_timeout_of_the_settings_counts() -> None:
    assert Server.parse("postgresql://a/shop", {"socket_connect_timeout": 2}).connect_timeout == 2
