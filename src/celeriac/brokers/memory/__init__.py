"""The reference implementation of the broker seam: everything in the memory of one process.

Read `store.py` after `brokers/base.py` and before any other broker: it says what the contract means in the
fewest words. It serves tests, and workers inside one process; other processes cannot reach it.

| module      | what it does                                              |
|-------------|-----------------------------------------------------------|
| `store.py`  | queues and leases; every transition, each one atomic step |
| `broker.py` | the seam over it                                          |

URL: `memory://` or `memory://name`; brokers of one name share one store.
Options: `clock`, a callable that returns epoch seconds (default `time.time`), for tests.
"""

from __future__ import annotations

from celeriac.brokers.memory.broker import MemoryBroker, MemoryConsumer
from celeriac.brokers.memory.store import Store

__all__ = ["MemoryBroker", "MemoryConsumer", "Store"]
