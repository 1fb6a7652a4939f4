"""THE SEAM between the worker or client and a transport.

1. The values that cross it: `Outgoing`, `Delivery`, `Settlement`, `Received`, `StoredResult`, `DeadLetter`,
   `QueueStats`, `Queue`, `Word`, `Lifeline`.
2. The two protocols: `Broker` (thread-safe, fork-safe) and `Consumer` (owned by one courier thread; only
   `wake` may be called from another); and `Trail`, which the worker implements for consumers without leases.
3. `Capabilities`: what a transport declares it can do. Nobody ever compares a broker's type.

The life of a message, and every arrow is ONE atomic step of the broker:

    published ─▶ queued ─▶ held(consumer, tag) ─▶ settled            gone, dead-lettered, or queued again
                  ▲  delayed ─┘(when due)      └─▶ released / swept   queued again; crashes + 1 if it ran

- A consumer is a lease: registered by `Broker.consumer`, kept alive by `Broker.beat`, given up by
  `Consumer.close`, taken away by `Broker.release` (its process died) or `Broker.sweep` (its node is silent).
- Fencing: a settlement is accepted only while its consumer still holds the tag. A refused settlement has no
  effect at all: no result, no follow-up, no acknowledgement.
- Quarantine: a message whose process died while running it (`crashes` ≥ 1) is delivered alone, and the next
  such message not before this one is settled or `QUARANTINE` seconds have passed, so that a poison
  message cannot make its neighbours look guilty. The broker only counts crashes; whether a delivery is past
  its limit is decided by whoever receives it.
- All lease and due times are the broker's own clock.

Brokers without leases (`Capabilities.leases` is False: the store itself takes back what a lost connection
held) differ in this, and decision 0011 says why:

- `beat`, `sweep`, `release` and `held` have nothing to do, and `Received.lost` is never set. A consumer
  that has lost its connection or channel raises `OperationalError` once (`exchange` or `wait`), so that the
  courier drops what it has not started; then it consumes again. A settlement of a delivery whose channel is
  gone is accepted: its follow-ups are published, its acknowledgement is dropped, and all nodes are told
  that its tag is done.
- A copy that comes back (*redelivered*) is not handed out before all nodes were asked what they know of its
  (queue, tag). `Broker.attend` gives each node's answers; what they are is in `Fate`. Several answers: the
  youngest counts. None, although every home has answered: nobody has read it. None, and a home is silent:
  its process is lost with its ledger, which is a crash.
- So the tag names the *copy*: a message that is given back or counted as crashed is published again under a
  new tag, and what was said of the old copy is not said of it. (One that is only parked, because it runs
  elsewhere, keeps its tag.)
- What a consumer took, and what it has settled, it writes to `ConsumerSpec.trail`, which outlives the
  process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

from celeriac.exceptions import ImproperlyConfigured
from celeriac.wire.message import Message, Unreadable

__all__ = [
    "ACK",
    "CLAIM_TTL",
    "COPIED",
    "CRASHED",
    "DEAD",
    "DONE",
    "ENDED",
    "INNOCENT",
    "MOVED",
    "QUARANTINE",
    "REQUEUE",
    "RUNNING",
    "TAG_BITS",
    "UNSURE",
    "Answer",
    "Broker",
    "Capabilities",
    "Consumer",
    "ConsumerSpec",
    "DeadLetter",
    "Delivery",
    "Fate",
    "Lifeline",
    "Outgoing",
    "Place",
    "Queue",
    "QueueStats",
    "Received",
    "ResultTarget",
    "Settlement",
    "StoredResult",
    "Tables",
    "TablesStatus",
    "Trail",
    "Verdict",
    "Word",
    "attend_to_nobody",
    "require_queues",
]

Verdict = Literal["ack", "requeue", "dead"]
ACK: Final = "ack"
REQUEUE: Final = "requeue"
DEAD: Final = "dead"

#: Seconds for which a message that has crashed a process keeps other such messages of its queue waiting.
QUARANTINE: Final = 0.25
#: Tags of brokers without leases are below 2 ** TAG_BITS.
TAG_BITS: Final = 62

#: What a node knows of a delivery, one of those below (`ENDED` with its reason behind it).
Fate = str
#: A living process has it, or is about to settle it.
RUNNING: Final = "running"
#: Its body ended; everything that it owed is stored and published, and only the acknowledgement was lost.
DONE: Final = "done"
#: Its process is dead, or has dropped it, and never started it (or lost its end, and it may run again).
INNOCENT: Final = "innocent"
#: Its process died while running it.
CRASHED: Final = "crashed"
#: ``ended:time limit:30.0`` or ``ended:terminated``: its node killed the process to end it. The rest behind
#: this prefix becomes `Delivery.ended`.
ENDED: Final = "ended:"
#: Its process died while it published a copy that takes its place: nobody knows whether that is stored.
COPIED: Final = "copied"
#: The same of one that had come back to it and had crashed: the copy, for the suspects, counts that.
MOVED: Final = "moved"
#: Somebody is about to find out: ask again.
UNSURE: Final = "unsure"
#: Seconds for which a claim (`Trail.claim`) counts that is not made again.
CLAIM_TTL: Final = 10.0
#: (queue, tag) of a delivery.
Place = tuple[str, int]


class Capabilities(NamedTuple):
    """What a transport can do natively. A missing capability is refused clearly where it is asked for."""

    delay: bool = True
    priority: bool = True
    fanout: bool = False
    atomic_settle: bool = True
    leases: bool = True
    browse: bool = True
    processes: bool = True  # reachable from other processes (memory:// is not)
    wakes_one: bool = False  # a message wakes as many idle consumers as it needs; False: all of them
    census: bool = True  # it can name all its queues, and count, time and purge what is in flight or delayed
    most_urgent: int = 0  # the priority that goes first
    in_parts: bool = False  # `publish` takes a long batch slice by slice, each of which may be made meanwhile
    envelopes: bool = False  # `publish` stores an `Alike` whole or not at all, and need not see its messages
    transactional: bool = False  # `publish(connection=…)`: inside a transaction of the caller's


class Queue(NamedTuple):
    """A queue and the binding that feeds it. `exchange_type`: direct, topic, fanout or headers.

    The rest is for brokers that have such notions; others take no notice. `arguments`: of the queue, sorted
    pairs; `binding`: of the binding, likewise.
    """

    name: str
    exchange: str = ""
    routing_key: str = ""
    exchange_type: str = "direct"
    max_priority: int | None = None
    arguments: tuple[tuple[str, Any], ...] = ()
    durable: bool = True
    auto_delete: bool = False
    exclusive: bool = False
    exchange_durable: bool = True
    exchange_arguments: tuple[tuple[str, Any], ...] = ()
    binding: tuple[tuple[str, Any], ...] = ()


class Outgoing(NamedTuple):
    """One message to publish.

    Either `queue` names the queue, or `exchange` and `routing_key` are resolved through the bindings.
    At most one of `countdown` (seconds from the broker's now) and `due` (epoch seconds) is given.
    `priority` has the transport's wire meaning (Redis: 0 is most urgent).
    """

    message: Message
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    priority: int = 0
    countdown: float | None = None
    due: float | None = None


class Delivery(NamedTuple):
    """A message and the duty to settle it. `tag` is unique per queue for ever; `crashes` counts the
    processes that died while running it. `ended`: its process was killed to end it, so it is concluded and
    does not run again: ``terminated``, or ``time limit:`` and the limit in seconds."""

    queue: str
    tag: int
    message: Message | Unreadable
    crashes: int = 0
    ended: str = ""


class StoredResult(NamedTuple):
    """A result document, encoded. `ttl` is seconds until it expires; None keeps it for ever. `reply_to`: the
    address of the process that made the call, for stores that send results there instead of keeping them."""

    task_id: str
    document: bytes
    ttl: float | None = None
    reply_to: str = ""


class Settlement(NamedTuple):
    """The end of one delivery. With `atomic_settle`, verdict, follow-ups and results are one transaction.

    `verdict`: ACK (gone), REQUEUE (back to the front of its queue, not counted as a crash), DEAD (to the
    dead-letter queue with `reason`). `owed`: the worker's own account; brokers take no notice.
    """

    queue: str
    tag: int
    verdict: Verdict = ACK
    reason: str = ""
    followups: Sequence[Outgoing] = ()
    results: Sequence[StoredResult] = ()
    owed: Any = None


class Received(NamedTuple):
    """What one trip brought. `stale`: tags whose settlement was refused. `lost`: the lease is gone; nothing
    was settled that is not gone already, drop everything held. `now`: the broker's clock (epoch seconds).
    `next_due`: seconds until the next delayed message of the consumer's queues, None if there is none."""

    deliveries: Sequence[Delivery]
    stale: Sequence[int]
    lost: bool
    now: float
    next_due: float | None


class ResultTarget(NamedTuple):
    """Where results that ride on settlements go: the backend's own `location` and its key prefix."""

    location: tuple[str, ...]
    prefix: str = ""


class Word(NamedTuple):
    """What a node says of a delivery. `fate`: empty when it only knows who claims it. `age`: seconds since it
    became so, by the node's own clock. `claims`: ids of the consumers that claim it (`Trail.claim`)."""

    fate: Fate
    age: float = 0.0
    claims: tuple[str, ...] = ()


#: Asked for the words on some deliveries; says nothing of those that it does not know.
Answer = Callable[[Sequence[Place]], Mapping[Place, Word]]


class Lifeline(NamedTuple):
    """A connection that another process of this node may keep alive: write `pulse` to `fd` when nothing was
    written for `every` seconds and `Trail.writing` says that no write is under way."""

    fd: int
    pulse: bytes
    every: float


class Trail(Protocol):
    """What a consumer without a lease writes down, in memory that outlives its process. Called on the
    courier's thread only; each call costs well under a microsecond and cannot fail.

    `writing`: one byte; set it to 1 before a write to the lifeline's socket that may be partial and to 0 when
    the last byte of a frame is out (``trail.writing[0] = 1``).
    """

    writing: memoryview

    def took(self, tags: Iterable[int]) -> None:
        """These arrived: held by this process from now on, handed over or not."""

    def copying(self, tags: Iterable[int]) -> None:
        """Copies that take their place are published next; `concluded` follows, or `took` if that failed."""

    def concluded(self, tags: Iterable[int]) -> None:
        """All that these owe is stored and published; their acknowledgements are written next."""

    def dropped(self, tags: Iterable[int]) -> None:
        """The connection they came from is lost, and they will not be handed over (any more)."""

    def claim(self, tags: Iterable[int]) -> None:
        """Copies of these are here, and it is asked next whether they may run: of two that ask at the same
        moment one at least sees the other. Counts for `CLAIM_TTL` seconds, unless it is made again."""

    def disclaim(self, tags: Iterable[int]) -> None:
        """It is decided and, if they run here, written down by `took`; or left to somebody else."""

    def alone(self) -> bool:
        """Ask before taking a suspect: True when no other process of this node took one in the last
        `QUARANTINE` seconds that is not settled yet. True reserves the turn until `free`, or for `QUARANTINE`
        seconds."""

    def free(self) -> None:
        """There was none to take, or it is settled."""


class ConsumerSpec(NamedTuple):
    """`id` is the lease's name, new for every process start. `queues` in the order they are to be served
    (they are rotated for fairness). `ttl`: seconds the lease lives without a beat. `results`: set when result
    documents may ride on settlements (`Broker.carries(target)` said yes). `trail`: where a consumer without a
    lease writes what it takes and settles; None: nobody will ask."""

    id: str
    queues: Sequence[str]
    ttl: float = 6.0
    results: ResultTarget | None = None
    trail: Trail | None = None


def require_queues(spec: ConsumerSpec) -> None:
    """Raises `ImproperlyConfigured` for a consumer of nothing."""
    if not spec.queues:
        raise ImproperlyConfigured("A consumer needs a queue: name at least one (worker -Q).")


class DeadLetter(NamedTuple):
    """One entry of a dead-letter queue. `id` names it in `dead`, `revive` and `drop`."""

    id: str
    queue: str
    reason: str
    at: float
    message: Message | Unreadable
    crashes: int = 0


class QueueStats(NamedTuple):
    """A queue as the broker alone sees it. `oldest_age`: seconds the message next in line has been waiting
    (None: empty or not known); `consumers`: live leases."""

    queue: str
    depth: int
    oldest_age: float | None
    in_flight: int
    delayed: int
    dead: int
    consumers: int


class TablesStatus(Protocol):
    """Which version of our tables is at `where`; 0: none. `wanted`: the one that this program needs."""

    @property
    def where(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def wanted(self) -> int: ...


class Tables(Protocol):
    """What a broker in a database that others look after has as its attribute `tables`."""

    def status(self) -> TablesStatus:
        """Looks, and changes nothing."""

    def migrate(self) -> TablesStatus:
        """Brings the tables to the wanted version; what they are then."""

    def script(self, version: int = 0) -> str:
        """The SQL that leads from `version` to the wanted one, for people who apply it by hand."""


class Consumer(Protocol):
    """One lease's end of the line; used by one thread, `wake` excepted."""

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> Received:
        """Settle, then take up to `limit` messages, in one trip; never blocks for messages to arrive.

        It may bring less than there is: of a queue no more than the consumer's fair share, which is what is
        ready divided by the live leases, rounded up.

        Settlements are idempotent: repeated after a lost reply they have no second effect (the tag comes back
        in `stale`, or is silently gone). A crash at any point loses nothing: what was taken is held under
        the lease. Messages that are due move from the delay store first. A broker that cannot be reached
        raises `OperationalError`; call again, it reconnects.
        """

    def wait(self, timeout: float) -> None:
        """Block until messages may have arrived (anybody's publish, a due time), `wake` was called, or
        `timeout` seconds have passed. May return early; never polls in a loop. After an exchange that brought
        all that it asked for it waits for `wake` only: more messages are of no use then."""

    def wake(self) -> None:
        """Make a blocked `wait`, or the next one, return at once. Callable from any thread."""

    def lifeline(self) -> Lifeline | None:
        """The present connection, when it dies unless written to regularly and another process may do that;
        None otherwise. Called after each exchange and wait: cheap, and the same object while it is the same
        connection."""

    def close(self) -> None:
        """Give everything held back to its queues (not counted as crashes) and give up the lease."""


class Broker(Protocol):
    """A transport. Safe to use from any thread; usable again in a forked child (connections are dropped)."""

    capabilities: Capabilities

    def publish(self, batch: Sequence[Outgoing], *, timeout: float | None = None) -> None:
        """Return when every message is stored; raise `OperationalError` within `timeout` seconds otherwise.

        All of a batch or none of it where the transport can (one queue); a retry after a lost reply
        stores nothing twice. Never blocks longer than `timeout`, whatever the broker does.

        A broker with `Capabilities.transactional` takes ``connection`` as well, a connection of the caller's
        to the same database: then the messages are sent when its transaction commits, and never if it does
        not. It raises what that connection raises.
        """

    def declare(self, queues: Sequence[Queue]) -> None:
        """Make queues and bindings known. Idempotent."""

    def queues(self) -> Sequence[str]:
        """Names of all queues the broker knows of (bound, waiting, delayed, held or dead)."""

    def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]: ...

    def depth(self, queue: str) -> int:
        """Messages ready to be taken (all priorities and quarantined ones; not delayed, not held)."""

    def purge(self, queue: str) -> int:
        """Drop all ready and delayed messages of `queue`; return how many."""

    def browse(self, queue: str, limit: int, offset: int = 0) -> Sequence[Message | Unreadable]:
        """Ready messages in the order they would be taken, without taking them."""

    def carries(self, target: ResultTarget) -> bool:
        """True when results for `target` can ride on settlements (same store, one transaction)."""

    def consumer(self, spec: ConsumerSpec) -> Consumer:
        """Register the lease and return its consumer. A lease of that id that is still alive is joined: the
        supervisor settles so on behalf of a dead child."""

    def held(self, consumer: str, queues: Sequence[str]) -> Sequence[Delivery]:
        """Everything the consumer holds now, without changing anything. The supervisor asks on behalf of a
        dead child, settles what it must through a `consumer` of the same id, and then calls `release`."""

    def beat(self, consumers: Mapping[str, Sequence[str]], *, ttl: float) -> Sequence[str]:
        """Renew the leases (id → queues) for `ttl` seconds; return the ids whose lease is gone."""

    def release(
        self,
        consumer: str,
        queues: Sequence[str],
        *,
        crashed: Sequence[tuple[str, int]] = (),
        done: Sequence[tuple[str, int]] = (),
    ) -> int:
        """End the lease of a consumer whose process is known to be dead; return how many went back.

        `done` (queue, tag) are settled; `crashed` ones go back with crashes + 1; all others go back as they
        were, to the front of their queues.
        """

    def sweep(self, queues: Sequence[str]) -> int:
        """Release every consumer of `queues` whose lease has lapsed; return how many messages went back.

        Nobody knows which of them was running, so each that was never suspected goes back with crashes = 1,
        and each that was alone in quarantine with crashes + 1. Safe to call from anywhere at any time.
        """

    def attend(self, answer: Answer, learn: Callable[[Sequence[Place]], None], home: str = "") -> None:
        """Speak for this node from now on, until `close`: questions of other nodes' consumers (and our own)
        are answered by `answer`, and what consumers tell to be done is passed to `learn`. Both are called on
        a thread of the broker's, and return at once. Does nothing where there are leases.

        `home`: names all nodes for which `answer` speaks; they look into the same folder. What no home knows
        that has attended within the last half hour, nobody has ever read. Empty: it is not known who else
        there is.

        The thread reconnects for ever; a lost connection is not an error of the caller's.
        """

    def dead(self, queue: str, limit: int = 100, offset: int = 0) -> Sequence[DeadLetter]:
        """Entries of the dead-letter queue of `queue`, oldest first."""

    def revive(self, queue: str, ids: Sequence[str]) -> int:
        """Move dead letters back to their queue with crashes = 0; twice has the effect of once."""

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        """Delete dead letters; return how many there were."""

    def revoke(self, ids: Sequence[str], *, ttl: float) -> None:
        """Record task ids that must not start; the record lives `ttl` seconds and needs no worker."""

    def revoked(self) -> Sequence[str]:
        """All ids now on record as revoked."""

    def warnings(self) -> Sequence[str]:
        """Sentences for the operator: settings of the store that cannot keep what the worker promises."""

    def describe(self) -> str:
        """Server and version for the banner, e.g. ``Redis 7.0.15``; passwords never appear."""

    def close(self) -> None:
        """Drop all connections. The broker can be used again afterwards."""


def attend_to_nobody(answer: Answer, learn: Callable[[Sequence[Place]], None], home: str = "") -> None:
    """`Broker.attend` where there are leases: they tell who holds what."""
