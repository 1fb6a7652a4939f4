"""From a URL's scheme to the class that serves it: the only dynamic import of the package.

1. The table of our own transports and result stores.
2. Others, by entry point: groups ``celeriac.brokers`` and ``celeriac.backends``; the entry's name is the
   scheme, its object a class that is called with (url, options). A class path in place of a scheme works as
   well. Result stores that were written for Celery are found likewise, and in ``celery.result_backends``.
3. The errors: an unknown scheme names its neighbours, a missing library names what to install.

Not here: settings, and when a connection is made (`app.base` composes).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celeriac._state import get_current_app
from celeriac.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celeriac.backends.base import ResultBackend
    from celeriac.brokers.base import Broker, Queue

__all__ = [
    "BACKENDS",
    "BROKERS",
    "Plugin",
    "backend_from_url",
    "backend_settings",
    "broker_from_url",
    "is_store",
    "keeps_results",
    "load_class",
    "scheme_of",
]


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

#: Where packages for Celery announce result stores; what such a class has; what puts it behind our seam.
_CELERYS_GROUP: Final = "celery.result_backends"
_CELERYS: Final = ("store_result", "get_task_meta", "forget")
_ADAPTER: Final = "celeriac.app.foreign.adapter:ForeignBackend"

#: Stores that Celery has and this package has not, by scheme.
_CELERYS_OWN: Final = {
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

_EXTRAS: Final = {
    "redis": "redis",
    "hiredis": "redis",
    "msgpack": "msgpack",
    "yaml": "yaml",
    "sqlalchemy": "sqlalchemy",
    "pymemcache": "memcache",
}


def scheme_of(url: str) -> str:
    """The scheme of `url`, lower-case; a bare word such as ``redis`` or ``disabled`` is its own scheme.

    Example:
        >>> scheme_of("redis://localhost/1"), scheme_of("memory")
        ('redis', 'memory')
    """
    return url.partition("://")[0].strip().rstrip(":").lower()


def broker_from_url(
    url: str,
    options: Mapping[str, Any] | None = None,
    declarations: Callable[[str], Sequence[Queue]] | None = None,
) -> Broker:
    """Make the broker that `url` names. Nothing is connected yet.

    Args:
        url: e.g. ``sqlite://``, ``redis://localhost:6379/0``.
        options: the transport's own options (`broker_transport_options`).
        declarations: tells what the application says of a queue, for brokers that declare queues themselves.

    Raises:
        ImproperlyConfigured: the scheme is unknown, or a library that it needs is not installed.
    """
    plugin = _listed(BROKERS, scheme_of(url))
    if declarations is not None and plugin is not None and plugin.declares:
        options = {"declarations": declarations, **(options or {})}
    return _make("broker", "celeriac.brokers", BROKERS, url, options)  # type: ignore[no-any-return]


def backend_from_url(url: str, options: Mapping[str, Any] | None = None, app: Any = None) -> ResultBackend:
    """Make the result store that `url` names; as `broker_from_url`.

    Args:
        url, options: as of `broker_from_url`.
        app: the application, which stores that were written for Celery are made with; by default the
            current one.
    """
    return _make(  # type: ignore[no-any-return]
        "result backend", "celeriac.backends", BACKENDS, url, options, app
    )


def _make(
    what: str,
    group: str,
    table: Mapping[str, Plugin],
    url: str,
    options: Mapping[str, Any] | None,
    app: Any = None,
) -> Any:
    scheme = scheme_of(url)
    plugin = _listed(table, scheme)
    try:
        kind = load_class(plugin.path) if plugin else _foreign(what, group, table, scheme, url)
    except ModuleNotFoundError as exc:
        raise _missing_library(what, scheme, plugin, exc) from exc
    if plugin is None and table is BACKENDS and all(hasattr(kind, name) for name in _CELERYS):
        adapted = load_class(_ADAPTER)
        return adapted(kind, get_current_app() if app is None else app, _after_plus(url))
    return kind(url if "://" in url else f"{url}://", dict(options or {}))


def backend_settings(url: str) -> tuple[str, ...]:
    """Names of the settings that the result store of `url` takes among its options.

    Example:
        >>> backend_settings("redis://localhost")
        ()
    """
    plugin = _listed(BACKENDS, scheme_of(url))
    return plugin.settings if plugin is not None else ()


def keeps_results(url: str) -> bool:
    """False when results may be sent to whoever made the call, instead of being kept; nothing is imported.

    Example:
        >>> keeps_results("redis://localhost"), keeps_results("rpc://")
        (True, False)
    """
    plugin = _listed(BACKENDS, scheme_of(url))
    return plugin is not None and not plugin.mailbox


def is_store(url: str) -> bool:
    """True when the broker of `url` is a store that results can be kept in as well.

    Example:
        >>> is_store("redis://localhost"), is_store("amqp://localhost")
        (True, False)
    """
    scheme = scheme_of(url)
    return _listed(BROKERS, scheme) is not None and _listed(BACKENDS, scheme) is not None


def _after_plus(url: str) -> str | None:
    """The URL as Celery gives it to a store: without what stands before ``+``; None where there is none."""
    scheme, colon, rest = url.partition("://")
    return f"{scheme.rpartition('+')[2]}://{rest}" if colon else None


def _listed(table: Mapping[str, Plugin], scheme: str) -> Plugin | None:
    return table.get(scheme) or table.get(scheme.partition("+")[0] + "+")


def load_class(path: str) -> Any:
    """The object at ``package.module:name`` (or ``package.module.name``)."""
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _foreign(what: str, group: str, table: Mapping[str, Plugin], scheme: str, url: str) -> Any:
    """A class of another package: by entry point, else by its path standing where the scheme is."""
    from importlib.metadata import entry_points  # 15 ms that our own schemes need not pay

    groups = (_CELERYS_GROUP, group) if table is BACKENDS else (group,)
    installed = {entry.name: entry for each in groups for entry in entry_points(group=each)}
    entry = installed.get(scheme) or installed.get(scheme.partition("+")[0])
    if entry is not None:
        return entry.load()
    path = url.partition("://")[0].partition("+")[0]
    if "." in path or ":" in path:
        try:
            return load_class(path)
        except (ImportError, AttributeError, ValueError) as exc:
            raise ImproperlyConfigured(
                f"The {what} class {path!r} cannot be imported: {exc}. Write it as 'package.module:Class'; "
                "the class is called with (url, options)."
            ) from exc
    if table is BACKENDS and scheme in _CELERYS_OWN:
        raise ImproperlyConfigured(
            f"There is no result backend for '{scheme}://' here; Celery has one. If Celery is installed as "
            f"well, its class can be used: result_backend = '{_CELERYS_OWN[scheme]}+{url}'."
        )
    known = sorted({*table, *installed})
    close = difflib.get_close_matches(scheme, known, n=1)
    hint = f" Did you mean '{close[0]}://'?" if close else ""
    raise ImproperlyConfigured(
        f"There is no {what} for URLs that start with '{scheme}://'.{hint} Known are: {', '.join(known)}."
    )


def _missing_library(
    what: str, scheme: str, plugin: Plugin | None, exc: ModuleNotFoundError
) -> ImproperlyConfigured:
    missing = (exc.name or "").partition(".")[0]
    if missing == "celeriac" or not missing:
        return ImproperlyConfigured(f"The {what} for '{scheme}://' is not part of this version: {exc}.")
    extra = _EXTRAS.get(missing, plugin.extra if plugin else "")
    advice = f"pip install 'celeriac[{extra}]'" if extra else f"pip install {missing}"
    return ImproperlyConfigured(
        f"The {what} for '{scheme}://' needs the library {missing!r}, which is not installed. Run: {advice}"
    )
