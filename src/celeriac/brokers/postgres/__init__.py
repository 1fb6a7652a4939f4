"""PostgreSQL as a broker.

| module          | what it does                                                         |
|-----------------|----------------------------------------------------------------------|
| `broker.py`     | the seam, put together from its parts                                |
| `publisher.py`  | storing messages: ours, and in a transaction of the caller's         |
| `consumer.py`   | the seam's other half: one lease takes and settles                   |
| `holdings.py`   | what a consumer holds; an exchange as parameters                     |
| `ear.py`        | being woken: LISTEN, and how to tell that it does not work           |
| `routes.py`     | bindings                                                             |
| `inspection.py` | leases from outside; counting, browsing, purging, dead letters       |

The transitions themselves are the functions in `transport/postgres/sql/`.
"""

from __future__ import annotations

from celeriac.brokers.postgres.broker import PostgresBroker
from celeriac.brokers.postgres.consumer import PostgresConsumer

__all__ = ["PostgresBroker", "PostgresConsumer"]
