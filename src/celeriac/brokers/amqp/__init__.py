"""RabbitMQ (AMQP 0-9-1)."""

from celeriac.brokers.amqp.broker import AmqpBroker

__all__ = ["AmqpBroker"]
