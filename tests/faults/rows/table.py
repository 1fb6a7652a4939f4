"""The matrix: which rows there are, on which transports each is played, and how large.

1. `Row`: one of them. `short` is its size in the test suite, `long` its size by itself.
2. `ROWS`. Rows that are tests of their own stand in the docs, `docs/explanation/faults.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tests.faults.rows import chords, deaths, fuzz, networks, stalls, stores

__all__ = ["ROWS", "Row"]

SERVED = ("redis", "rabbitmq", "postgres")
ALL = ("sqlite", "redis", "redis-cluster", "rabbitmq", "postgres")


SHORT_HOLES = {"seconds": 5, "sides": ("down",)}


class Row(NamedTuple):
    """`kinds`: the transports to which it applies. `tested`: those on which the test suite plays it short.
    `own`: it needs a server that nobody else uses, because it kills or fills it."""

    play: Callable[..., str]
    kinds: tuple[str, ...]
    tested: tuple[str, ...]
    short: Mapping[str, Any]
    long: Mapping[str, Any]
    own: bool = False


ROWS: Mapping[str, Row] = {
    "F2": Row(deaths.children, ALL, (), {"kills": 10}, {"kills": 500}),
    "F3": Row(deaths.all_workers, ALL, ("redis",), {"count": 600, "gap": 1.0}, {"count": 10_000, "gap": 60}),
    "F4": Row(
        stalls.long_bodies, ALL, ("sqlite", "redis"), {"seconds": 7, "kills": 3}, {"seconds": 60, "kills": 30}
    ),
    "F5": Row(
        stalls.later,
        ALL,
        ("sqlite", "redis"),
        {"count": 150, "horizon": 4, "kills": 4, "late": 3.0},
        {"count": 5000, "horizon": 60, "kills": 30},
    ),
    "F7": Row(stalls.zombies, ALL, ("redis",), {"rounds": 2}, {"rounds": 100}),
    "F8": Row(stalls.starved, ALL, ("sqlite", "redis"), {"seconds": 3}, {"seconds": 30}),
    "F11": Row(networks.lost_answers, SERVED, (), {"times": 100}, {"times": 1000}),
    "F12": Row(
        stores.killed, SERVED, ("rabbitmq", "postgres"), {"times": 2}, {"times": 30, "down": 3.0}, own=True
    ),
    "F14": Row(
        stores.sessions_ended,
        ("rabbitmq", "postgres"),
        ("postgres",),
        {"rounds": 2},
        {"rounds": 60},
        own=True,
    ),
    "F15": Row(
        stores.embedded, ("sqlite",), ("sqlite",), {"kills": 4, "lock": 3.0}, {"kills": 200, "lock": 25.0}
    ),
    "F17": Row(networks.blackholes, SERVED, SERVED, SHORT_HOLES, {"seconds": 30}),
    "F18": Row(networks.bad_lines, SERVED, SERVED, {"seconds": 1.5, "latency": 0.6}, {"seconds": 60}),
    "F19": Row(networks.bursts, SERVED, SERVED, {"times": 2}, {"times": 50}),
    "F21": Row(networks.links, SERVED, ("redis", "rabbitmq"), {"seconds": 2}, {"seconds": 60}),
    "F27": Row(
        deaths.rolling_deploy,
        ALL,
        ("redis",),
        {"rounds": 3, "seconds": 3.0, "grace": 1.0},
        {"rounds": 60, "seconds": 20.0, "grace": 10.0},
    ),
    "F28": Row(
        deaths.mixed_fleet,
        ("redis", "rabbitmq"),
        ("redis",),
        {"count": 1500, "kills": 2},
        {"count": 20_000, "kills": 60},
    ),
    "F22": Row(stores.full_disk, ("sqlite", "redis"), ("sqlite", "redis"), {}, {}, own=True),
    "F23": Row(stores.no_memory, ("redis", "rabbitmq"), ("redis", "rabbitmq"), {}, {}),
    "F23c": Row(
        stores.no_connections, ("postgres",), ("postgres",), {"seconds": 3}, {"seconds": 60}, own=True
    ),
    "F23d": Row(stores.descriptors, ALL, ("sqlite", "redis"), {}, {}),
    "F24": Row(stores.emptied, ("sqlite", *SERVED), ("sqlite", *SERVED), {}, {}),
    "F25": Row(stalls.clocks, SERVED, ("redis",), {}, {}),
    "F25s": Row(stalls.host_clock, ("sqlite",), ("sqlite",), {"jumps": (3600.0, -3600.0)}, {}),
    "F29": Row(
        chords.chords,
        ALL,
        ("sqlite", "redis", "rabbitmq", "postgres"),
        {"count": 20, "members": 20, "kills": 5},
        {"count": 500, "members": 100, "kills": 100},
    ),
    "F31": Row(
        fuzz.fuzz, ALL, ("sqlite", "redis", "rabbitmq", "postgres"), {"count": 2000}, {"count": 100_000}
    ),
}
