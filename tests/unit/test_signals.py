"""Signals: who is called, who is forgotten, and what a broken receiver can do (nothing)."""

from __future__ import annotations

import gc
import json
import logging
import threading
from typing import Any

import pytest

from celeriac import signals
from celeriac.signals import Signal


@pytest.fixture
def signal() -> Signal:
    return Signal({"value"}, name="probe")


def test_receivers_are_called_with_sender_signal_and_named_arguments(signal: Signal) -> None:
    seen: list[dict[str, Any]] = []

    @signal.connect
    def receive(**named: Any) -> str:
        seen.append(named)
        return "heard"

    assert signal.send("me", value=1) == [(receive, "heard")]
    assert seen == [{"signal": signal, "sender": "me", "value": 1}]


def test_nobody_connected_returns_nothing(signal: Signal) -> None:
    assert signal.send(None, value=1) == []
    assert not signal.has_listeners()


def test_connect_with_arguments_is_a_decorator_too(signal: Signal) -> None:
    @signal.connect(sender="only.this")
    def receive(**named: Any) -> None: ...

    assert signal.send("another") == []
    assert signal.send("only." + "".join(["th", "is"])) == [(receive, None)]
    assert signal.has_listeners("only.this")
    assert not signal.has_listeners("another")


def test_senders_that_are_not_strings_are_compared_by_identity(signal: Signal) -> None:
    one: list[int] = []
    other: list[int] = []

    def receive(**named: Any) -> None: ...

    signal.connect(receive, sender=one)
    assert len(signal.send(one)) == 1
    assert signal.send(other) == []


def test_connecting_twice_calls_once(signal: Signal) -> None:
    def receive(**named: Any) -> None: ...

    signal.connect(receive)
    signal.connect(receive)
    assert len(signal.send(None)) == 1


def test_dispatch_uid_stands_for_the_receiver(signal: Signal) -> None:
    def first(**named: Any) -> int:
        return 1

    def second(**named: Any) -> int:
        return 2

    signal.connect(first, dispatch_uid="x")
    signal.connect(second, dispatch_uid="x")
    assert signal.send(None) == [(first, 1)]
    assert signal.disconnect(dispatch_uid="x")
    assert signal.send(None) == []


def test_disconnect_says_whether_there_was_one(signal: Signal) -> None:
    def receive(**named: Any) -> None: ...

    signal.connect(receive, sender="a")
    assert not signal.disconnect(receive)
    assert signal.disconnect(receive, sender="a")
    assert not signal.disconnect(receive, sender="a")


def test_weak_receivers_are_forgotten_and_strong_ones_kept(signal: Signal) -> None:
    class Listener:
        def hear(self, **named: Any) -> str:
            return "heard"

    listener = Listener()
    signal.connect(listener.hear)
    assert [response for _, response in signal.send(None)] == ["heard"]
    del listener
    gc.collect()
    assert signal.receivers == ()
    signal.connect(lambda **named: "kept", weak=False)
    gc.collect()
    assert [response for _, response in signal.send(None)] == ["kept"]


def test_what_a_receiver_raises_is_logged_and_returned_never_raised(
    signal: Signal, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**named: Any) -> None:
        raise ValueError("boom")

    def fine(**named: Any) -> int:
        return 7

    signal.connect(broken)
    signal.connect(fine)
    with caplog.at_level(logging.ERROR, logger="celeriac.signals"):
        responses = signal.send("me")
    assert isinstance(responses[0][1], ValueError)
    assert responses[1] == (fine, 7)
    assert "broken" in caplog.text
    assert "boom" in caplog.text


def test_what_is_not_callable_is_refused(signal: Signal) -> None:
    with pytest.raises(TypeError, match="must be callable"):
        signal.connect(3)  # type: ignore[type-var]


def test_connecting_from_many_threads_loses_nobody(signal: Signal) -> None:
    def connect(number: int) -> None:
        for step in range(50):
            signal.connect(lambda **named: None, weak=False, dispatch_uid=(number, step))

    threads = [threading.Thread(target=connect, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(signal.receivers) == 200


def test_every_public_name_is_a_signal_that_knows_its_name() -> None:
    for name in signals.__all__:
        if name != "Signal":
            assert getattr(signals, name).name == name
    assert signals.task_prerun.providing_args == {"task_id", "task", "args", "kwargs"}
    assert json.dumps(sorted(signals.__all__)) == json.dumps(signals.__all__)
