"""What an app is composed of: the one place where settings become implementations.

1. `Parts`: broker, result store, queues, router, producer, loader, logging; each made on first use.
2. When a setting changes, the parts that come from it are made anew, and the others stay.

Not here: the classes themselves, and how a URL becomes one (`plugins.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from celeriac import plugins
from celeriac.app.failover import arranged
from celeriac.app.hooks import SETTINGS as HOOKS
from celeriac.app.hooks import sealed, with_hooks
from celeriac.app.loading import Loader, cwd_in_path
from celeriac.app.queues import Queues, declarations
from celeriac.app.routes import Router
from celeriac.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.app.log import Logging
    from celeriac.app.settings import Settings
    from celeriac.backends.base import ChordStore, Mailbox, ResultBackend
    from celeriac.brokers.base import Broker
    from celeriac.brokers.base import Queue as Declaration

__all__ = ["Messaging", "Parts"]

T = TypeVar("T")

_LOADER: Final = ("CELERIAC_LOADER", "CELERY_LOADER")

_QUEUES: Final = (
    "task_queues",
    "task_default_queue",
    "task_default_exchange",
    "task_default_exchange_type",
    "task_default_routing_key",
    "task_create_missing_queues",
    "task_create_missing_queue_exchange_type",
    "task_default_queue_type",
    "task_create_missing_queue_type",
    "task_queue_max_priority",
)

#: Settings of the Redis result store that are options of its transport, under their names without "redis_".
_REDIS: Final = (
    "redis_socket_timeout",
    "redis_socket_connect_timeout",
    "redis_socket_keepalive",
    "redis_client_name",
)

#: The settings that each part is made from; a result store's own list is in `plugins.py`.
_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "broker": (
        "broker_read_url",
        "broker_write_url",
        "broker_transport_options",
        "broker_use_ssl",
        "broker_connection_timeout",
        "broker_failover_strategy",
        "broker_login_method",
    ),
    "backend": (
        "result_backend",
        "result_backend_transport_options",
        "redis_backend_use_ssl",
        *_REDIS,
        *HOOKS,
    ),
    "chords": ("broker_write_url", "broker_transport_options", "broker_use_ssl", "broker_login_method"),
    "queues": _QUEUES,
    "router": (*_QUEUES, "task_routes"),
}


class Messaging(NamedTuple):
    """`app.amqp`: what Celery keeps there and applications use."""

    queues: Queues
    router: Router


class Parts:
    """The parts of `app`.

    Args:
        loader: class or path of a loader, or None.
        log: class that sets up logging, or None.
        backend: a ready-made result store, or None: by the setting `result_backend`.
    """

    def __init__(self, app: Celeriac, *, loader: Any, log: Any, backend: ResultBackend | None) -> None:
        self._app = app
        self._loader_class = loader
        self._log_class = log
        self._own_backend = backend
        #: name → (values of its settings when it was made, the part)
        self._made: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def settings_changed(self) -> None:
        """Drop the parts whose settings have other values now."""
        for name in list(self._made):
            made = self._made.get(name)
            if made is not None and made[0] != self._values(name):
                del self._made[name]

    def close(self) -> None:
        """Drop all connections."""
        for name in ("broker", "backend", "chords"):
            if name in self._made and self._made[name][1] is not None:
                self._made[name][1].close()

    def broker(self) -> Broker:
        return self._part("broker", self._make_broker)

    def _make_broker(self, conf: Settings) -> Broker:
        def make(url: str) -> Broker:
            url = arranged(url, conf.broker_failover_strategy)
            return plugins.broker_from_url(url, _broker_options(conf), self._declarations)

        write = make(conf.broker_write_url)
        if conf.broker_read_url == conf.broker_write_url:
            return write
        from celeriac.brokers.split import SplitBroker  # few need it

        return SplitBroker(make(conf.broker_read_url), write)

    def _declarations(self, name: str) -> Sequence[Declaration]:
        """What a broker is told of a queue that it has to declare before it can be used."""
        return declarations(self.queues()[name])

    def chord_store(self) -> ChordStore | None:
        """Where chords are counted: the result store; where results are not kept, the broker's own store."""
        found: Any = self.backend()
        if not found.capabilities.native_chord and not self.polls_chords():
            found = self._part("chords", _broker_as_backend)
        if found is None or not found.capabilities.native_chord:
            return None
        store: ChordStore = found.chords
        return store

    def counts_chords(self) -> bool:
        if self.chord_store() is not None:
            return True
        if self.polls_chords():
            return False
        backend = self._app.conf.result_backend or "not set"
        raise ImproperlyConfigured(
            "A chord cannot be sent: nothing can count its members. Results are not kept (result_backend is "
            f"{backend!r}), and the broker is no store that could do it. Set result_backend to one, e.g. "
            "redis://, postgresql:// or sqlite://."
        )

    def polls_chords(self) -> bool:
        """True when the results of a chord's members can be looked for, one by one."""
        capabilities = self.backend().capabilities
        return capabilities.stores and capabilities.shared

    def backend(self) -> ResultBackend:
        if self._own_backend is not None:
            return self._own_backend
        return self._part(
            "backend",
            lambda conf: with_hooks(
                plugins.backend_from_url(
                    conf.result_backend or "disabled://", _backend_options(conf), self._app
                ),
                conf,
            ),
        )

    def mailbox(self) -> Mailbox | None:
        """The result store, if results go to the process that makes the call; another kind is not made for
        the question."""
        if self._own_backend is None and plugins.keeps_results(
            self._app.conf.result_backend or "disabled://"
        ):
            return None
        backend: Any = self.backend()
        return None if backend.capabilities.shared else backend

    def queues(self) -> Queues:
        return self._part("queues", _queues)

    def router(self) -> Router:
        return self._part("router", lambda conf: Router(conf.task_routes, self.queues(), _load_from_cwd))

    def log(self) -> Logging:
        from celeriac.app.log import Logging

        return self._part("log", lambda conf: (self._log_class or Logging)(self._app))

    def loader(self) -> Loader:
        found = self._made.get("loader")
        if found is None:
            with self._app.lock:
                found = self._made.setdefault("loader", ((), self._make_loader()))
        loader: Loader = found[1]
        return loader

    def _make_loader(self) -> Loader:
        kind = self._loader_class or next(
            (os.environ[name] for name in _LOADER if os.environ.get(name)), None
        )
        if kind in (None, "app", "default"):
            return Loader(self._app)
        kind = plugins.load_class(kind) if isinstance(kind, str) else kind
        loader: Loader = kind(app=self._app)
        return loader

    def _part(self, name: str, make: Callable[[Settings], T]) -> T:
        found = self._made.get(name)
        if found is None:
            with self._app.lock:
                self._app.conf.settle()  # reading the first setting may itself drop parts
                found = self._made.get(name)
                if found is None:
                    found = self._made[name] = (self._values(name), make(self._app.conf))
        part: T = found[1]
        return part

    def _values(self, name: str) -> tuple[Any, ...]:
        conf = self._app.conf
        names = _SETTINGS.get(name, ())
        if name == "backend":
            names += plugins.backend_settings(conf.get("result_backend") or "disabled://")
            names += plugins.backend_settings(conf.get("result_large_backend") or "disabled://")
        return tuple(conf.get(setting) for setting in names)


def _broker_as_backend(conf: Settings) -> ResultBackend | None:
    """A result store in the broker's, for nothing but chords; None where there is none."""
    url = conf.broker_write_url
    if not plugins.is_store(url):
        return None
    return sealed(plugins.backend_from_url(url, _broker_options(conf)), url, conf)


def _queues(conf: Settings) -> Queues:
    return Queues(
        conf.task_queues,
        default=conf.task_default_queue,
        create_missing=conf.task_create_missing_queues,
        missing_exchange_type=conf.task_create_missing_queue_exchange_type,
        default_exchange=conf.task_default_exchange,
        default_exchange_type=conf.task_default_exchange_type,
        default_routing_key=conf.task_default_routing_key,
        default_type=conf.task_default_queue_type,
        missing_type=conf.task_create_missing_queue_type,
        max_priority=conf.task_queue_max_priority,
    )


def _load_from_cwd(path: str) -> Any:
    with cwd_in_path():
        return plugins.load_class(path)


def _broker_options(conf: Settings) -> dict[str, Any]:
    """`broker_transport_options`, and the settings that say the same of every broker."""
    return {
        **_given(
            ssl=conf.broker_use_ssl or None,
            socket_connect_timeout=conf.broker_connection_timeout,
            login_method=conf.broker_login_method,
        ),
        **(conf.broker_transport_options or {}),
    }


def _backend_options(conf: Settings) -> dict[str, Any]:
    """`result_backend_transport_options`, and the settings of the result stores."""
    return {
        **_given(
            ssl=conf.redis_backend_use_ssl or None,
            socket_timeout=conf.redis_socket_timeout,
            socket_connect_timeout=conf.redis_socket_connect_timeout,
            socket_keepalive=conf.redis_socket_keepalive,
            client_name=conf.redis_client_name,
        ),
        **{name: conf[name] for name in plugins.backend_settings(conf.result_backend or "disabled://")},
        **(conf.result_backend_transport_options or {}),
    }


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
