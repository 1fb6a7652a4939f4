"""Private servers for tests, each on a free port with a folder of its own; nothing outlives the run.

All have `.port`, `.url`, `start()`, `stop()`, `kill()`, `freeze()` and `thaw()`; making one starts it. They
are ended by their process ids only. Nothing is installed here: `scripts/provide-servers` does that.
"""

from tests.servers.dynamo import DynamoServer
from tests.servers.elastic import ElasticServer
from tests.servers.mariadb import MariaServer, find_mariadb
from tests.servers.memcached import MemcachedServer, find_memcached
from tests.servers.mongo import MongoServer
from tests.servers.moto import S3Server
from tests.servers.postgres import PgBouncer, PostgresServer, find_pgbouncer, find_postgres
from tests.servers.process import Server, find_program, free_port
from tests.servers.rabbit import RabbitServer, find_rabbit
from tests.servers.redis import (
    RedisCluster,
    RedisSentinels,
    RedisServer,
    ValkeyServer,
    find_redis,
    find_valkey,
)
from tests.servers.tyrant import TyrantServer

__all__ = [
    "DynamoServer",
    "ElasticServer",
    "MariaServer",
    "MemcachedServer",
    "MongoServer",
    "PgBouncer",
    "PostgresServer",
    "RabbitServer",
    "RedisCluster",
    "RedisSentinels",
    "RedisServer",
    "S3Server",
    "Server",
    "TyrantServer",
    "ValkeyServer",
    "find_mariadb",
    "find_memcached",
    "find_pgbouncer",
    "find_postgres",
    "find_program",
    "find_rabbit",
    "find_redis",
    "find_valkey",
    "free_port",
]
