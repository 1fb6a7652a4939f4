"""Names of our own queues and exchanges on RabbitMQ, and the arguments they are declared with.

All of them are durable quorum queues: what is in them is there because something went wrong, or must wait,
and nobody would notice its loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "DEAD",
    "HUGE",
    "NODES",
    "REVOKED",
    "REVOKED_ARGUMENTS",
    "SEAL_ARGUMENTS",
    "dead_arguments",
    "dead_of",
    "dead_queue",
    "is_ours",
    "suspects_arguments",
    "suspects_of",
    "suspects_queue",
]

#: The direct exchange of dead letters; the routing key is the name of the queue they come from.
DEAD: Final = "celeriac.dead"
#: The fanout exchange over which nodes ask each other about deliveries.
NODES: Final = "celeriac.nodes"
#: The stream of revoked task ids.
REVOKED: Final = "celeriac.revoked"
#: RabbitMQ 4 drops a message after 20 deliveries unless it is told another number; we count for ourselves.
HUGE: Final = 1_000_000_000

_DEAD_SUFFIX: Final = ".celeriac.dead"
_SUSPECTS_SUFFIX: Final = ".celeriac.suspects"

REVOKED_ARGUMENTS: Final[Mapping[str, Any]] = {
    "x-queue-type": "stream",
    "x-max-age": "7D",
    "x-stream-max-segment-size-bytes": 1_000_000,
}

#: Of a queue that is deleted at once; or by the server, if we do not live so long.
SEAL_ARGUMENTS: Final[Mapping[str, Any]] = {"x-queue-type": "quorum", "x-expires": 60_000}


def dead_queue(queue: str) -> str:
    """The queue of the dead letters of `queue`."""
    return queue + _DEAD_SUFFIX


def dead_of(name: str) -> str:
    """The queue whose dead letters are in the queue `name`; empty when it is none of these."""
    return name.removesuffix(_DEAD_SUFFIX) if name.endswith(_DEAD_SUFFIX) else ""


def suspects_of(name: str) -> str:
    """The queue whose suspects are in the queue `name`; empty when it is none of these."""
    return name.removesuffix(_SUSPECTS_SUFFIX) if name.endswith(_SUSPECTS_SUFFIX) else ""


def suspects_queue(queue: str) -> str:
    """Where messages of `queue` wait that have crashed a process."""
    return queue + _SUSPECTS_SUFFIX


def is_ours(name: str) -> bool:
    """Whether a queue is one of these, and not one that tasks are sent to."""
    return bool(dead_of(name) or suspects_of(name)) or name == REVOKED


def dead_arguments() -> dict[str, Any]:
    return {"x-queue-type": "quorum", "x-delivery-limit": HUGE}


def suspects_arguments(*, passing: bool) -> dict[str, Any]:
    """`passing`: the queue it belongs to goes away by itself, and so does this one, an hour after its last
    use."""
    arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": HUGE}
    return arguments | {"x-expires": 3_600_000} if passing else arguments
