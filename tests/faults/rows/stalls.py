"""Rows about time: processes that stand still, bodies that take long, clocks that jump.

F4 long bodies · F5 messages for later · F7 zombies · F8 starved heartbeats · F25 clocks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.ground import Ground
from tests.faults.harness import PATIENCE, ROOT, environment, until

__all__ = ["clocks", "host_clock", "later", "long_bodies", "starved", "zombies"]

#: Seconds that leases live where a row waits for them.
TTL = 1.5
#: And where they must not lapse, on a machine that is busy with other things.
LONG_TTL = 3.0
CONF = {"worker_lease_ttl": TTL}


def long_bodies(ground: Ground, seconds: float, kills: int) -> str:
    """Eight bodies much longer than a lease, while other workers are killed: none of them runs twice."""
    long = [f"long{i}" for i in range(8)]
    conf = {"worker_lease_ttl": LONG_TTL}
    steady = [ground.node("-c", "4", name=f"steady{i}", conf=conf) for i in range(2)]
    ground.send(long, seconds)
    until(lambda: len(ground.journal.count("start")) == len(long), 30, "all run")
    started = time.monotonic()
    victim = ground.node("-c", "2", name="victim", conf=conf)
    keys: list[str] = []
    for _ in range(kills):
        batch = [f"k{len(keys) + i}" for i in range(50)]
        ground.send(batch, 0.005)
        keys += batch
        ground.progress(5, 20)
        time.sleep(max(0.0, (seconds - 1) / kills - 0.5))
        victim.kill()
        victim.start()
    until(lambda: ground.journal.count("end").keys() >= set(long), seconds + 30)
    assert time.monotonic() - started < seconds + 20 * PATIENCE
    text = ground.verdict([*long, *keys]).demand(duplicated=None)
    starts = ground.journal.count("start")
    assert {key: starts[key] for key in long} == dict.fromkeys(long, 1)
    assert [node.log.count("LEASE_LOST") for node in steady] == [0, 0]
    return f"8 bodies of {seconds:g} s, leases of {TTL} s, {kills} kills beside them; {text}"


def later(ground: Ground, count: int, horizon: float, kills: int, late: float = 1.0) -> str:
    """Messages for later, workers restarted all the time and then killed: none early, none lost.

    Args:
        late: seconds of lateness (p99) that are borne; more where the machine does other things as well.
    """
    nodes = [ground.node("-c", "2", conf=CONF) for _ in range(2)]
    ground.send(["warm"])
    ground.wait(1)
    due: dict[str, float] = {}

    def publish(prefix: str) -> list[str]:
        keys = [f"{prefix}{i}" for i in range(count)]
        for key in keys:
            wait = ground.chance.uniform(1.0, horizon)
            due[key] = time.time() + wait
            ground.client.send_task("record", (key,), task_id=key, countdown=wait)
        return keys

    def lateness(keys: list[str]) -> list[float]:
        starts = {event.key: event.at for event in reversed(ground.journal.events()) if event.what == "start"}
        return sorted(starts[key] - due[key] for key in keys)

    calm = publish("calm")
    while not ground.journal.count("end").keys() >= set(calm):
        node = ground.chance.choice(nodes)
        assert node.stop() in (0, -signal.SIGTERM), "it ended badly"  # the latter: it was not up yet
        node.start()
        time.sleep(1.0)  # the fault's rhythm
        assert time.time() < max(due.values()) + 30 * PATIENCE, "some do not come"
    restarts = lateness(calm)
    assert restarts[0] >= 0, f"one came {-restarts[0]:.3f} s too early"
    starts = ground.journal.count("start")
    assert {key for key in calm if starts[key] != 1} == set()
    wild = publish("wild")
    for _ in range(kills):
        time.sleep(max(0.2, horizon / kills / 2))
        node = ground.chance.choice(nodes)
        node.kill()
        node.start()
    text = ground.verdict(["warm", *calm, *wild], timeout=horizon + 10).demand(duplicated=None)
    killed = lateness(wild)
    assert killed[0] >= 0, f"one came {-killed[0]:.3f} s too early"
    p99 = [found[int(len(found) * 0.99)] for found in (restarts, killed)]
    assert p99[0] < late, f"late by {p99[0]:.2f} s (p99) under restarts"
    assert p99[1] < 10 * late, f"late by {p99[1]:.2f} s (p99) under kills"
    return f"late p99 {p99[0]:.2f} s under restarts, {p99[1]:.2f} s under {kills} kills, none early; {text}"


def zombies(ground: Ground, rounds: int) -> str:
    """A worker is stopped in the middle of a body for longer than its lease and then goes on: what it says
    is refused, what it held has run elsewhere, once, with one callback."""
    nodes = [ground.node("-c", "1", name=name, conf=CONF) for name in ("a", "b")]
    ground.send(["warm-a", "warm-b"], 0.5)
    ground.wait(2)
    reruns, noticed, refused = [], [], 0
    keys = ["warm-a", "warm-b"]
    for i in range(rounds):
        key, after = f"z{i}", f"cb{i}"
        keys += [key, after]
        link = ground.client.signature("record", (after,), immutable=True, task_id=after)
        result = ground.client.send_task("record", (key, TTL), task_id=key, link=link)
        first = until(lambda: [e for e in ground.journal.events() if e[:2] == ("start", key)], 10)[0]  # noqa: B023
        zombie = next(node for node in nodes if first.pid in {process.pid for process in node.family()})
        seen = zombie.log.count("LEASE_LOST")
        zombie.pause()
        stopped = time.monotonic()
        until(lambda: ground.journal.count("start")[key] == 2, 10, "it runs elsewhere")  # noqa: B023
        reruns.append(time.monotonic() - stopped)
        assert result.get(timeout=45) == key
        done = result.date_done
        zombie.resume()
        woke = time.monotonic()
        until(lambda: zombie.log.count("LEASE_LOST") > seen, 4, "the zombie notices")  # noqa: B023
        noticed.append(time.monotonic() - woke)
        refused += 1
        until(lambda: ground.journal.count("end")[after], 10)  # noqa: B023
        assert result.date_done == done, "the zombie's result was accepted"
    text = ground.verdict(keys).demand(duplicated=None)
    starts = ground.journal.count("start")
    assert {key for key in keys if key.startswith("cb") and starts[key] != 1} == set(), "a callback ran twice"
    return (
        f"{rounds} rounds, {refused} zombies refused, 0 stale settlements accepted; elsewhere in "
        f"{max(reruns):.1f} s, noticed in {max(noticed):.1f} s; {text}"
    )


def starved(ground: Ground, seconds: float, pools: tuple[str, ...] = ("threads", "solo", "prefork")) -> str:
    """Bodies that hold the interpreter in C for longer than a lease, with every processor taken: nobody is
    taken for dead."""
    conf = {"worker_lease_ttl": TTL}
    nodes = [ground.node("-c", "1", "-P", pool, name=pool, conf=conf) for pool in pools]
    ground.send([f"warm-{i}" for i in range(2 * len(pools))], 0.3)
    ground.wait(2 * len(pools))
    hogs = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=lambda: os.nice(0))
        for _ in range(4)
    ]
    try:
        keys = [f"hold{i}" for i in range(len(pools))]
        for key in keys:
            ground.client.send_task("hold", (key, seconds), task_id=key)
        ground.wait(3 * len(pools), seconds * len(pools) + 30)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert [node.log.count("LEASE_LOST") for node in nodes] == [0] * len(nodes)
    assert set(ground.journal.count("start").values()) == {1}
    text = ground.verdict([*keys, *(f"warm-{i}" for i in range(2 * len(pools)))]).demand()
    return f"{seconds:g} s in C with leases of {TTL} s and 4 hogs, {', '.join(pools)}: nobody swept; {text}"


class Clock:
    """A wall clock for processes, which can be put right and wrong while they run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.shift(0.0)
        folder = Path(__file__).parents[1] / "clock"
        self.environ = {"FAULTS_CLOCK": str(path), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}:{folder}"}

    def shift(self, seconds: float) -> None:
        """From now on it is wrong by so much."""
        with self._path.open("r+b" if self._path.exists() else "wb") as file:
            file.write(int(seconds * 1e9).to_bytes(8, "little", signed=True))


#: What clocks do in this row (seconds): an hour forward, an hour back, ten years forward.
JUMPS = (3600.0, -3600.0, 315_360_000.0)


def clocks(ground: Ground, jumps: tuple[float, ...] = JUMPS) -> str:
    """Wall clocks of workers and producers jump; monotonic clocks do not. Leases and due times are the
    broker's: nobody is swept early, nothing runs twice, and what is due in two seconds comes then."""
    clock = Clock(ground.folder / "shift")
    shifted = ground.node("-c", "2", name="shifted", conf=CONF, extra=clock.environ)
    steady = ground.node("-c", "2", name="steady", conf=CONF)
    keys: list[str] = []

    def batch(prefix: str) -> None:
        made = [f"{prefix}-{i}" for i in range(60)]
        ground.send(made, 0.05)
        keys.extend(made)

    batch("warm")
    ground.wait(len(keys))
    late = []
    for jump in jumps:
        batch(f"before{jump:+.0f}")
        clock.shift(jump)
        batch(f"after{jump:+.0f}")
        key = f"eta{jump:+.0f}"
        keys.append(key)
        began = time.monotonic()
        ground.client.send_task("record", (key,), task_id=key, countdown=2.0)
        until(lambda: ground.journal.count("start")[key], 10, "what is due in 2 s")  # noqa: B023
        late.append(time.monotonic() - began - 2.0)
        far = f"far{jump:+.0f}"
        keys.append(far)
        _shifted_producer(ground, clock, far)
        ground.wait(len(keys))
        batch(f"back{jump:+.0f}")
        clock.shift(0.0)
        ground.wait(len(keys))
    assert min(late) >= -0.05, f"one came {-min(late):.2f} s too early"
    assert max(late) < 1.0, f"one came {max(late):.2f} s too late"
    text = ground.verdict(keys).demand()
    starts = ground.journal.count("start")
    assert {key for key in keys if starts[key] != 1} == set()
    assert [node.log.count("LEASE_LOST") for node in (shifted, steady)] == [0, 0]
    jumped = ", ".join(f"{jump:+.0f} s" for jump in jumps)
    return f"{jumped}: late by {max(late):.2f} s at most; {text}"


def host_clock(ground: Ground, jumps: tuple[float, ...] = JUMPS) -> str:
    """The clock of the whole machine jumps, as a store without a server goes by it: what runs is not taken
    away, and what comes afterwards runs."""
    clock = Clock(ground.folder / "shift")
    conf = {"worker_lease_ttl": 6.0}
    nodes = [ground.node("-c", "2", name=name, conf=conf, extra=clock.environ) for name in ("a", "b")]
    keys: list[str] = []

    def publish(key: str, seconds: float) -> None:
        code = (
            "import sys; from tests.faults.proj import record; "
            "[record.apply_async((f'{sys.argv[1]}-{i}', float(sys.argv[2])), task_id=f'{sys.argv[1]}-{i}')"
            " for i in range(4)]"
        )
        env = environment(ground.store.broker, ground.store.backend, ground.journal.path) | clock.environ
        command = [sys.executable, "-c", code, key, str(seconds)]
        subprocess.run(command, env=env, cwd=ROOT, check=True, timeout=60)
        keys.extend(f"{key}-{i}" for i in range(4))

    def all_started() -> bool:
        return ground.journal.count("start").keys() >= set(keys)

    for jump in jumps:
        publish(f"long{jump:+.0f}", 2 * TTL)
        until(all_started, 20, "all run")
        clock.shift(jump)
        until(lambda: ground.journal.count("end").keys() >= set(keys), 20, "all have run")
        publish(f"after{jump:+.0f}", 0.0)
        until(lambda: ground.journal.count("end").keys() >= set(keys), 20, "what came after has run")
        clock.shift(0.0)
        publish(f"back{jump:+.0f}", 0.0)
        until(lambda: ground.journal.count("end").keys() >= set(keys), 20, "what came then has run")
    text = ground.verdict(keys).demand()
    starts = ground.journal.count("start")
    assert {key for key in keys if starts[key] != 1} == set()
    assert [node.log.count("LEASE_LOST") for node in nodes] == [0, 0]
    return f"{', '.join(f'{jump:+.0f} s' for jump in jumps)}, the whole machine: nobody swept; {text}"


def _shifted_producer(ground: Ground, clock: Clock, key: str) -> None:
    """A process whose clock is wrong wants something done at once; it is."""
    code = (
        "import sys; from tests.faults.proj import record; "
        "record.apply_async((sys.argv[1],), task_id=sys.argv[1])"
    )
    env = environment(ground.store.broker, ground.store.backend, ground.journal.path) | clock.environ
    subprocess.run([sys.executable, "-c", code, key], env=env, cwd=ROOT, check=True, timeout=60)
    until(lambda: ground.journal.count("start")[key], 5, "what a shifted producer wants")
