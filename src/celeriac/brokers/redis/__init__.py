"""The Redis and Valkey transport. Start with `keys.py`, then `scripts/exchange.lua`, then `broker.py`."""

from celeriac.brokers.redis.broker import RedisBroker

__all__ = ["RedisBroker"]
