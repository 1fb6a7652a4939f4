"""Rows about the network between workers, producers and the broker.

F11 lost answers to publishes · F17 blackholes · F18 bad lines · F19 several disconnects in a row · F21 one
link of three is cut.
"""

from __future__ import annotations

import time

from tests.faults.ground import Ground
from tests.faults.harness import PATIENCE, Node, until
from tests.faults.network import Network
from tests.faults.stream import Stream

__all__ = ["bad_lines", "blackholes", "bursts", "links", "lost_answers"]

#: What the answer to a publish is called in each protocol.
PUBLISH = {"redis": b"EVALSHA", "rabbitmq": b"basic.publish", "postgres": b".publish"}


def start(ground: Ground, network: Network, *arguments: str) -> tuple[Node, Stream]:
    """A worker and a producer at the other end of the network, both at work."""
    worker = ground.node("-c", "2", *arguments, via=network)
    stream = ground.stream(network)
    stream.start()
    ground.progress(50, 30)
    return worker, stream


def finish(
    ground: Ground,
    worker: Node,
    pid: int,
    stream: Stream,
    *,
    duplicated: int | None = 0,
    without_leases: int | None = None,
) -> str:
    """Everything has run, and the worker is the same as in the beginning.

    Without leases a connection that is cut gives back what it held; who cannot be asked counts as dead. There
    what was in flight may run twice: `without_leases` at most, None: any number.
    """
    if ground.kind.startswith("rabbitmq"):
        duplicated = without_leases
    stream.stop()
    assert worker.process is not None
    assert worker.process.poll() is None, "the worker has exited"
    assert worker.pid == pid
    return ground.verdict(stream.returned, stream.unknown).demand(duplicated=duplicated)


def lost_answers(ground: Ground, times: int) -> str:
    """The broker has stored it, nobody hears of it, it is sent again: it runs once."""
    network = ground.network()
    ground.node("-c", "2")
    far = ground.app(network, broker_publish_timeout=15.0)
    far.send_task("record", ("first",), task_id="first")
    for i in range(times):
        network.drop_reply(PUBLISH[ground.kind.partition("-")[0]])
        far.send_task("record", (f"k{i}",), task_id=f"k{i}", countdown=0.01 if i % 4 == 3 else None)
        assert network.dropped.is_set(), f"the answer to publish {i} was not lost"
    keys = ["first", *(f"k{i}" for i in range(times))]
    text = ground.verdict(keys).demand()
    starts = ground.journal.count("start")
    assert set(starts.values()) == {1}, {key: count for key, count in starts.items() if count > 1}
    return f"{times} answers lost; {text}"


def blackholes(ground: Ground, seconds: float, sides: tuple[str, ...] = ("both", "up", "down")) -> str:
    """Nothing passes for a while, and nobody says so: noticed, and over soon after the network heals."""
    network = ground.network()
    worker, stream = start(ground, network)
    pid = worker.pid
    noticed, recovered = [], []
    for side in sides:
        seen = worker.log.count("ERROR")
        began = time.monotonic()
        network.blackhole(up=side != "down", down=side != "up")
        until(lambda: worker.log.count("ERROR") > seen, 10, f"the worker notices ({side})")  # noqa: B023
        noticed.append(time.monotonic() - began)
        time.sleep(max(0.0, seconds - noticed[-1]))  # the fault's length
        network.heal()
        recovered.append(ground.progress(20, 10))
    assert max(recovered) < 5, recovered
    # Whoever was silent for as long as its lease may have been taken for dead.
    text = finish(ground, worker, pid, stream, duplicated=None)
    assert stream.slowest < 5.0 * PATIENCE, f"a publish took {stream.slowest:.1f} s with a limit of 5"
    return (
        f"noticed in {max(noticed):.1f} s, back in {max(recovered):.1f} s, "
        f"slowest publish {stream.slowest:.1f} s; {text}"
    )


def bad_lines(ground: Ground, seconds: float, latency: float = 2.0) -> str:
    """Resets each half second, ends of file, single bytes, latency, 50 KB/s: slow, and correct."""
    network = ground.network()
    worker, stream = start(ground, network)
    pid = worker.pid
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        network.cut()
        time.sleep(0.5)  # the fault's rhythm
    ground.progress()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        network.half_close(client=ground.chance.random() < 0.5, server=ground.chance.random() < 0.5)
        time.sleep(0.5)
    ground.progress()
    network.up.slices = network.down.slices = 1
    _carry_on(ground, seconds)
    network.heal()
    network.up.rate = network.down.rate = 50_000
    _carry_on(ground, seconds)
    network.heal()
    network.up.latency = network.down.latency = latency / 2
    network.up.jitter = network.down.jitter = latency / 20
    _carry_on(ground, seconds + 5 * latency, more=2)
    network.heal()
    ground.progress()
    return finish_idle(ground, worker, pid, stream)


def finish_idle(ground: Ground, worker: Node, pid: int, stream: Stream) -> str:
    """After all that the worker has nothing to do, and does nothing."""
    stream.stop()
    ground.wait(len(stream.returned))
    share = cpu(worker, 3.0)
    assert share < 0.05, f"an idle worker takes {share:.0%} of a processor"
    return f"idle {share:.1%} of a processor; {finish(ground, worker, pid, stream)}"


def cpu(worker: Node, seconds: float) -> float:
    """The share of one processor that a worker takes."""

    def used() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in worker.family())

    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds


def _carry_on(ground: Ground, seconds: float, more: int = 20) -> None:
    started = time.monotonic()
    ground.progress(more, max(20.0, seconds))
    time.sleep(max(0.0, seconds - (time.monotonic() - started)))


def bursts(ground: Ground, times: int) -> str:
    """Connected again, and within two seconds cut several times more: it consumes again, every time."""
    network = ground.network()
    worker, stream = start(ground, network)
    pid = worker.pid
    back = []
    for _ in range(times):
        for _ in range(ground.chance.randint(2, 4)):
            if ground.chance.random() < 0.3:
                network.refuse()
            network.cut()
            time.sleep(ground.chance.uniform(0.05, 0.7))  # the fault's rhythm
            network.heal()
            time.sleep(ground.chance.uniform(0.0, 0.3))
        back.append(ground.progress(20, 10))
    # One copy that waits unread among suspects may run beside another one that comes there later.
    text = finish(ground, worker, pid, stream, without_leases=1 + times // 25)
    return f"{times} bursts, back in {max(back):.1f} s at most; {text}"


def links(ground: Ground, seconds: float) -> str:
    """Broker and result store in different places; the worker loses one, then the other.

    While the results cannot be stored nothing is settled; nothing that ran is forgotten or runs again.
    """
    from tests.servers import RedisServer

    results = RedisServer()
    ground.stack.callback(results.stop)
    ground.store = ground.store._replace(backend=results.url)
    ground.client = ground.app()
    to_broker = ground.network()
    to_results = ground.stack.enter_context(Network(results.port))
    store = ground.store
    ground.store = store._replace(broker=to_broker.url(store.broker), backend=to_results.url(store.backend))
    worker = ground.node("-c", "2")
    ground.store = store
    stream = ground.stream()
    stream.start()
    ground.progress(50, 30)
    pid = worker.pid
    backs = []
    for network in (to_results, to_broker, to_results):
        network.blackhole() if ground.chance.random() < 0.5 else network.refuse()
        network.cut()
        time.sleep(seconds)  # the fault's length
        if network is to_results:
            held = ground.handed_out()
            assert held, "something was settled whose result could not be stored"
        network.heal()
        backs.append(ground.progress(20, 10))
    # Cut off from the broker for longer than a lease: others take what it held.
    text = finish(ground, worker, pid, stream, duplicated=None if seconds > 5 else 0)
    return f"back in {max(backs):.1f} s; {text}"
