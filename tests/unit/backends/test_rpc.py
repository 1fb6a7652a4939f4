"""`rpc://` without a server: what is kept, where it connects, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.backends import rpc_replies
from celeriac.backends.base import StoredResult
from celeriac.backends.rpc import RpcBackend
from celeriac.backends.rpc_replies import Pigeonholes
from celeriac.exceptions import ImproperlyConfigured
from celeriac.plugins import keeps_results


def test_the_oldest_documents_are_pushed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_replies, "KEPT", 3)
    board = Pigeonholes()
    for name in ("a", "b", "a", "c", "d"):
        board.put(name, name.encode(), expires=None)
    assert list(board.get("abcd", now=0)) == ["a", "c", "d"]


def test_so_many_bytes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_replies, "KEPT_BYTES", 100)
    board = Pigeonholes()
    for name in "abc":
        board.put(name, bytes(40), expires=None)
    assert list(board.get("abc", now=0)) == ["b", "c"]
    board.put("big", bytes(1000), expires=None)
    assert list(board.get(["a", "b", "c", "big"], now=0)) == ["big"]  # the newest is never pushed out
    board.forget(["big"])
    board.put("d", bytes(100), expires=1)
    assert board.expire(now=2) == 1
    board.put("e", bytes(100), expires=None)
    assert list(board.get("de", now=2)) == ["e"]


@pytest.mark.parametrize(
    ("url", "options", "shown"),
    [
        ("rpc://", {"broker_write_url": "amqp://u:p@h:1/v"}, "amqp://u:**@h:1/v"),
        (
            "rpc://",
            {"broker_write_url": ["amqp://a//", "amqp://b//"]},
            "amqp://guest:**@a:5672//;amqp://guest:**@b:5672//",
        ),
        ("rpc://", {}, "amqp://guest:**@localhost:5672//"),
        ("rpc://u:p@h/v", {"broker_write_url": "redis://elsewhere"}, "amqp://u:**@h:5672/v"),
        ("rpc://", {"broker_write_url": "amqp://h", "broker_use_ssl": True}, "amqps://guest:**@h:5671//"),
    ],
)
def test_where_it_connects(url: str, options: dict[str, Any], shown: str) -> None:
    backend = RpcBackend(url, options)
    assert backend.server.url == shown
    assert backend.describe() == f"rpc:// over {shown}"


def test_another_broker_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="redis://"):
        RpcBackend("rpc://", {"broker_write_url": "redis://localhost"})


def test_results_that_belong_here_need_no_server() -> None:
    backend = RpcBackend("rpc://nowhere.invalid", {})
    backend.store([StoredResult("a", b"1", 60), StoredResult("b", b"2", 60, backend.address)])
    assert backend.load(["a", "b"]) == {"a": b"1", "b": b"2"}
    backend.watch(["a"]).close()  # it is there already
    with pytest.raises(ImproperlyConfigured, match="made none"):
        backend.watch(["c"])


def test_the_app_knows_which_results_are_sent() -> None:
    assert keeps_results("redis://")
    assert keeps_results("disabled://")
    assert not keeps_results("rpc://")
    shared = Celeriac("a", broker="memory://", backend="memory://rpc-unit", set_as_current=False)
    assert shared.mailbox is None
    sent = Celeriac("b", broker="amqp://h", backend="rpc://", set_as_current=False)
    mailbox: Any = sent.mailbox
    assert mailbox is sent.backend
    assert sent.oid == sent.thread_oid == mailbox.address
    own = Celeriac("c", broker="memory://", backend=RpcBackend("rpc://h", {}), set_as_current=False)
    assert own.mailbox is own.backend


class Postbox(RpcBackend):
    """Counts who listens."""

    listened = 0

    def listen(self) -> str:
        self.listened += 1
        return self.address


def test_calls_carry_the_address_and_are_listened_for_before_they_are_sent() -> None:
    box = Postbox("rpc://h", {})
    app = Celeriac("d", broker="memory://rpc-unit", backend=box, set_as_current=False)

    @app.task(name="noop")
    def noop() -> None: ...

    @app.task(name="quiet", ignore_result=True)
    def quiet() -> None: ...

    quiet.delay()
    assert box.listened == 0
    noop.delay()
    assert box.listened == 1
    noop.apply_async(countdown=0)
    (noop.s() | noop.si())()
    app.send_task("noop")
    assert box.listened == 4
    messages = app.broker.browse("celery", 10)
    assert {message.properties["reply_to"] for message in messages} == {box.address}


def test_groups_are_refused_as_celery_does() -> None:
    """NotImplementedError, and what to use instead; at the call, without a server."""
    app = Celeriac("groups", broker="amqp://nobody.invalid//", backend="rpc://", set_as_current=False)
    group = app.GroupResult("g-1", [app.AsyncResult("a")])
    for refused in (group.save, group.delete, lambda: app.GroupResult.restore("g-1")):
        with pytest.raises(NotImplementedError, match="rpc:// cannot save groups"):
            refused()
