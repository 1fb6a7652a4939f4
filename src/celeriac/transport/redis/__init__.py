"""Connections to Redis and Valkey, shared by the broker and the result backend.

1. `url.py`: URLs and options to a `Server` value (standalone, unix socket, TLS, Sentinel, Cluster).
2. `link.py`: one connection; the one module that imports hiredis.
3. `dial.py`: opening a link: sockets, TLS, log-in, Sentinel's answer.
4. `pool.py`: idle links, retries within a deadline, scripts, the slots of a cluster.
5. `subscription.py`: channels, with reconnection.

Not here: any key. Keys and scripts belong to the broker (`brokers/redis`) and the backend
(`backends/redis.py`).
"""
