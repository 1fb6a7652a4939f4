"""Random histories of a broker, each step checked against the pure model (`model.py`).

1. `broker_machine`: a test case for one implementation.
2. `Clock`: real time, or time that the machine moves itself where the implementation takes a clock.
3. `Machine`: the rules.

    TestMineModel = broker_machine(open_store)      # open_store(clock) -> Stores
"""

from __future__ import annotations

import time
import unittest
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from celeriac.backends.base import ResultBackend
from celeriac.brokers.base import ACK, DEAD, REQUEUE, Broker, Consumer, ConsumerSpec, Settlement, StoredResult
from celeriac.conformance.kit import ids, out, until
from celeriac.conformance.model import Entry, Lease, Model

__all__ = ["Clock", "Stores", "broker_machine"]

QUEUES = ("one", "two")
PRIORITIES = (0, 3, 6, 9)
FOR_EVER = 1e7  # seconds


class Clock:
    """Epoch seconds. `moved` by the machine, or the real ones."""

    def __init__(self, *, movable: bool) -> None:
        self.movable = movable
        self._now = 1_700_000_000.0

    def __call__(self) -> float:
        return self._now if self.movable else time.time()

    def advance(self, seconds: float) -> None:
        self._now += seconds


class Stores(NamedTuple):
    """One fresh store: two processes' views of it, its results, and how to remove it."""

    one: Broker
    two: Broker
    backend: ResultBackend | None
    close: Callable[[], None]


class Machine(RuleBasedStateMachine):
    """See the head of the module. Subclassed by `broker_machine`."""

    open_store: ClassVar[Callable[[Clock], Stores]]
    movable: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.clock = Clock(movable=self.movable)
        self.consumers: dict[str, Consumer] = {}
        self.zombies: list[tuple[Consumer, list[tuple[str, int]]]] = []
        self.count = 0

    @initialize()
    def open(self) -> None:
        self.stores = type(self).open_store(self.clock)
        target = self.stores.backend.target() if self.stores.backend else None
        self.target = target if target and self.stores.one.carries(target) else None

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            self.stores.close()

    def broker(self) -> Broker:
        self.count += 1
        return self.stores.one if self.count % 2 else self.stores.two

    def new(self, queue: str, priority: int = 0) -> Entry:
        self.count += 1
        return Entry(f"id-{self.count}", queue, priority)

    def pick(self, data: Any) -> str:
        return data.draw(st.sampled_from(sorted(self.model.leases)), label="consumer")  # type: ignore[no-any-return]

    def has_leases(self) -> bool:
        return bool(self.model.leases)

    # -- publishing ------------------------------------------------------------------------------------------

    @rule(
        queue=st.sampled_from(QUEUES),
        priorities=st.lists(st.sampled_from(PRIORITIES), min_size=1, max_size=6),
    )
    def publish(self, queue: str, priorities: list[int]) -> None:
        entries = [self.new(queue, priority) for priority in priorities]
        self.broker().publish([out(entry.id, queue, priority=entry.priority) for entry in entries])
        for entry in entries:
            self.model.publish(entry)

    @rule(queue=st.sampled_from(QUEUES), seconds=st.sampled_from([1.0, 2.5, 60.0]))
    def publish_delayed(self, queue: str, seconds: float) -> None:
        seconds = seconds if self.movable else FOR_EVER
        entry = self.new(queue)
        self.broker().publish([out(entry.id, queue, countdown=seconds)])
        self.model.publish(entry, self.clock() + seconds)

    @rule(queue=st.sampled_from(QUEUES))
    def publish_overdue(self, queue: str) -> None:
        entry = self.new(queue)
        self.broker().publish([out(entry.id, queue, due=self.clock() - 5)])
        entry.loose = True
        self.model.publish(entry)

    # -- consumers -------------------------------------------------------------------------------------------

    @rule(queues=st.sampled_from([("one",), ("two",), ("one", "two"), ("two", "one")]))
    @precondition(lambda self: len(self.model.leases) < 4)
    def register(self, queues: tuple[str, ...]) -> None:
        self.count += 1
        name = f"consumer-{self.count}"
        spec = ConsumerSpec(name, queues, ttl=FOR_EVER, results=self.target)
        self.consumers[name] = self.broker().consumer(spec)
        self.model.leases[name] = Lease(queues)

    @rule(data=st.data(), limit=st.integers(0, 5))
    @precondition(has_leases)
    def take(self, data: Any, limit: int) -> None:
        self.exchange(self.pick(data), [], limit)

    @rule(data=st.data(), limit=st.integers(0, 3))
    @precondition(has_leases)
    def settle(self, data: Any, limit: int) -> None:
        name = self.pick(data)
        held = sorted(self.model.leases[name].held)
        chosen = data.draw(st.lists(st.sampled_from(held), unique=True, max_size=4)) if held else []
        settlements = [self.end(data, name, queue, tag) for queue, tag in chosen]
        again = data.draw(st.lists(st.sampled_from(self.model.gone), max_size=2)) if self.model.gone else []
        # A settlement that comes twice, or of a tag that somebody else held: refused, whatever it wants.
        extra = [out("must-not-appear", "one")]
        old = [Settlement(queue, tag, DEAD, "old", extra) for queue, tag in again]
        self.exchange(name, settlements + old, limit, stale=[tag for _, tag in again])

    def end(self, data: Any, name: str, queue: str, tag: int) -> Settlement:
        """A settlement of what is held, applied to the model."""
        verdict = data.draw(st.sampled_from([ACK, ACK, REQUEUE, DEAD]))
        entry = self.model.let_go(name, (queue, tag))
        if verdict == REQUEUE:
            self.model.put_back(entry, entry.crashes)
        elif verdict == DEAD:
            self.model.lines[queue].dead.append(entry)
        else:
            self.model.ended += 1
        followups = []
        if data.draw(st.booleans()):  # a retry, or the next of a chain
            follower = self.new(data.draw(st.sampled_from(QUEUES)))
            follower.loose = True
            delayed = data.draw(st.booleans())
            followups.append(out(follower.id, follower.queue, countdown=FOR_EVER if delayed else None))
            self.model.publish(follower, self.clock() + FOR_EVER if delayed else None)
        results = [StoredResult(entry.id, verdict.encode())] if self.target else []
        self.model.results.update({result.task_id: result.document for result in results})
        return Settlement(queue, tag, verdict, "bad", followups, results)

    def exchange(
        self, name: str, settlements: list[Settlement], limit: int, stale: list[int] | None = None
    ) -> None:
        began = self.clock()
        received = self.consumers[name].exchange(settlements, limit)
        assert not received.lost
        assert sorted(received.stale) == sorted(stale or [])
        self.model.wake_due(self.clock())
        self.model.taken(name, received.deliveries, limit, began, self.clock())

    # -- ends of leases --------------------------------------------------------------------------------------

    @rule(data=st.data())
    @precondition(has_leases)
    def kill(self, data: Any) -> None:
        """The process of a consumer dies; its supervisor knows what it was running and what was done."""
        name = self.pick(data)
        held = sorted(self.model.leases[name].held)
        crashed = data.draw(st.lists(st.sampled_from(held), max_size=1)) if held else []
        rest = [each for each in held if each not in crashed]
        done = data.draw(st.lists(st.sampled_from(rest), unique=True, max_size=2)) if rest else []
        queues = self.bury(name, held)
        returned = self.broker().release(name, queues, crashed=crashed, done=done)
        assert returned == self.model.end_lease(name, crashed, done)

    @rule(data=st.data())
    @precondition(has_leases)
    def lapse(self, data: Any) -> None:
        """The node of a consumer falls silent."""
        name = self.pick(data)
        held = list(self.model.leases[name].held)
        queues = self.bury(name, held)
        before = self.model.consumers(queues[0])
        assert self.broker().beat({name: queues}, ttl=0.5 if self.movable else 0.01) == []
        self.clock.advance(1.0)
        until(lambda: self.broker().stats(queues[:1])[0].consumers < before)
        assert self.broker().sweep(QUEUES) == self.model.end_lease(name, held, [])

    @rule(data=st.data())
    @precondition(has_leases)
    def close_consumer(self, data: Any) -> None:
        name = self.pick(data)
        self.consumers.pop(name).close()
        self.model.end_lease(name, [], [])

    def bury(self, name: str, held: list[tuple[str, int]]) -> Any:
        """Keep the consumer as a zombie: stopped, not dead, and it will try to settle what it held."""
        self.zombies.append((self.consumers.pop(name), held))
        return self.model.leases[name].queues

    @rule()
    @precondition(lambda self: self.zombies)
    def zombie_returns(self) -> None:
        zombie, held = self.zombies.pop()
        followups = [out("must-not-appear", "one")]
        results = [StoredResult("must-not-appear", b"")] if self.target else []
        received = zombie.exchange([Settlement(*each, ACK, "", followups, results) for each in held], 5)
        assert received.lost
        assert not received.deliveries

    @rule()
    def beat(self) -> None:
        alive = {name: lease.queues for name, lease in self.model.leases.items()}
        assert list(self.broker().beat({**alive, "stranger": QUEUES}, ttl=FOR_EVER)) == ["stranger"]

    # -- administration --------------------------------------------------------------------------------------

    @rule(queue=st.sampled_from(QUEUES))
    def purge(self, queue: str) -> None:
        assert self.broker().purge(queue) == self.model.purge(queue)

    @rule(queue=st.sampled_from(QUEUES), data=st.data(), revive=st.booleans())
    @precondition(lambda self: any(line.dead for line in self.model.lines.values()))
    def empty_dead_letters(self, queue: str, data: Any, revive: bool) -> None:
        letters = self.broker().dead(queue)
        line = self.model.lines[queue]
        assert ids(letter.message for letter in letters) == [entry.id for entry in line.dead]
        chosen = (
            data.draw(st.lists(st.sampled_from(letters), unique_by=lambda each: each.id)) if letters else []
        )
        names = [letter.id for letter in chosen]
        moved = [entry for entry in line.dead if entry.id in ids(letter.message for letter in chosen)]
        line.dead = [entry for entry in line.dead if entry not in moved]
        broker = self.broker()
        assert (broker.revive if revive else broker.drop)(queue, names) == len(names)
        for entry in moved:
            if revive:
                self.model.put_back(entry, 0)
            else:
                self.model.ended += 1

    @rule(name=st.sampled_from("abc"))
    def revoke(self, name: str) -> None:
        self.broker().revoke([name], ttl=FOR_EVER)
        self.model.revoked.add(name)

    @rule(seconds=st.sampled_from([0.1, 0.3, 1.0, 30.0]))
    @precondition(lambda self: self.movable)
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # -- what must always hold -------------------------------------------------------------------------------

    @invariant()
    def stages_agree(self) -> None:
        if not hasattr(self, "stores"):
            return
        for stats in self.stores.one.stats(QUEUES):
            line = self.model.lines[stats.queue]
            # A due message may or may not have been moved already: count both stages together.
            assert stats.depth + stats.delayed == len(line.ready) + len(line.delayed)
            assert stats.in_flight == self.model.in_flight(stats.queue)
            assert stats.dead == len(line.dead)
            assert stats.consumers == self.model.consumers(stats.queue)
        assert self.model.accounted() == self.model.published

    @invariant()
    def records_agree(self) -> None:
        if not hasattr(self, "stores"):
            return
        assert set(self.stores.two.revoked()) == self.model.revoked
        if self.target and self.stores.backend:
            wanted = [*self.model.results, "must-not-appear"]
            assert self.stores.backend.load(wanted) == self.model.results


def broker_machine(
    open_store: Callable[[Clock], Stores], *, movable_clock: bool = True, examples: int = 60, steps: int = 40
) -> type[unittest.TestCase]:
    """A test case that runs `examples` random histories of `steps` steps.

    Args:
        open_store: makes a fresh store; its brokers take the clock when `movable_clock`.
        movable_clock: the implementation lets the machine move its clock; else real time is used, in which
            no delayed message becomes due.
    """
    namespace = {"open_store": staticmethod(open_store), "movable": movable_clock}
    case: type[unittest.TestCase] = type("BoundMachine", (Machine,), namespace).TestCase  # type: ignore[attr-defined]
    case.settings = settings(  # type: ignore[attr-defined]
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return case
