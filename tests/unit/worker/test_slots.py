"""Which processes are wanted and when, and how children are told to stop."""

from __future__ import annotations

import time
from typing import Any

import pytest

from celeriac.worker.children import Child
from celeriac.worker.shutdown import Shutdown
from celeriac.worker.slots import HANDOVER, Slots


class Page:
    """What is asked of a ledger."""

    def __init__(self, *, processed: int = 0, busy: bool = False) -> None:
        self.processed = processed
        self._busy = busy

    def busy(self) -> bool:
        return self._busy

    def running(self) -> list[int]:
        return [1] if self._busy else []


class Fellow(Child):
    """A child without a process: what it was told, and whether it was killed."""

    def __init__(self, slot: int = 0, role: str = "child", **page: Any) -> None:
        control: Any = None
        ledger: Any = Page(**page) if role == "child" else None
        super().__init__(role, slot, 0, control, ledger)
        self.told: list[dict[str, Any]] = []
        self.killed = False

    def tell(self, **message: Any) -> None:
        self.told.append(message)

    def kill(self) -> None:
        self.killed = True


def test_what_is_wanted_is_due_once() -> None:
    slots = Slots(2)
    slots.want("child", 0)
    slots.want("beat", 0, 50.0)
    assert (slots.next_due(99.0), slots.due(10.0)) == (0.0, [("child", 0)])
    slots.started("child", 0)
    assert (slots.next_due(99.0), slots.due(10.0), bool(slots)) == (50.0, [], True)
    slots.started("beat", 0)
    assert (slots.next_due(99.0), bool(slots)) == (99.0, False)


def test_a_child_that_lived_is_followed_at_once() -> None:
    slots, now = Slots(1), time.monotonic()
    assert slots.when_again(Fellow(processed=1), now) == now
    assert slots.when_again(Fellow(busy=True), now) == now + HANDOVER
    assert slots.when_again(Fellow(), now + 60) == now + 60


def test_children_that_die_early_are_followed_ever_later() -> None:
    slots, now = Slots(2), time.monotonic()
    pauses = [slots.when_again(Fellow(), now) - now for _ in range(100)]
    assert pauses[:4] == [0.0] * 4
    assert pauses[4] == pytest.approx(2.5)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(30.0)
    slots.when_again(Fellow(processed=1), now)  # one that lived: all is forgotten
    assert slots.when_again(Fellow(), now) == now


def test_the_pool_grows_and_shrinks_at_its_end() -> None:
    slots = Slots(2)
    children = [Fellow(0), Fellow(1)]
    slots.grow(children)
    assert slots.due(0.0) == [("child", 2)]
    assert not slots.shrink(children)  # it had not been started yet
    assert not slots
    assert slots.shrink(children) == [children[1]]
    children[1].retiring = True
    assert not slots.shrink(children)  # the last one stays
    slots.grow(children)
    assert slots.due(0.0) == [("child", 2)]


def node(grace: float = 0.0) -> tuple[Shutdown, Fellow, Fellow]:
    child, steward = Fellow(busy=True), Fellow(role="steward")
    return Shutdown({1: child, 2: steward}, grace), child, steward


def test_warm_tells_everybody_once() -> None:
    shutdown, child, steward = node()
    shutdown.warm("SIGTERM")
    shutdown.warm("SIGTERM")
    assert (shutdown.stage, shutdown.exit_code) == ("warm", 0)
    assert child.told == [{"stop": True}]
    assert steward.told == [{"shutting_down": {"sig": "SIGTERM", "how": "Warm", "exitcode": 0}}]
    assert not child.killed


def test_two_interrupts_are_cold(capsys: pytest.CaptureFixture[str]) -> None:
    shutdown, child, steward = node()
    shutdown.interrupt()
    assert (shutdown.stage, child.killed) == ("warm", False)
    shutdown.interrupt()
    assert (shutdown.stage, shutdown.exit_code) == ("cold", 1)
    assert (child.killed, child.innocent, steward.killed) == (True, True, False)
    assert len(steward.told) == 1
    assert "cold shutdown; 1 running task(s) stopped" in capsys.readouterr().err


def test_soft_is_cold_when_the_grace_is_over_or_it_is_asked_for_again() -> None:
    shutdown, child, _ = node(grace=60)
    shutdown.soft()
    shutdown.watch(time.monotonic())
    assert (shutdown.stage, child.killed) == ("warm", False)
    shutdown.watch(time.monotonic() + 61)
    assert (shutdown.stage, child.killed) == ("cold", True)
    again, child, _ = node(grace=60)
    again.soft()
    again.soft()
    assert (again.stage, child.killed) == ("cold", True)


def test_without_grace_soft_is_cold() -> None:
    shutdown, child, steward = node()
    shutdown.soft()
    assert (shutdown.stage, child.killed) == ("cold", True)
    assert steward.told == [{"shutting_down": {"sig": "SIGQUIT", "how": "Cold", "exitcode": 0}}]
