"""Rows about processes that are killed or replaced.

F2 children · F3 all workers at once · F27 a rolling deploy · F28 Celery's workers on the same queue.
"""

from __future__ import annotations

import signal
import time

import psutil
from tests.faults.control import celery_python
from tests.faults.ground import Ground
from tests.faults.harness import PATIENCE, ROOT, Node, environment, until
from tests.faults.storm import Kill, percentile, recoveries

__all__ = ["all_workers", "children", "mixed_fleet", "rolling_deploy"]


def children(ground: Ground, kills: int, every: float = 0.5) -> str:
    """A random child is killed, again and again: the supervisor lives, what ran runs again at once."""
    worker = ground.node("-c", "4", conf={"task_delivery_limit": 20})
    pid = worker.pid
    keys: list[str] = []
    deaths: list[Kill] = []
    for _ in range(kills):
        if ground.client.broker.depth("faults") < 100:
            batch = [f"k{len(keys) + i}" for i in range(200)]
            ground.send(batch, lambda: ground.chance.uniform(0, 0.02))
            keys += batch
        ground.progress(5, 20)
        time.sleep(every)  # the fault's rhythm
        busy = [child.pid for child in worker.children()]
        victim = ground.chance.choice([e.pid for e in ground.journal.latest()[-20:] if e.pid in busy] or busy)
        deaths.append(Kill(time.time(), frozenset([victim])))
        psutil.Process(victim).kill()
    text = ground.verdict(keys).demand(duplicated=None)
    assert worker.pid == pid
    found = recoveries(ground.journal.events(), deaths)
    assert percentile(found, 0.99) < 2.0, f"ran again after {percentile(found, 0.99):.2f} s (p99)"
    return f"{kills} kills, {len(found)} ran, again after {percentile(found, 0.99):.2f} s (p99); {text}"


def all_workers(ground: Ground, count: int, gap: float) -> str:
    """Every worker is killed; nobody is there for a while; then one starts: it has all of it at once."""
    nodes = [ground.node("-c", "4") for _ in range(3)]
    keys = [f"k{i}" for i in range(count)]
    ground.send(keys, 0.05)
    until(lambda: ground.journal.ends() > count // 10, 30)
    for node in nodes:
        node.kill()
    starts, ended = ground.journal.count("start"), ground.journal.count("end")
    running = {key for key in starts if not ended[key]}
    time.sleep(gap)
    before = len(ground.journal.events())
    nodes[0].start()
    began = time.monotonic()

    def all_back() -> bool:
        again = {event.key for event in ground.journal.events()[before:] if event.what == "start"}
        return running <= again

    until(all_back, 15, "all that ran runs again")
    seconds = time.monotonic() - began
    assert seconds < 10 * PATIENCE
    text = ground.verdict(keys).demand(duplicated=None)
    return f"{len(running)} ran when all were killed, all again {seconds:.1f} s after a start; {text}"


def rolling_deploy(ground: Ground, rounds: int, seconds: float, grace: float) -> str:
    """One worker after the other is asked to end and gets less time than its bodies take: what is unfinished
    is handed back, and runs elsewhere at once. (TERM, and QUIT when the grace is over.)"""
    nodes = [ground.node("-c", "2") for _ in range(3)]
    keys: list[str] = []
    handed: list[tuple[str, float]] = []
    for at in range(rounds):
        if ground.client.broker.depth("faults") < 3:
            batch = [f"k{len(keys) + i}" for i in range(6)]
            ground.send(batch, seconds)
            keys += batch
        victim = nodes[at % len(nodes)]
        until(lambda: _runs(ground, victim), 20, "it is at work")  # noqa: B023
        victim.signal(signal.SIGTERM)
        assert victim.process is not None
        try:
            victim.process.wait(grace)
        except Exception:  # still at work: subprocess.TimeoutExpired
            unfinished = _runs(ground, victim)
            victim.signal(signal.SIGQUIT)
            handed += [(key, time.time()) for key in unfinished]
            victim.process.wait(10)
        # The latter: it had ended by itself, and QUIT came when it no longer listened.
        ended = victim.process.returncode
        assert ended in (0, -signal.SIGQUIT), f"it ended with status {ended}"
        victim.start()
    text = ground.verdict(keys, timeout=seconds + 20).demand(duplicated=0)
    starts = [event for event in ground.journal.events() if event.what == "start"]
    gaps = [min(e.at - at for e in starts if e.key == key and e.at > at) for key, at in handed]
    # A free slot takes it at once; where all are busy it is the next one to be free.
    bound = max(2.0, seconds + 1.0)
    assert percentile(gaps, 0.5) < bound, f"running again after {percentile(gaps, 0.5):.1f} s (p50)"
    return (
        f"{rounds} deploys, bodies of {seconds:g} s, grace {grace:g} s, {len(gaps)} handed back, running "
        f"after {percentile(gaps, 0.5):.1f} s (p50), {max(gaps, default=0):.1f} s (max); {text}"
    )


def _runs(ground: Ground, node: Node) -> set[str]:
    """The keys that a worker runs at this moment."""
    pids = {process.pid for process in node.family()}
    events = [event for event in ground.journal.events() if event.pid in pids]
    ended = {(event.key, event.pid) for event in events if event.what == "end"}
    return {event.key for event in events if (event.key, event.pid) not in ended}


def mixed_fleet(ground: Ground, count: int, kills: int) -> str:
    """Celery's workers and ours on one queue, ours are killed: nothing is lost by us, and Celery's sweeper
    never touches what ours hold."""
    conf = {"worker_lease_ttl": 3.0}
    ours = [ground.node("-c", "2", name=f"ours{i}", conf=conf) for i in range(2)]
    theirs_conf = {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "broker_transport_options": {"visibility_timeout": 4, "unacked_restore_limit": None},
        "broker_connection_retry_on_startup": True,
        "worker_prefetch_multiplier": 4,
    }
    if ground.kind == "rabbitmq":
        del theirs_conf["broker_transport_options"]
    env = environment(ground.store.broker, None, ground.journal.path, theirs_conf)
    env |= {"FAULTS_LIBRARY": "celery", "PYTHONPATH": str(ROOT)}
    theirs = Node(
        env, "-c", "2", "-Q", "faults", "--without-mingle", "--without-gossip", name="theirs",
        log=ground.folder / "theirs.log", python=celery_python(), module="celery",
    )  # fmt: skip
    ground.stack.enter_context(theirs)
    keys = [f"k{i}" for i in range(count)]
    ground.bulk(keys, lambda: ground.chance.uniform(0, 0.02))
    until(
        lambda: _at_work(ground, theirs) and all(_at_work(ground, node) for node in ours),
        60,
        "all are at work",
    )
    deaths: list[Kill] = []
    for _ in range(kills):
        victim = ground.chance.choice(ours)
        until(lambda: _at_work(ground, victim), 20, "it is at work")  # noqa: B023
        deaths.append(Kill(time.time(), frozenset(process.pid for process in victim.family())))
        victim.kill()
        victim.start()
        time.sleep(0.5)  # the fault's rhythm
    ground.wait(count, 120)
    share = sum(event.pid in {p.pid for p in theirs.family()} for event in ground.journal.events()) // 2
    theirs.stop()
    text = ground.verdict(keys, results=False).demand(duplicated=None)
    killed = {pid for death in deaths for pid in death.pids}
    starts = ground.journal.count("start")
    excused = {e.key for e in ground.journal.events() if e.what == "start" and e.pid in killed}
    twice = {key for key, times in starts.items() if times > 1 and key not in excused}
    assert not twice, f"{len(twice)} ran twice although nobody died that had them"
    return f"{kills} kills of ours, Celery ran {share:,}; {text}"


def _at_work(ground: Ground, node: Node) -> bool:
    pids = {process.pid for process in node.family()}
    return any(event.pid in pids for event in ground.journal.latest())
