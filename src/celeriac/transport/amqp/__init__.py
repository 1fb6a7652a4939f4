"""Connections to RabbitMQ (AMQP 0-9-1), shared by the broker and the `rpc://` result backend.

1. `url.py`: URLs and options to an `AmqpServer` value (several hosts, TLS, virtual host). `tls.py`: its
   context.
2. `dial.py`: opening a link: sockets, TLS, log-in, the limits both sides agree on.
3. `link.py`: one connection: bytes in and out, heartbeats, deadlines (`poller.py` waits for it).
   `channel.py`: one channel of it.
4. The codec: `frames.py` (cutting the stream, the hot path of a delivery), `content.py` (properties to a
   `Message` and back), `table.py` (header tables), `methods.py` (every other method).
5. `values.py`: what crosses the border: `Arrival`, `Returned`, and the errors.

Not here: which queues and exchanges there are (`brokers/amqp`, `backends/rpc.py`), retrying, pools,
threads.
"""
