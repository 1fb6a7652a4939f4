"""Private servers for tests, each on a free port with a folder of its own; nothing outlives the run.

All have `.port`, `.url`, `start()`, `stop()`, `kill()`, `freeze()` and `thaw()`; making one starts it. They are
ended by their process ids only. `scripts/provide-servers` installs what is missing; nothing is installed here.
"""

from tests.servers.process import Server, find_program, free_port
from tests.servers.rabbit import RabbitServer, find_rabbit
from tests.servers.redis import RedisCluster, RedisServer, ValkeyServer, find_redis, find_valkey

__all__ = [
    "RabbitServer",
    "RedisCluster",
    "RedisServer",
    "Server",
    "ValkeyServer",
    "find_program",
    "find_rabbit",
    "find_redis",
    "find_valkey",
    "free_port",
]
