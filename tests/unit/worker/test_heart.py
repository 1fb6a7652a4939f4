"""The heart lays the dead to rest: what ran is blamed, what was done is settled, each by itself."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.backends.retrying import Retrying
from celeriac.brokers.base import ConsumerSpec, Delivery, Outgoing, Settlement, StoredResult
from celeriac.exceptions import OperationalError
from celeriac.wire.message import Message
from celeriac.worker.heart import Death, Heart
from celeriac.worker.ledger import Ledger

from .conftest import until

names = itertools.count()


class Scene:
    """A heart, a broker in memory, and children that can die."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        url = f"memory://heart-{next(names)}"
        self.app = Celeriac("heart", broker=url, backend=url, set_as_current=False)
        self.broker = self.app.broker
        self.alive: dict[str, tuple[str, ...]] = {}
        self.lost: list[str] = []
        self.revoked: list[str] = []
        self.heart = Heart(
            self.broker, self.app.backend, ("q",), ttl=0.3, store="s", target=self.app.backend.target(),
            alive=lambda: self.alive, on_lost=self.lost.extend, on_revoked=self.revoked.extend,
            conclude=self.conclude, gone=self.gone, machine=True,
        )  # fmt: skip

    def conclude(self, delivery: Delivery, why: str, limit: float) -> Settlement:
        if limit > 99:
            raise ValueError("cannot be concluded")
        result = StoredResult(str(delivery.tag), f"{why} {limit:g}".encode())
        return Settlement(delivery.queue, delivery.tag, results=(result,))

    def gone(self, id_: str, name: str, why: str | None, limit: float) -> StoredResult | None:
        return StoredResult(id_, f"{name} {why} {limit:g}".encode()) if name == "task" else None

    def publish(self, count: int) -> None:
        self.broker.publish([Outgoing(Message(b"[]", "application/json", "utf-8", {}, {}), "q")] * count)

    def child(self, name: str, take: int, slots: int = 1) -> tuple[Ledger, list[Delivery]]:
        page = Ledger(self.folder / f"{name}.ledger", slots, create=True)
        page.sign(name, ["q"], store="s")
        consumer = self.broker.consumer(ConsumerSpec(name, ("q",), 60.0, self.app.backend.target()))
        return page, list(consumer.exchange((), take).deliveries)

    def crashes(self) -> list[int]:
        _, all_ = self.child("looker", 100)
        found = []
        while all_:
            found += [delivery.crashes for delivery in all_]
            self.broker.release("looker", ["q"], done=[(d.queue, d.tag) for d in all_])
            Ledger(self.folder / "looker.ledger").close(remove=True)
            _, all_ = self.child("looker", 100)
        return sorted(found)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("CELERIAC_RUN_DIR", str(tmp_path))
    made = Scene(tmp_path)
    yield made
    made.heart.stop()
    if made.heart.is_alive():
        made.heart.join(10)
        assert not made.heart.is_alive()


def start(page: Ledger, slot: int, delivery: Delivery, id_: str, limit: float = 0.0) -> None:
    page.start(slot, "q", delivery.tag, 1.0, 0.0, 1.0 + limit, id_.encode(), b"task")


def test_what_ran_is_blamed_and_what_was_done_is_settled(scene: Scene) -> None:
    scene.publish(3)
    page, (done, running, _waiting) = scene.child("c", 3)
    start(page, 0, done, "a")
    page.done(0, "q", done.tag)
    start(page, 0, running, "b")
    assert scene.heart._lay_to_rest(Death(page)) == 2
    assert scene.crashes() == [0, 1]
    assert not page.path.exists()


@pytest.mark.parametrize("innocent", [True, False])
def test_a_time_limit_is_concluded_and_blames_nobody(scene: Scene, innocent: bool) -> None:
    scene.publish(3)
    page, (late, beside, _waiting) = scene.child("c", 3, slots=2)
    start(page, 0, late, "late", 2.0)
    start(page, 1, beside, "beside")
    scene.heart._lay_to_rest(Death(page, innocent, {"late": "time limit"}))
    assert scene.app.backend.load([str(late.tag)]) == {str(late.tag): b"time limit 2"}
    assert scene.crashes() == ([0, 0] if innocent else [0, 1])


def test_what_cannot_be_concluded_is_blamed(scene: Scene) -> None:
    scene.publish(1)
    page, (late,) = scene.child("c", 1)
    start(page, 0, late, "late", 100.0)
    scene.heart._lay_to_rest(Death(page, True, {"late": "time limit"}))
    assert scene.crashes() == [1]


def test_all_are_suspects_when_nobody_knows(scene: Scene) -> None:
    scene.publish(3)
    page, _ = scene.child("c", 3)
    scene.heart._lay_to_rest(Death(page, suspicious=True))
    assert scene.crashes() == [1, 1, 1]


def test_calls_that_were_acknowledged_early_end_too(scene: Scene) -> None:
    page, _ = scene.child("c", 0, slots=4)
    for slot, (id_, name) in enumerate(
        [("a", b"task"), ("b", b"task"), ("c", b"other"), ("d" * 70, b"task")]
    ):
        page.start(slot, "q", slot, 1.0, 0.0, 3.0, id_.encode(), name, early=True)
    scene.heart._lay_to_rest(Death(page, True, {"b": "time limit"}))
    stored = scene.app.backend.load(["a", "b", "c", "d" * 64, "d" * 70])
    assert stored == {"a": b"task None 2", "b": b"task time limit 2"}


def test_a_child_without_a_lease_leaves_nothing(scene: Scene) -> None:
    page = Ledger(scene.folder / "x.ledger", create=True)
    assert scene.heart._lay_to_rest(Death(page)) == 0
    assert not page.path.exists()


def test_one_death_that_fails_keeps_no_other_waiting(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.publish(2)
    cursed, _ = scene.child("cursed", 1)
    blessed, _ = scene.child("blessed", 1)
    release = scene.broker.release

    def fails(consumer: str, *args: Any, **named: Any) -> int:
        if consumer == "cursed":
            raise TypeError("a bug")
        return release(consumer, *args, **named)

    monkeypatch.setattr(scene.broker, "release", fails)
    scene.heart.start()
    scene.heart.bury(Death(cursed))
    scene.heart.bury(Death(blessed))
    until(lambda: scene.broker.depth("q") == 1)
    scene.broker.revoke(["r"], ttl=60)
    until(lambda: scene.revoked == ["r"])  # its other duties go on


def test_the_dead_wait_for_a_broker_that_is_down(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.publish(2)
    pages = [scene.child(f"c{n}", 1)[0] for n in range(2)]
    release, down = scene.broker.release, [True]

    def fails(*args: Any, **named: Any) -> int:
        if down[0]:
            raise OperationalError("down")
        return release(*args, **named)

    monkeypatch.setattr(scene.broker, "release", fails)
    scene.heart.start()
    for page in pages:
        scene.heart.bury(Death(page))
    until(lambda: scene.heart.last_beat > 0)
    assert scene.broker.depth("q") == 0
    down[0] = False
    until(lambda: scene.broker.depth("q") == 2)


def test_ledgers_are_left_for_others_when_the_broker_stays_down(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, _ = scene.child("c", 1)

    def fails(*args: Any, **named: Any) -> int:
        raise OperationalError("down")

    monkeypatch.setattr(scene.broker, "release", fails)
    scene.heart.bury(Death(page))
    scene.heart.start()
    scene.heart.stop()
    scene.heart.join(10)
    left = Ledger(page.path)
    assert left.lock()
    left.close(remove=True)


def test_orphans_are_adopted_or_left_as_they_were(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.publish(2)
    page, _ = scene.child("dead", 1)
    page.close()  # its supervisor is gone
    foreign = Ledger(scene.folder / "foreign.ledger", create=True)
    foreign.sign("other", ["q"], store="another store")
    foreign.close()
    held, (_delivery,) = scene.child("alive", 1)

    def fails(*args: Any, **named: Any) -> int:
        raise OperationalError("down")

    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with monkeypatch.context() as patch:
        patch.setattr(scene.broker, "release", fails)
        for _ in range(3):
            with pytest.raises(OperationalError):
                scene.heart._adopt_orphans()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    scene.heart._adopt_orphans()
    assert scene.broker.depth("q") == 1
    assert not page.path.exists()
    assert foreign.path.exists()
    assert held.path.exists()
    held.close()


def test_it_beats_and_tells_what_is_lost(scene: Scene) -> None:
    page, _ = scene.child("c", 0)
    scene.alive = {"c": ("q",), "gone": ("q",)}
    scene.heart.start()
    until(lambda: "gone" in scene.lost)
    assert "c" not in scene.lost
    page.close()


def test_revoked_ids_are_told_once(scene: Scene) -> None:
    scene.broker.revoke(["a"], ttl=60)
    scene.heart._round(1.0)
    scene.broker.revoke(["b"], ttl=60)
    scene.heart._round(2.0)
    scene.heart._round(3.0)
    assert scene.revoked == ["a", "b"]


# -- a result store that is down ----------------------------------------------------------------------------


class Failing:
    """A result store that fails so many times."""

    def __init__(self, store: Any, times: int) -> None:
        self.store_of, self.times, self.tries = store, times, 0

    def store(self, batch: Sequence[StoredResult]) -> None:
        self.tries += 1
        if self.tries <= self.times:
            raise OperationalError("down")
        self.store_of.store(batch)


@pytest.mark.parametrize(("times", "stored"), [(2, True), (9, False)])
def test_results_of_dead_children_are_tried_as_often_as_the_user_said(
    scene: Scene, times: int, stored: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """`result_backend_max_retries` is 3: the fourth failure ends it, and the delivery is settled."""
    failing = Failing(scene.app.backend, times)
    scene.heart._storing = Retrying(failing, most=3, base=0.001, longest=0.002)  # type: ignore[arg-type]
    scene.heart.target = None
    scene.publish(1)
    page, (late,) = scene.child("c", 1)
    start(page, 0, late, "late", 2.0)
    waiting: Sequence[Death] = [Death(page, True, {"late": "time limit"})]
    deadline = time.monotonic() + 10
    while waiting and time.monotonic() < deadline:
        waiting = scene.heart._bury_all(waiting)
    assert not waiting
    assert failing.tries == (3 if stored else 4)
    assert bool(scene.app.backend.load([str(late.tag)])) is stored
    assert ("LOST" in caplog.text) is not stored
    assert scene.crashes() == []


def test_the_pause_before_the_next_try_is_kept(scene: Scene) -> None:
    failing = Failing(scene.app.backend, 9)
    scene.heart._storing = Retrying(failing, most=3, base=60.0, longest=60.0)  # type: ignore[arg-type]
    scene.heart.target = None
    scene.publish(1)
    page, (late,) = scene.child("c", 1)
    start(page, 0, late, "late", 2.0)
    waiting: Sequence[Death] = [Death(page, True, {"late": "time limit"})]
    for _ in range(3):
        waiting = scene.heart._bury_all(waiting)
    assert failing.tries == 1
    scene.heart._bury_at = 0.0
    scene.heart._storing = scene.app.backend
    assert scene.heart._bury_all(waiting) == []
