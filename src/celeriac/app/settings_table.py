"""Every setting there is: name, type, default, what becomes of it, and its old names.

1. `Setting`: one row.
2. `CORE`: the rows of tasks, workers, broker, results, beat, events. The rows of single result stores and of
   the broker's parts are in `settings_stores.py`; `settings.py` joins both, and reads and checks values.

A type is one or more of the words below, joined by ``|``:

    bool int float str bytes dict any None     the Python type (numbers and words in strings are converted)
    list tuple                                 any sequence or set; a string is split at commas
    seconds                                    int, float or timedelta; kept as a number of seconds

`HONOURED` has the effect Celery documents (or, for ours, the one in the note). `ACCEPTED` may be set and
changes nothing; the note says why that is safe. `REFUSED` stops start-up with the note, which says what to
write instead, unless the value is the default.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

__all__ = ["ACCEPTED", "CORE", "HONOURED", "OURS", "REFUSED", "Setting", "Status"]

Status = Literal["honoured", "accepted", "refused"]
HONOURED: Final = "honoured"
ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"


class Setting(NamedTuple):
    """One setting. `old_names` are Celery's; `note` is shown in errors and in the reference."""

    name: str
    type: str
    default: Any
    status: Status
    note: str = ""
    old_names: tuple[str, ...] = ()


S = Setting
_H: Final = HONOURED
_A: Final = ACCEPTED
_R: Final = REFUSED

_BROKER_DELAY = "Delayed tasks wait in the broker, never in a worker."
_BATCHES = "Workers fetch batches bounded by run time, and give back what has not started."
_EVENTS = "Task events are not built yet."
_CONTROL = "Remote control is not built yet."
_BOOTSTEPS = "The worker is not made of replaceable parts"
_SIGNING = "Message signing is not built yet. Remove it, and protect the broker with TLS and a password."
_DAEMON = "Written for Celery's daemon scripts; give it to the command line or the service manager instead."
_LOST = "A lost process always costs one of `task_delivery_limit` deliveries; then the task fails."

#: Ours; Celery does not know them.
OURS: tuple[Setting, ...] = (
    S("broker_publish_timeout", "seconds", 5.0, _H, "Publishing returns or raises within this time."),
    S("task_delivery_limit", "int|None", 3, _H, "A message whose process died this often is dead-lettered."),
    S("task_unknown_deadline", "seconds|None", 3600.0, _H,
      "A message for a task the worker does not know is parked and retried this long, then dead-lettered."),
    S("result_encryption", "any", None, _H,
      "An object with encode and decode of bytes, or where it is: 'package.module:name'."),
    S("result_large_backend", "str|None", None, _H,
      "URL of a second result store, for documents above `result_large_size`."),
    S("result_large_size", "int", 262_144, _H, "Bytes."),
    S("worker_lease_ttl", "seconds", 6.0, _H, "A silent node's messages go to others after this time."),
)  # fmt: skip

_GENERAL = (
    S("accept_content", "list", ("json",), _H, "", ("CELERY_ACCEPT_CONTENT",)),
    S("result_accept_content", "list|None", None, _A,
      "Results are read with `result_serializer` and with nothing else.", ("RESULT_ACCEPT_CONTENT",)),
    S("enable_utc", "bool", True, _H, "", ("ENABLE_UTC",)),
    S("imports", "tuple", (), _H, "", ("CELERY_IMPORTS",)),
    S("include", "tuple", (), _H, "", ("CELERY_INCLUDE",)),
    S("timezone", "any", None, _H, "A name or a tzinfo.", ("CELERY_TIMEZONE",)),
    S("override_backends", "dict|None", None, _R,
      "Write the class into the URL: result_backend = 'package.module:Class://…'."),
    S("db_reuse_max", "int|None", None, _A, "Django's CONN_MAX_AGE is honoured between tasks instead.",
      ("CELERY_DB_REUSE_MAX",)),
)  # fmt: skip

_BEAT = (
    S("beat_schedule", "dict", {}, _H, "", ("CELERYBEAT_SCHEDULE",)),
    S("beat_scheduler", "any", "celeriac.beat:PersistentScheduler", _H, "", ("CELERYBEAT_SCHEDULER",)),
    S("beat_schedule_filename", "str", "celerybeat-schedule", _H, "", ("CELERYBEAT_SCHEDULE_FILENAME",)),
    S("beat_max_loop_interval", "seconds", 0, _H, "0: the scheduler's own.",
      ("CELERYBEAT_MAX_LOOP_INTERVAL",)),
    S("beat_sync_every", "int", 0, _H, "", ("CELERYBEAT_SYNC_EVERY",)),
    S("beat_cron_starting_deadline", "int|None", None, _H, "", ("CELERYBEAT_CRON_STARTING_DEADLINE",)),
    S("beat_enable_remote_control", "bool", False, _A, _CONTROL, ("CELERYBEAT_ENABLE_REMOTE_CONTROL",)),
    S("beat_remote_control_max_tick_age", "seconds|None", None, _A, _CONTROL,
      ("CELERYBEAT_REMOTE_CONTROL_MAX_TICK_AGE",)),
)  # fmt: skip

_BROKER = (
    S("broker_url", "str|list|None", None, _H, "None: the embedded store, `sqlite:///.celeriac/celeriac.db`.",
      ("BROKER_URL",)),
    S("broker_read_url", "str|list|None", None, _H,
      "Where workers take from. None: as `broker_url`.", ("BROKER_READ_URL",)),
    S("broker_write_url", "str|list|None", None, _H, "Where all is published to. None: as `broker_url`.",
      ("BROKER_WRITE_URL",)),
    S("broker_transport_options", "dict", {}, _H, "", ("BROKER_TRANSPORT_OPTIONS",)),
    S("broker_use_ssl", "bool|dict", False, _H, "", ("BROKER_USE_SSL",)),
    S("broker_connection_timeout", "seconds|None", 4, _H, "", ("BROKER_CONNECTION_TIMEOUT",)),
    S("broker_connection_retry", "bool", True, _H,
      "False: a worker that loses the broker for more than some seconds ends, with status 69.",
      ("BROKER_CONNECTION_RETRY",)),
    S("broker_connection_retry_on_startup", "bool|None", None, _H,
      "False: a worker that cannot reach the broker at its start ends. None: as `broker_connection_retry`.",
      ("BROKER_CONNECTION_RETRY_ON_STARTUP",)),
    S("broker_connection_max_retries", "int|None", None, _H,
      "None or 0: a worker reconnects until it is stopped. A number: it ends, with status 69, when Celery's "
      "worker would: after that many pauses of 2, 4, … 30 seconds.",
      ("BROKER_CONNECTION_MAX_RETRIES",)),
    S("broker_channel_error_retry", "bool", False, _A,
      "A worker goes on after an error of a channel, as with True.",
      ("BROKER_CHANNEL_ERROR_RETRY",)),
    S("broker_failover_strategy", "any", None, _H,
      "`round-robin` (the list's order), `shuffle`, or a function of the list of URLs.",
      ("BROKER_FAILOVER_STRATEGY",)),
    S("broker_heartbeat", "int|float|None", 120, _A, "Leases replace it: see `worker_lease_ttl`.",
      ("BROKER_HEARTBEAT",)),
    S("broker_heartbeat_checkrate", "int|float", 3.0, _A, "Leases replace it: see `worker_lease_ttl`.",
      ("BROKER_HEARTBEAT_CHECKRATE",)),
    S("broker_login_method", "str|None", None, _H, "RabbitMQ only.", ("BROKER_LOGIN_METHOD",)),
    S("broker_native_delayed_delivery_queue_type", "str", "quorum", _A,
      "Delay queues on RabbitMQ are declared as quorum queues; existing ones are used as they are.",
      ("BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE",)),
    S("broker_pool_limit", "int|None", 10, _A, "Each thread that publishes keeps one connection.",
      ("BROKER_POOL_LIMIT",)),
    S("broker_pool_acquire_timeout", "seconds|None", None, _A,
      "`broker_publish_timeout` bounds the whole call.",
      ("BROKER_POOL_ACQUIRE_TIMEOUT",)),
)  # fmt: skip

_RESULT = (
    S("result_backend", "str|None", None, _H,
      "None: the broker's own file when that is SQLite, otherwise no results are stored.",
      ("CELERY_RESULT_BACKEND",)),
    S("result_backend_transport_options", "dict", {}, _H, "", ("CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS",)),
    S("result_expires", "seconds|None", 86400.0, _H, "", ("CELERY_TASK_RESULT_EXPIRES",)),
    S("result_failure_expires", "seconds|None", None, _A, "As `result_expires`.",
      ("CELERY_RESULT_FAILURE_EXPIRES",)),
    S("result_chord_expires", "seconds|None", None, _H, "None: as `result_expires`; a day at least.",
      ("CELERY_RESULT_CHORD_EXPIRES",)),
    S("result_extended", "bool", False, _H, "", ("CELERY_RESULT_EXTENDED",)),
    S("result_serializer", "str", "json", _H, "", ("CELERY_RESULT_SERIALIZER",)),
    S("result_compression", "str|None", None, _H,
      "Results are stored before the acknowledgement, in a step of their own.",
      ("CELERY_RESULT_COMPRESSION",)),
    S("result_persistent", "bool|None", None, _H, "",
      ("CELERY_RESULT_PERSISTENT",)),
    S("result_cache_max", "int", -1, _A, "A result is kept by the object that fetched it.",
      ("CELERY_MAX_CACHED_RESULTS",)),
    S("result_exchange", "str", "celeryresults", _A, "Only the amqp backend used it.",
      ("CELERY_RESULT_EXCHANGE",)),
    S("result_exchange_type", "str", "direct", _A, "Only the amqp backend used it.",
      ("CELERY_RESULT_EXCHANGE_TYPE",)),
    S("result_chord_join_timeout", "seconds|None", 3.0, _H, "Only where chords are polled for.",
      ("CELERY_RESULT_CHORD_JOIN_TIMEOUT",)),
    S("result_chord_retry_interval", "seconds", 1.0, _H, "Only where no store counts chords.",
      ("CELERY_RESULT_CHORD_RETRY_INTERVAL",)),
    S("result_backend_always_retry", "bool", False, _A,
      "Storing is always retried, as often as `result_backend_max_retries` says.",
      ("CELERY_RESULT_BACKEND_ALWAYS_RETRY",)),
    S("result_backend_max_retries", "int|float", float("inf"), _H,
      "By default for ever: nothing is acknowledged whose result is not stored. After that many tries the "
      "result is lost, and the log says so.",
      ("CELERY_RESULT_BACKEND_MAX_RETRIES",)),
    S("result_backend_base_sleep_between_retries_ms", "int", 10, _H, "Doubled after each try.",
      ("CELERY_RESULT_BACKEND_BASE_SLEEP_BETWEEN_RETRIES_MS",)),
    S("result_backend_max_sleep_between_retries_ms", "int", 2000, _H, "2000 here, 10000 in Celery.",
      ("CELERY_RESULT_BACKEND_MAX_SLEEP_BETWEEN_RETRIES_MS",)),
    S("result_backend_thread_safe", "bool", False, _A, "Backends are always safe to share between threads."),
)  # fmt: skip

_TASK = (
    S("task_acks_late", "bool", True, _H,
      "True here, False in Celery: a message is acknowledged after its task has ended.",
      ("CELERY_ACKS_LATE",)),
    S("task_acks_on_failure_or_timeout", "bool", True, _H, "", ("CELERY_ACKS_ON_FAILURE_OR_TIMEOUT",)),
    S("task_acks_on_failure", "bool|None", None, _H, "None: as `task_acks_on_failure_or_timeout`.",
      ("CELERY_ACKS_ON_FAILURE",)),
    S("task_acks_on_timeout", "bool|None", None, _H, "None: as `task_acks_on_failure_or_timeout`.",
      ("CELERY_ACKS_ON_TIMEOUT",)),
    S("task_always_eager", "bool", False, _H, "", ("CELERY_ALWAYS_EAGER",)),
    S("task_annotations", "any", None, _H, "", ("CELERY_ANNOTATIONS",)),
    S("task_compression", "str|None", None, _H, "", ("CELERY_MESSAGE_COMPRESSION",)),
    S("task_create_missing_queues", "bool", True, _H, "", ("CELERY_CREATE_MISSING_QUEUES",)),
    S("task_create_missing_queue_type", "str", "classic", _H, "RabbitMQ only.",
      ("CELERY_CREATE_MISSING_QUEUE_TYPE",)),
    S("task_create_missing_queue_exchange_type", "str|None", None, _H, "",
      ("CELERY_CREATE_MISSING_QUEUE_EXCHANGE_TYPE",)),
    S("task_inherit_parent_priority", "bool", False, _H, "", ("CELERY_INHERIT_PARENT_PRIORITY",)),
    S("task_default_delivery_mode", "int|str", 2, _H, "", ("CELERY_DEFAULT_DELIVERY_MODE",)),
    S("task_default_queue", "str", "celery", _H, "", ("CELERY_DEFAULT_QUEUE",)),
    S("task_default_queue_type", "str", "classic", _H, "RabbitMQ only.", ("CELERY_DEFAULT_QUEUE_TYPE",)),
    S("task_default_exchange", "str|None", None, _H, "None: as `task_default_queue`.",
      ("CELERY_DEFAULT_EXCHANGE",)),
    S("task_default_exchange_type", "str", "direct", _H, "", ("CELERY_DEFAULT_EXCHANGE_TYPE",)),
    S("task_default_routing_key", "str|None", None, _H, "None: as `task_default_queue`.",
      ("CELERY_DEFAULT_ROUTING_KEY",)),
    S("task_default_rate_limit", "str|int|float|None", None, _R,
      "Rate limits are not built yet; remove it.", ("CELERY_DEFAULT_RATE_LIMIT",)),
    S("task_default_priority", "int|None", None, _H, "", ("CELERY_DEFAULT_PRIORITY",)),
    S("task_eager_propagates", "bool", False, _H, "", ("CELERY_EAGER_PROPAGATES_EXCEPTIONS",)),
    S("task_ignore_result", "bool", False, _H, "", ("CELERY_IGNORE_RESULT",)),
    S("task_store_eager_result", "bool", False, _H, "", ("CELERY_STORE_EAGER_RESULT",)),
    S("task_protocol", "int", 2, _H, "Protocol 1 is read, never written; only 2 may be set.",
      ("CELERY_TASK_PROTOCOL",)),
    S("task_publish_retry", "bool", True, _H, "", ("CELERY_TASK_PUBLISH_RETRY",)),
    S("task_publish_retry_policy", "dict",
      {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2}, _H,
      "One of your own says for how long publishing is tried, instead of `broker_publish_timeout`.",
      ("CELERY_TASK_PUBLISH_RETRY_POLICY",)),
    S("task_queues", "any", None, _H, "Queue objects, or a dict of queue name → options.",
      ("CELERY_QUEUES",)),
    S("task_queue_max_priority", "int|None", None, _H, "RabbitMQ only, and there on classic queues only.",
      ("CELERY_QUEUE_MAX_PRIORITY",)),
    S("task_reject_on_worker_lost", "bool|None", None, _A, _LOST, ("CELERY_REJECT_ON_WORKER_LOST",)),
    S("task_retry_on_worker_lost", "bool", False, _A, _LOST, ("CELERY_RETRY_ON_WORKER_LOST",)),
    S("task_remote_tracebacks", "bool", False, _A, "The traceback's text is always stored.",
      ("CELERY_REMOTE_TRACEBACKS",)),
    S("task_repr_maxlevels", "int", 3, _A, "Texts of arguments are cut by length, not by depth.",
      ("CELERY_REPR_MAXLEVELS",)),
    S("task_routes", "any", None, _H, "", ("CELERY_ROUTES",)),
    S("task_send_sent_event", "bool", False, _A, _EVENTS, ("CELERY_SEND_TASK_SENT_EVENT",)),
    S("task_serializer", "str", "json", _H, "", ("CELERY_TASK_SERIALIZER",)),
    S("task_soft_time_limit", "seconds|None", None, _H, "", ("CELERYD_TASK_SOFT_TIME_LIMIT",)),
    S("task_time_limit", "seconds|None", None, _H, "", ("CELERYD_TASK_TIME_LIMIT",)),
    S("task_store_errors_even_if_ignored", "bool", False, _H, "", ("CELERY_STORE_ERRORS_EVEN_IF_IGNORED",)),
    S("task_track_started", "bool", False, _H, "", ("CELERY_TRACK_STARTED",)),
    S("task_allow_error_cb_on_chord_header", "bool", False, _H, "",
      ("CELERY_ALLOW_ERROR_CB_ON_CHORD_HEADER",)),
)  # fmt: skip

_WORKER = (
    S("worker_concurrency", "int|str|None", None, _H, "A number or `auto`; None: one per CPU.",
      ("CELERYD_CONCURRENCY",)),
    S("worker_pool", "any", "prefork", _H, "`prefork`, `threads`, `asyncio` or `solo`.", ("CELERYD_POOL",)),
    S("worker_soft_shutdown_timeout", "seconds", 0.0, _H, "Grace before a shutdown hands tasks back.",
      ("CELERYD_SOFT_SHUTDOWN_TIMEOUT",)),
    S("worker_enable_soft_shutdown_on_idle", "bool", False, _A, "An idle worker holds nothing to wait for.",
      ("CELERYD_ENABLE_SOFT_SHUTDOWN_ON_IDLE",)),
    S("worker_max_tasks_per_child", "int|None", None, _H, "", ("CELERYD_MAX_TASKS_PER_CHILD",)),
    S("worker_max_memory_per_child", "int|None", None, _H, "KiB.", ("CELERYD_MAX_MEMORY_PER_CHILD",)),
    S("worker_hijack_root_logger", "bool", True, _H, "", ("CELERYD_HIJACK_ROOT_LOGGER",)),
    S("worker_log_color", "bool|None", None, _H, "None: only on a terminal.", ("CELERYD_LOG_COLOR",)),
    S("worker_log_datefmt", "str|None", None, _H, "", ("CELERYD_LOG_DATEFMT",)),
    S("worker_log_format", "str", "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s", _H, "",
      ("CELERYD_LOG_FORMAT",)),
    S("worker_task_log_datefmt", "str|None", None, _H, "", ("CELERYD_TASK_LOG_DATEFMT",)),
    S("worker_task_log_format", "str",
      "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s", _H, "",
      ("CELERYD_TASK_LOG_FORMAT",)),
    S("worker_redirect_stdouts", "bool", True, _H, "", ("CELERY_REDIRECT_STDOUTS",)),
    S("worker_redirect_stdouts_level", "str|int", "WARNING", _H, "", ("CELERY_REDIRECT_STDOUTS_LEVEL",)),
    S("worker_proc_alive_timeout", "seconds", 4.0, _A, "A child may take as long as it needs to start.",
      ("CELERYD_PROC_ALIVE_TIMEOUT",)),
    S("worker_disable_rate_limits", "bool", False, _A, "There are no rate limits yet.",
      ("CELERY_DISABLE_RATE_LIMITS",)),
    S("worker_direct", "bool", False, _A, _CONTROL, ("CELERY_WORKER_DIRECT",)),
    S("worker_enable_remote_control", "bool", True, _A, _CONTROL, ("CELERY_ENABLE_REMOTE_CONTROL",)),
    S("worker_send_task_events", "bool", False, _A, _EVENTS, ("CELERY_SEND_EVENTS",)),
    S("worker_prefetch_multiplier", "int", 4, _A, _BATCHES, ("CELERYD_PREFETCH_MULTIPLIER",)),
    S("worker_disable_prefetch", "bool", False, _A, _BATCHES, ("CELERYD_DISABLE_PREFETCH",)),
    S("worker_enable_prefetch_count_reduction", "bool", True, _A, _BATCHES,
      ("CELERYD_ENABLE_PREFETCH_COUNT_REDUCTION",)),
    S("worker_eta_task_limit", "int|None", None, _A, _BROKER_DELAY, ("CELERYD_ETA_TASK_LIMIT",)),
    S("worker_timer_precision", "seconds", 1.0, _A, _BROKER_DELAY, ("CELERYD_TIMER_PRECISION",)),
    S("worker_lost_wait", "seconds", 10.0, _A, "A dead process is noticed at once.",
      ("CELERYD_WORKER_LOST_WAIT",)),
    S("worker_cancel_long_running_tasks_on_connection_loss", "bool", False, _A,
      "A task that outlives its lease runs to its end; its result is then refused.",
      ("CELERYD_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS",)),
    S("worker_deduplicate_successful_tasks", "bool", False, _A,
      "Where broker and results share a store, result and acknowledgement are one step.",
      ("CELERYD_DEDUPLICATE_SUCCESSFUL_TASKS",)),
    S("worker_detect_quorum_queues", "bool", True, _A,
      "Quorum queues need no other mode; delays are always kept by RabbitMQ.",
      ("CELERYD_DETECT_QUORUM_QUEUES",)),
    S("worker_pool_putlocks", "bool", True, _A, "No parent process feeds the children.",
      ("CELERYD_POOL_PUTLOCKS",)),
    S("worker_pool_restarts", "bool", False, _A, _CONTROL, ("CELERYD_POOL_RESTARTS",)),
    S("worker_pool_start_method", "str", "fork", _A, "Children are forked from a process without threads.",
      ("CELERYD_POOL_START_METHOD",)),
    S("worker_state_db", "str|None", None, _A, "Revoked ids are kept in the broker.", ("CELERYD_STATE_DB",)),
    S("worker_agent", "any", None, _R, f"{_BOOTSTEPS}; remove it.", ("CELERYD_AGENT",)),
    S("worker_autoscaler", "any", "celeriac.worker.autoscale:Autoscaler", _R,
      f"{_BOOTSTEPS}; use `--autoscale`.", ("CELERYD_AUTOSCALER",)),
    S("worker_consumer", "any", "celeriac.worker.consumer:Consumer", _R,
      f"{_BOOTSTEPS}; use signals, or a broker of your own (entry point `celeriac.brokers`).",
      ("CELERYD_CONSUMER",)),
    S("worker_timer", "any", None, _R, f"{_BOOTSTEPS}; remove it.", ("CELERYD_TIMER",)),
)  # fmt: skip

_MESSAGING = (
    S("control_queue_ttl", "seconds", 300.0, _A, _CONTROL, ("CONTROL_QUEUE_TTL",)),
    S("control_queue_expires", "seconds", 10.0, _A, _CONTROL, ("CONTROL_QUEUE_EXPIRES",)),
    S("control_queue_exclusive", "bool", True, _A, _CONTROL, ("CONTROL_QUEUE_EXCLUSIVE",)),
    S("control_queue_durable", "bool", False, _A, _CONTROL, ("CONTROL_QUEUE_DURABLE",)),
    S("control_exchange", "str", "celery", _A, _CONTROL, ("CONTROL_EXCHANGE",)),
    S("event_queue_expires", "seconds", 60.0, _A, _EVENTS, ("CELERY_EVENT_QUEUE_EXPIRES",)),
    S("event_queue_ttl", "seconds", 5.0, _A, _EVENTS, ("CELERY_EVENT_QUEUE_TTL",)),
    S("event_queue_prefix", "str", "celeryev", _A, _EVENTS, ("CELERY_EVENT_QUEUE_PREFIX",)),
    S("event_queue_exclusive", "bool", True, _A, _EVENTS, ("CELERY_EVENT_QUEUE_EXCLUSIVE",)),
    S("event_queue_durable", "bool", False, _A, _EVENTS, ("CELERY_EVENT_QUEUE_DURABLE",)),
    S("event_serializer", "str", "json", _A, _EVENTS, ("CELERY_EVENT_SERIALIZER",)),
    S("event_exchange", "str", "celeryev", _A, _EVENTS, ("CELERY_EVENT_EXCHANGE",)),
    S("security_certificate", "str|None", None, _R, _SIGNING, ("CELERY_SECURITY_CERTIFICATE",)),
    S("security_cert_store", "str|None", None, _R, _SIGNING, ("CELERY_SECURITY_CERT_STORE",)),
    S("security_key", "str|None", None, _R, _SIGNING, ("CELERY_SECURITY_KEY",)),
    S("security_key_password", "bytes|None", None, _R, _SIGNING, ("CELERY_SECURITY_KEY_PASSWORD",)),
    S("security_digest", "str", "sha256", _A, "No effect without the other security settings.",
      ("CELERY_SECURITY_DIGEST",)),
)  # fmt: skip

_DAEMONS = tuple(
    S(f"{program}_{what}", "any", None, _A, _DAEMON)
    for program in ("beat", "events", "worker")
    for what in ("executable", "gid", "logfile", "pidfile", "uid", "umask")
)

CORE: tuple[Setting, ...] = (
    *_GENERAL, *_TASK, *_BROKER, *_RESULT, *_WORKER, *_BEAT, *_MESSAGING, *_DAEMONS, *OURS,
)  # fmt: skip
