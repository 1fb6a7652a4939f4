"""The settings of single result stores, and of the broker URL's parts.

1. `STORES`: Redis, SQL databases, caches, and the stores Celeriac does not have.

A setting of a store that does not exist here is accepted: it stands in many projects next to a URL of
another store, and the URL itself is refused where it names a store that is missing.
"""

from __future__ import annotations

from typing import Any

from celeriac.app.settings_table import ACCEPTED, HONOURED, REFUSED, Setting

__all__ = ["STORES"]

_Rows = tuple[tuple[str, str, Any], ...]


def _absent(store: str, rows: _Rows, old_prefix: str = "") -> tuple[Setting, ...]:
    note = f"Belongs to the {store} result backend, which Celeriac does not have."
    return tuple(Setting(n, t, d, ACCEPTED, note, (f"{old_prefix}{n.upper()}",)) for n, t, d in rows)


def _redis(name: str, type_: str, default: Any, note: str = "") -> Setting:
    return Setting(name, type_, default, HONOURED, note, (f"CELERY_{name.upper()}",))


def _url_part(name: str, type_: str, setting: str, example: str, old: str) -> Setting:
    return Setting(name, type_, None, REFUSED, f"Write {setting} = {example!r} instead.", (old,))


_BROKER_URL = "transport://user:password@host:port/vhost"
_REDIS_URL = "redis://user:password@host:port/db"

_BROKER_PARTS = tuple(
    _url_part(f"broker_{part}", type_, "broker_url", _BROKER_URL, f"BROKER_{part.upper()}")
    for part, type_ in (
        ("transport", "str|None"),
        ("host", "str|None"),
        ("port", "int|str|None"),
        ("user", "str|None"),
        ("password", "str|None"),
        ("vhost", "str|None"),
    )
)
_REDIS_PARTS = tuple(
    _url_part(f"redis_{part}", type_, "result_backend", _REDIS_URL, f"CELERY_REDIS_{part.upper()}")
    for part, type_ in (
        ("host", "str|None"),
        ("port", "int|str|None"),
        ("db", "int|str|None"),
        ("username", "str|None"),
        ("password", "str|None"),
    )
)
_REDIS = (
    _redis("redis_backend_use_ssl", "dict|bool|None", None),
    _redis("redis_socket_timeout", "seconds|None", 5.0, "5 here, 120 in Celery."),
    _redis("redis_socket_connect_timeout", "seconds|None", 4.0, "4 here, none in Celery."),
    _redis("redis_socket_keepalive", "bool", True, "On here, off in Celery."),
    Setting("redis_client_name", "str|None", None, HONOURED),
    Setting("redis_max_connections", "int|None", None, ACCEPTED,
            "Each thread that uses the backend keeps one connection.", ("CELERY_REDIS_MAX_CONNECTIONS",)),
    Setting("redis_retry_on_timeout", "bool", False, ACCEPTED, "A lost connection is always opened again.",
            ("CELERY_REDIS_RETRY_ON_TIMEOUT",)),
    Setting("redis_backend_health_check_interval", "int|float|None", None, ACCEPTED,
            "A dead connection is noticed when it is used, and opened again."),
    Setting("redis_backend_credential_provider", "any", None, REFUSED,
            "Credential providers are not built yet; put user and password into the URL."),
)  # fmt: skip

_DATABASE = (
    Setting("database_url", "str|None", None, HONOURED, "Only with result_backend = 'database'.",
            ("CELERY_RESULT_DBURI",)),
    Setting("database_engine_options", "dict|None", {"pool_pre_ping": True, "pool_recycle": 3600}, HONOURED,
            "", ("CELERY_RESULT_ENGINE_OPTIONS",)),
    Setting("database_engine_callback", "any", None, HONOURED, "Called with each process's engine.",
            ("DATABASE_ENGINE_CALLBACK",)),
    Setting("database_short_lived_sessions", "bool", False, HONOURED, "A connection for each operation.",
            ("CELERY_RESULT_DB_SHORT_LIVED_SESSIONS",)),
    Setting("database_table_schemas", "dict|None", None, HONOURED, "", ("DATABASE_TABLE_SCHEMAS",)),
    Setting("database_table_names", "dict|None", None, HONOURED, "", ("CELERY_RESULT_DB_TABLENAMES",)),
    Setting("database_create_tables_at_setup", "bool", True, ACCEPTED,
            "Tables that do not exist are created when they are first used.",
            ("DATABASE_CREATE_TABLES_AT_SETUP",)),
)  # fmt: skip

_CACHE = (
    Setting("cache_backend", "str|None", None, HONOURED, "Only with result_backend = 'cache'.",
            ("CELERY_CACHE_BACKEND",)),
    Setting("cache_backend_options", "dict", {}, HONOURED, "Of memcached's client.",
            ("CELERY_CACHE_BACKEND_OPTIONS",)),
)  # fmt: skip

_TYRANT = (
    Setting("tyrant_host", "str|None", None, HONOURED, "Only with result_backend = 'tyrant://'.",
            ("TT_HOST",)),
    Setting("tyrant_port", "int|str|None", None, HONOURED, "1978 if nothing is said.", ("TT_PORT",)),
)  # fmt: skip

_CASSANDRA = _absent("Cassandra", (
    ("cassandra_entry_ttl", "seconds|None", None), ("cassandra_keyspace", "str|None", None),
    ("cassandra_port", "int|str|None", None), ("cassandra_read_consistency", "str|None", None),
    ("cassandra_servers", "list|None", None), ("cassandra_bundle_path", "str|None", None),
    ("cassandra_table", "str|None", None), ("cassandra_write_consistency", "str|None", None),
    ("cassandra_auth_provider", "str|None", None), ("cassandra_auth_kwargs", "any", None),
    ("cassandra_options", "dict", {}), ("cassandra_secure_bundle_path", "str|None", None),
))  # fmt: skip

_RETRIED = "Storing is retried as `result_backend_max_retries` says."

_CLOUD = (
    Setting("s3_bucket", "str|None", None, HONOURED, "Only with result_backend = 's3://'."),
    Setting("s3_base_path", "str|None", None, HONOURED, "What the objects' names begin with, slash and all."),
    Setting("s3_access_key_id", "str|None", None, HONOURED, "Without it boto's own places are searched."),
    Setting("s3_secret_access_key", "str|None", None, HONOURED),
    Setting("s3_endpoint_url", "str|None", None, HONOURED),
    Setting("s3_region", "str|None", None, HONOURED),
    Setting("azureblockblob_container_name", "str", "celery", HONOURED),
    Setting("azureblockblob_base_path", "str", "", HONOURED),
    Setting("azureblockblob_connection_timeout", "int", 20, HONOURED),
    Setting("azureblockblob_read_timeout", "int", 120, HONOURED),
    Setting("azureblockblob_retry_initial_backoff_sec", "int", 2, ACCEPTED, _RETRIED),
    Setting("azureblockblob_retry_increment_base", "int", 2, ACCEPTED, _RETRIED),
    Setting("azureblockblob_retry_max_attempts", "int", 3, ACCEPTED, _RETRIED),
    Setting("gcs_bucket", "str|None", None, HONOURED, "Only with result_backend = 'gs://'."),
    Setting("gcs_project", "str|None", None, HONOURED),
    Setting("gcs_base_path", "str|None", "", HONOURED),
    Setting("gcs_ttl", "seconds", 0, ACCEPTED, "Objects are deleted after `result_expires`."),
    Setting("gcs_threadpool_maxsize", "int", 10, ACCEPTED, "Requests run side by side without threads."),
    Setting("firestore_project", "str|None", None, ACCEPTED, "Chords are counted in the bucket itself."),
    Setting("dynamodb_endpoint_url", "str|None", None, HONOURED, "Wins over the host of the URL."),
    *_absent("Cosmos DB", (
        ("cosmosdbsql_database_name", "str", "celerydb"), ("cosmosdbsql_collection_name", "str", "celerycol"),
        ("cosmosdbsql_consistency_level", "str", "Session"), ("cosmosdbsql_max_retry_attempts", "int", 9),
        ("cosmosdbsql_max_retry_wait_time", "int", 30),
    )),
)  # fmt: skip

_DOCUMENTS = (
    *_absent("Couchbase", (("couchbase_backend_settings", "dict|None", None),), "CELERY_"),
    *_absent("ArangoDB", (("arangodb_backend_settings", "dict|None", None),), "CELERY_"),
    Setting("mongodb_backend_settings", "dict|None", None, HONOURED, "Wins over the URL.",
            ("CELERY_MONGODB_BACKEND_SETTINGS",)),
    Setting("elasticsearch_retry_on_timeout", "bool|None", None, HONOURED, "",
            ("CELERY_ELASTICSEARCH_RETRY_ON_TIMEOUT",)),
    Setting("elasticsearch_max_retries", "int|None", None, HONOURED, "3 when it is not set.",
            ("CELERY_ELASTICSEARCH_MAX_RETRIES",)),
    Setting("elasticsearch_timeout", "seconds|None", None, HONOURED, "10 when it is not set.",
            ("CELERY_ELASTICSEARCH_TIMEOUT",)),
    Setting("elasticsearch_save_meta_as_text", "bool", True, HONOURED, "",
            ("CELERY_ELASTICSEARCH_SAVE_META_AS_TEXT",)),
)  # fmt: skip

#: Keys inside the dicts above; as settings of their own they mean nothing, in Celery either.
_DOCUMENT_KEYS = tuple(
    Setting(name, "any", None, ACCEPTED, "A key of a document store's settings dict, not a setting.")
    for name in (
        "bucket", "collection", "database", "host", "http_protocol", "password", "port", "username", "verify",
    )
)  # fmt: skip

STORES: tuple[Setting, ...] = (
    *_REDIS, *_REDIS_PARTS, *_BROKER_PARTS, *_DATABASE, *_CACHE, *_TYRANT, *_CASSANDRA, *_CLOUD, *_DOCUMENTS,
    *_DOCUMENT_KEYS,
)  # fmt: skip
