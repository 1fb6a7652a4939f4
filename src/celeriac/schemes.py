"""Which class serves a URL's scheme: the table of our own transports and result stores. Values only.

1. `Plugin`: one of them; `BROKERS`, `BACKENDS`: by scheme.
2. `EXTRAS`: what installs a missing library; `CELERYS_OWN`: stores that only Celery has.

Not here: loading them, and those of other packages (`plugins.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["BACKENDS", "BROKERS", "CELERYS_OWN", "EXTRAS", "Plugin"]


class Plugin(NamedTuple):
    """Where a class is (``module:Class``), the extra that installs what it needs (empty: nothing), the
    settings that it takes among its options, under their names, whether results are sent instead of kept, and
    whether the broker asks what the application says of a queue (option `declarations`)."""

    path: str
    extra: str = ""
    settings: tuple[str, ...] = ()
    mailbox: bool = False
    declares: bool = False


_MEMORY_BROKER: Final = Plugin("celeriac.brokers.memory:MemoryBroker")
_SQLITE_BROKER: Final = Plugin("celeriac.brokers.sqlite:SqliteBroker")
_REDIS_BROKER: Final = Plugin("celeriac.brokers.redis:RedisBroker", "redis")
_POSTGRES_BROKER: Final = Plugin("celeriac.brokers.postgres:PostgresBroker", "postgres")
_AMQP_BROKER: Final = Plugin("celeriac.brokers.amqp:AmqpBroker", "rabbitmq", declares=True)

BROKERS: Final[Mapping[str, Plugin]] = {
    "memory": _MEMORY_BROKER,
    "sqlite": _SQLITE_BROKER,
    "redis": _REDIS_BROKER,
    "rediss": _REDIS_BROKER,
    "redis+socket": _REDIS_BROKER,
    "sentinel": _REDIS_BROKER,
    "rediss+sentinel": _REDIS_BROKER,
    "redis+cluster": _REDIS_BROKER,
    "rediss+cluster": _REDIS_BROKER,
    "valkey": _REDIS_BROKER,
    "valkeys": _REDIS_BROKER,
    "unix": _REDIS_BROKER,
    "amqp": _AMQP_BROKER,
    "amqps": _AMQP_BROKER,
    "pyamqp": _AMQP_BROKER,
    "librabbitmq": _AMQP_BROKER,
    "postgresql": _POSTGRES_BROKER,
    "postgres": _POSTGRES_BROKER,
    "postgresql+psycopg": _POSTGRES_BROKER,
}

_MEMORY_BACKEND: Final = Plugin("celeriac.backends.memory:MemoryBackend")
_SQLITE_BACKEND: Final = Plugin("celeriac.backends.sqlite:SqliteBackend")
_REDIS_BACKEND: Final = Plugin("celeriac.backends.redis:RedisBackend", "redis")
_DISABLED_BACKEND: Final = Plugin("celeriac.backends.disabled:DisabledBackend")
_POSTGRES_BACKEND: Final = Plugin("celeriac.backends.postgres:PostgresBackend", "postgres")
_DATABASE_BACKEND: Final = Plugin(
    "celeriac.backends.database:DatabaseBackend",
    "sqlalchemy",
    (
        "database_url",
        "database_engine_options",
        "database_engine_callback",
        "database_short_lived_sessions",
        "database_table_names",
        "database_table_schemas",
        "result_serializer",
        "result_expires",
        "timezone",
        "enable_utc",
    ),
)

_CACHE_BACKEND: Final = Plugin(
    "celeriac.backends.cache:CacheBackend",
    "memcache",
    ("cache_backend", "cache_backend_options", "result_serializer"),
)
_MONGO_BACKEND: Final = Plugin(
    "celeriac.backends.mongodb:MongoBackend",
    "mongodb",
    ("mongodb_backend_settings", "result_serializer", "result_compression", "result_expires"),
)

_DYNAMO_BACKEND: Final = Plugin(
    "celeriac.backends.dynamodb:DynamoBackend",
    "dynamodb",
    ("dynamodb_endpoint_url", "result_serializer", "result_expires"),
)

_ELASTIC_BACKEND: Final = Plugin(
    "celeriac.backends.elasticsearch:ElasticBackend",
    "elasticsearch",
    (
        "elasticsearch_retry_on_timeout",
        "elasticsearch_max_retries",
        "elasticsearch_timeout",
        "elasticsearch_save_meta_as_text",
        "result_serializer",
        "result_expires",
    ),
)

_FILE_BACKEND: Final = Plugin(
    "celeriac.backends.objects:ObjectBackend", "", ("result_serializer", "result_expires")
)
_FSSPEC_BACKEND: Final = _FILE_BACKEND._replace(extra="fsspec")
_S3_BACKEND: Final = Plugin(
    "celeriac.backends.objects:ObjectBackend",
    "s3",
    (
        *_FILE_BACKEND.settings,
        "s3_bucket",
        "s3_base_path",
        "s3_access_key_id",
        "s3_secret_access_key",
        "s3_endpoint_url",
        "s3_region",
    ),
)
_GCS_BACKEND: Final = Plugin(
    "celeriac.backends.objects:ObjectBackend",
    "gcs",
    (*_FILE_BACKEND.settings, "gcs_bucket", "gcs_base_path", "gcs_project"),
)
_AZURE_BACKEND: Final = Plugin(
    "celeriac.backends.objects:ObjectBackend",
    "azureblockblob",
    (
        *_FILE_BACKEND.settings,
        "azureblockblob_container_name",
        "azureblockblob_base_path",
        "azureblockblob_connection_timeout",
        "azureblockblob_read_timeout",
    ),
)
_TYRANT_BACKEND: Final = Plugin(
    "celeriac.backends.tyrant:TyrantBackend", "", ("tyrant_host", "tyrant_port", "result_serializer")
)
_RPC_BACKEND: Final = Plugin(
    "celeriac.backends.rpc:RpcBackend",
    "rabbitmq",
    (
        "broker_write_url",
        "broker_use_ssl",
        "broker_login_method",
        "broker_connection_timeout",
        "broker_failover_strategy",
        "result_serializer",
        "result_persistent",
        "result_expires",
    ),
    mailbox=True,
)

#: Stores that Celery has and this package has not, by scheme.
CELERYS_OWN: Final = {
    "arangodb": "celery.backends.arangodb:ArangoDbBackend",
    "cassandra": "celery.backends.cassandra:CassandraBackend",
    "consul": "celery.backends.consul:ConsulBackend",
    "cosmosdbsql": "celery.backends.cosmosdbsql:CosmosDBSQLBackend",
    "couchbase": "celery.backends.couchbase:CouchbaseBackend",
    "couchdb": "celery.backends.couchdb:CouchBackend",
    "riak": "celery.backends.riak:RiakBackend",
}

#: A key that ends in ``+`` is the beginning of a scheme.
BACKENDS: Final[Mapping[str, Plugin]] = {
    "disabled": _DISABLED_BACKEND,
    "cache": _CACHE_BACKEND,
    "cache+": _CACHE_BACKEND,
    "cache+memory": _MEMORY_BACKEND,
    "tyrant": _TYRANT_BACKEND,
    "file": _FILE_BACKEND,
    "fsspec+": _FSSPEC_BACKEND,
    "s3": _S3_BACKEND,
    "gs": _GCS_BACKEND,
    "gcs": _GCS_BACKEND,
    "azureblockblob": _AZURE_BACKEND,
    "az": _AZURE_BACKEND,
    "abfs": _AZURE_BACKEND,
    "memcache": _CACHE_BACKEND,
    "memcached": _CACHE_BACKEND,
    "memory": _MEMORY_BACKEND,
    "sqlite": _SQLITE_BACKEND,
    "postgres": _POSTGRES_BACKEND,
    "postgresql": _POSTGRES_BACKEND,
    "postgresql+psycopg": _POSTGRES_BACKEND,
    "db": _DATABASE_BACKEND,
    "db+": _DATABASE_BACKEND,
    "database": _DATABASE_BACKEND,
    "database+": _DATABASE_BACKEND,
    "mongodb": _MONGO_BACKEND,
    "mongodb+srv": _MONGO_BACKEND,
    "dynamodb": _DYNAMO_BACKEND,
    "elasticsearch": _ELASTIC_BACKEND,
    "elasticsearch+http": _ELASTIC_BACKEND,
    "elasticsearch+https": _ELASTIC_BACKEND,
    "rpc": _RPC_BACKEND,
    **{scheme: _REDIS_BACKEND for scheme, plugin in BROKERS.items() if plugin is _REDIS_BROKER},
}

#: What to install for a library, where the extra has another name or the class another need.
EXTRAS: Final = {
    "redis": "redis",
    "hiredis": "redis",
    "msgpack": "msgpack",
    "yaml": "yaml",
    "sqlalchemy": "sqlalchemy",
    "pymemcache": "memcache",
}
