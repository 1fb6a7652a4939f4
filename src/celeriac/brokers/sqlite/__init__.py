"""The embedded broker: tasks in one SQLite file, shared by the processes of one machine.

| module          | what it does                                             |
|-----------------|----------------------------------------------------------|
| `broker.py`     | the seam; publishing                                     |
| `consumer.py`   | the seam's other half: one lease takes and settles       |
| `lines.py`      | messages into and out of their lines; who is to be woken |
| `leases.py`     | registered, renewed, ended                               |
| `inspection.py` | counting, browsing, purging, dead letters, revokes       |

Functions that take a `Connection` run inside a transaction of the caller. The tables, and how a message moves
between them, are in `transport/schema.py`; what a transaction is, in `transport/sqlite.py`.
"""

from __future__ import annotations

from celeriac.brokers.sqlite.broker import SqliteBroker
from celeriac.brokers.sqlite.consumer import SqliteConsumer

__all__ = ["SqliteBroker", "SqliteConsumer"]
