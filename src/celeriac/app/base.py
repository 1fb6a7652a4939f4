"""`Celeriac`: the application.

1. Configuration: `conf`, `config_from_object`, `config_from_envvar`, `config_from_cmdline`, `add_defaults`.
2. Tasks: `task`, `register_task`, `tasks`, `autodiscover_tasks`, `finalize`.
3. Calling by name: `send_task`, `signature`, `AsyncResult`, `GroupResult`.
4. Composition: the one place where settings become a broker, a result store, queues, routes and a producer.
   All are made on first use, and made anew when the settings they come from change.

Tasks declared before the app is finalised wait; the first use of `tasks` finalises it. Safe to use from any
thread, and in forked children.

Not here: what a worker or a scheduler does with an app (`worker/`, `beat/`).
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, ParamSpec, TypeVar, overload

from celeriac import _state, plugins
from celeriac.app import declaring
from celeriac.app.declaring import BoundDecorator, Decorator, SharedTask
from celeriac.app.live import LiveSettings
from celeriac.app.loading import Loader, cwd_in_path
from celeriac.app.queues import Queues
from celeriac.app.registry import TaskRegistry
from celeriac.app.routes import Router
from celeriac.app.settings import read_assignments, read_envvar, read_mapping, read_object
from celeriac.app.task import AsyncTask, Task
from celeriac.exceptions import AlwaysEagerIgnored, DuplicateTaskNameWarning, ImproperlyConfigured
from celeriac.signals import Signal

if TYPE_CHECKING:
    from celeriac.app.control import Control
    from celeriac.app.log import Logging
    from celeriac.app.producer import Producer
    from celeriac.backends.base import ResultBackend
    from celeriac.brokers.base import Broker
    from celeriac.canvas import Signature
    from celeriac.result import AsyncResult, GroupResult

__all__ = ["Celeriac", "Celery"]

P = ParamSpec("P")
R = TypeVar("R")

_CONFIG_MODULE: Final = ("CELERIAC_CONFIG_MODULE", "CELERY_CONFIG_MODULE")
_LOADER: Final = ("CELERIAC_LOADER", "CELERY_LOADER")
#: Settings that decide what queues and routes there are; changing them makes both anew.
_QUEUE_SETTINGS: Final = (
    "task_queues",
    "task_routes",
    "task_default_queue",
    "task_default_exchange",
    "task_default_exchange_type",
    "task_default_routing_key",
    "task_create_missing_queues",
    "task_create_missing_queue_exchange_type",
)


class Celeriac:
    """An application: tasks, and the settings by which they are sent and run.

    Args:
        main: name that stands for the module `__main__` in task names.
        loader: class (or its path) that imports task modules.
        backend: URL of the result store; outranks the configuration.
        amqp, events, control: for Celery's callers; there is nothing to replace here.
        log: class that sets up logging.
        set_as_current: make it the current app.
        tasks: a task registry to use, or its class.
        broker: URL of the broker; outranks the configuration.
        include: modules of tasks that a worker imports.
        changes: settings; they outrank the configuration.
        config_source: object or path to configure from.
        fixups: integrations: callables (or their paths) that are called with the app.
        task_cls: base class of its tasks.
        autofinalize: finalise on first use; otherwise `finalize` must be called.
        namespace: prefix of the settings in `config_source`.
        strict_typing: check arguments when tasks are called.
        config_source_silent: ignore a `config_source` that cannot be imported.
        kwargs: further settings, as `changes`.

    Example:
        >>> app = Celeriac("proj", broker="memory://", set_as_current=False)
        >>> @app.task
        ... def add(x: int, y: int) -> int:
        ...     return x + y
        >>> add.delay(2, 2).id != ""
        True
    """

    #: Called for every app; each looks itself whether it applies.
    builtin_fixups: frozenset[str] = frozenset({"celeriac.contrib.django.fixup:fixup"})

    def __init__(
        self,
        main: str | None = None,
        loader: Any = None,
        backend: Any = None,
        amqp: Any = None,
        events: Any = None,
        log: Any = None,
        control: Any = None,
        set_as_current: bool = True,
        tasks: Any = None,
        broker: str | None = None,
        include: Sequence[str] | None = None,
        changes: Mapping[str, Any] | None = None,
        config_source: Any = None,
        fixups: Iterable[Any] | None = None,
        task_cls: Any = None,
        autofinalize: bool = True,
        namespace: str | None = None,
        strict_typing: bool = True,
        config_source_silent: bool = False,
        **kwargs: Any,
    ) -> None:
        self.main = main
        self.autofinalize = autofinalize
        self.namespace = namespace
        self.strict_typing = strict_typing
        self.set_as_current = set_as_current
        self.finalized = False
        self.user_options: defaultdict[str, set[Any]] = defaultdict(set)
        self.on_configure = Signal(name="app.on_configure")
        self.on_after_configure = Signal({"source"}, name="app.on_after_configure")
        self.on_after_finalize = Signal(name="app.on_after_finalize")
        self.on_after_fork = Signal(name="app.on_after_fork")
        self._lock = threading.RLock()
        self._loader_cls = loader
        self._log_cls = log
        self._task_cls = task_cls
        self._task_base: type[Task[..., Any]] | None = None
        self._config_source = config_source
        self._config_silent = config_source_silent
        self._defaults: deque[Any] = deque()
        self._pending: deque[Task[..., Any]] = deque()
        self._periodic: deque[tuple[str, dict[str, Any], bool]] = deque()
        self._registry: TaskRegistry = _registry(tasks)
        self._discover: list[Callable[..., Any]] = []
        self._own_backend = backend if backend is not None and not isinstance(backend, str) else None
        self._forget_parts()
        given = {**(changes or {}), **kwargs}
        for name, value in (
            ("broker_url", broker),
            ("result_backend", backend if isinstance(backend, str) else None),
            ("include", include),
        ):
            if value:
                given[name] = value
        self.conf: LiveSettings = LiveSettings(
            read_mapping(given, strict=False), self._load_configuration, self._configuration_changed
        )
        if set_as_current:
            self.set_current()
        self.fixups = list(self.builtin_fixups if fixups is None else fixups)
        self._fixups = [
            found for found in (_fixup(entry, self) for entry in self.fixups) if found is not None
        ]
        self.on_init()
        _state.register_app(self)

    def on_init(self) -> None:
        """Called at the end of the constructor; for subclasses."""

    # -- the current app ------------------------------------------------------------------------------------

    def set_current(self) -> None:
        """Make it the current app of this context."""
        _state.set_current_app(self)

    def set_default(self) -> None:
        """Make it the app of all contexts that have none of their own."""
        _state.set_default_app(self)

    @property
    def current_task(self) -> Any:
        """The task that runs in this context, or None."""
        return _state.get_current_task()

    @property
    def current_worker_task(self) -> Any:
        """The task that a worker runs in this context (in-process calls inside of it do not count), or None."""
        from celeriac.app.options import current_parent

        parent = current_parent()
        return parent[0] if parent is not None else None

    # -- configuration --------------------------------------------------------------------------------------

    @property
    def configured(self) -> bool:
        """Whether the configuration has been loaded."""
        return self.conf.configured

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Configure from an object, a module, a dictionary, or the import path of one.

        It is read when a setting is first needed; at once if that is over, or with `force`.

        Args:
            obj: e.g. ``"celeryconfig"``, ``"django.conf:settings"``, ``{"task_acks_late": False}``.
            silent: ignore it if it cannot be imported.
            namespace: only names that start with it, e.g. ``"CELERY"``.

        Raises:
            ImproperlyConfigured: it cannot be imported, or holds unknown names or wrong values.
        """
        self._config_source = obj
        self._config_silent = silent
        self.namespace = namespace or self.namespace
        if self.conf.configured:
            self.conf.load(self._read_source())
        elif force:
            self.conf.settle()

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> bool:
        """Configure from the module that the environment variable names; return whether it is set.

        Raises:
            ImproperlyConfigured: it is not set, and `silent` is false.
        """
        found = read_envvar(variable_name, silent=silent)
        if found is None:
            return False
        self.config_from_object(os.environ[variable_name], silent=silent, force=force)
        return True

    def config_from_cmdline(self, argv: Sequence[str], namespace: str = "celery") -> None:
        """Set settings from ``name=value`` words of a command line."""
        self.conf.update(read_assignments(argv, namespace))

    def add_defaults(self, fun: Any) -> Any:
        """Add defaults that every configuration outranks: a dictionary, or a function that returns one."""
        if self.conf.configured:
            self.conf.add_defaults(fun() if callable(fun) else fun)
        else:
            self._defaults.append(fun)
        return fun

    def _load_configuration(self, conf: LiveSettings) -> None:
        with self._lock:
            if conf.configured:
                return
            self.on_configure.send(sender=self)
            config = self._read_source()
            conf.open()
            conf.load(config)
            while self._defaults:
                self.add_defaults(self._defaults.popleft())
            self.on_after_configure.send(sender=self, source=conf)
            while self._periodic:
                self._add_entry(*self._periodic.popleft())

    def _read_source(self) -> dict[str, Any]:
        source = self._config_source
        if source is None:
            source = next((os.environ[name] for name in _CONFIG_MODULE if os.environ.get(name)), None)
            if source is None:
                return {}
        try:
            return read_object(source, self.namespace)
        except ImproperlyConfigured as exc:
            if self._config_silent and isinstance(exc.__cause__, ImportError):
                return {}
            raise

    def _configuration_changed(self) -> None:
        """Drop what was made from settings that are different now."""
        conf, parts = self.conf, self._parts
        self._producer = None
        for part, names in _PARTS.items():
            values = tuple(conf.get(name) for name in names)
            if parts.get(part) is not None and parts[part][0] != values:
                parts[part] = None
                if part == "queues":
                    parts["router"] = None

    # -- tasks ----------------------------------------------------------------------------------------------

    @property
    def Task(self) -> type[Task[..., Any]]:
        """Base class of this app's tasks; may be replaced by a subclass."""
        if self._task_base is None:
            base = self._task_cls or Task
            base = plugins.load_class(base) if isinstance(base, str) else base
            self._task_base = type(base.__name__, (base,), {"_app": self, "__module__": base.__module__})
        return self._task_base

    @Task.setter
    def Task(self, base: type[Task[..., Any]]) -> None:
        previous, self._task_base = self._task_base, base
        for task in self._pending:
            if type(task) is previous:
                task.__class__ = base

    @overload
    def task(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...

    @overload
    def task(self, fun: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(self, *, bind: Literal[True], **opts: Any) -> BoundDecorator: ...

    @overload
    def task(self, *, bind: Literal[False] = False, **opts: Any) -> Decorator: ...

    def task(self, *args: Any, **opts: Any) -> Any:
        """Make a function a task: ``@app.task`` or ``@app.task(name=…, bind=True, …)``.

        Args:
            opts: `name`; `base` (task class); `bind` (the task is the first argument); `pydantic`, `pydantic_strict`,
                `pydantic_context`, `pydantic_dump_kwargs`; `shared` (also a task of apps made later; default
                true); `lazy` (register when the app is finalised; default true); `filter` (called with the task,
                returns what the name is bound to); all else becomes an attribute of the task.

        Raises:
            TypeError: it was not given one function.
        """
        shared, lazy = opts.pop("shared", True), opts.pop("lazy", True)
        chosen = opts.pop("filter", None)

        def declare(fun: Callable[..., Any]) -> Any:
            task = self._declare(fun, opts, lazy=lazy)
            if shared:
                _state.connect_on_app_finalize(lambda app: app.adopt(fun, opts) if app is not self else None)
            return chosen(task) if chosen is not None else task

        return declare(declaring.only_function(args, "app.task")) if args else declare

    def _declare(self, fun: Callable[..., Any], opts: dict[str, Any], *, lazy: bool) -> Task[..., Any]:
        name = opts.get("name") or self.gen_task_name(declaring.name_of(fun), fun.__module__)
        with self._lock:
            known = self._registry.get(name) or next((t for t in self._pending if t.name == name), None)
            if known is not None:
                _warn_if_other(known, fun, name)
                return known  # type: ignore[no-any-return]
            task = declaring.task_from_function(self, fun, opts)
            if lazy and not self.finalized:
                self._pending.append(task)
            else:
                self._register(task)
            return task

    def adopt(
        self, fun: Callable[..., Any], options: Mapping[str, Any], declared: SharedTask | None = None
    ) -> Task[..., Any]:
        """Make a task of this app from a function that was declared elsewhere; what it has already stays."""
        name = options.get("name") or self.gen_task_name(declaring.name_of(fun), fun.__module__)
        with self._lock:
            known: Task[..., Any] | None = self._registry.get(name)
            if known is not None:
                return known
            rest = {key: value for key, value in options.items() if key not in ("shared", "lazy", "filter")}
            task = declaring.task_from_function(self, fun, rest)
            if declared is not None:
                task.__declared__ = declared
            self._register(task)
            return task

    def _register(self, task: Task[..., Any]) -> None:
        self._registry[task.name] = task
        task.bind(self)

    def register_task(self, task: Any, **options: Any) -> Any:
        """Add a task that is a class: ``app.register_task(MyTask())``; return it.

        Args:
            task: an instance of a task class, or the class. Without a `name` it is called after its class.
            options: attributes to set on it.
        """
        task = task() if isinstance(task, type) else task
        if not task.name:
            kind = type(task)
            task.name = self.gen_task_name(kind.__name__, kind.__module__)
        for attribute, value in options.items():
            setattr(task, attribute, value)
        with self._lock:
            self._register(task)
        return task

    @property
    def tasks(self) -> TaskRegistry:
        """All tasks by name. Finalises the app."""
        if not self.finalized:
            self.finalize(auto=True)
        return self._registry

    def finalize(self, auto: bool = False) -> None:
        """Register and bind every task that was declared so far.

        Raises:
            RuntimeError: it is asked for implicitly (`auto`) although `autofinalize` is off.
        """
        with self._lock:
            if self.finalized:
                return
            if auto and not self.autofinalize:
                raise RuntimeError(
                    "The app has autofinalize=False: call app.finalize() before its tasks are used."
                )
            from celeriac.app.builtins import add_builtins

            self.conf.settle()
            self.finalized = True
            while self._pending:
                self._register(self._pending.popleft())
            add_builtins(self)
            _state.announce_app_finalized(self)
            self.on_after_finalize.send(sender=self)

    def gen_task_name(self, name: str, module: str | None) -> str:
        """The name of a task whose function is `name` in `module`; for subclasses to change."""
        return declaring.gen_task_name(self, name, module)

    @property
    def loader(self) -> Loader:
        """Imports the modules of tasks."""
        return self._part("loader", self._make_loader)

    def import_default_modules(self, include: Sequence[str] = ()) -> None:
        """Import all modules of tasks, as a worker does when it starts: autodiscovered, `imports`, `include`."""
        self.loader.import_default_modules()
        for module in include or ():
            self.loader.import_task_module(module)

    def autodiscover_tasks(
        self, packages: Any = None, related_name: str | None = "tasks", force: bool = False
    ) -> None:
        """Import the `tasks` module of every package, when a worker starts or tasks are listed.

        Args:
            packages: names of packages, or a function that returns them; None: the installed apps (Django).
            related_name: name of the module; None: the packages themselves.
            force: now.
        """

        def discover(*args: Any, **kwargs: Any) -> None:
            self.loader.autodiscover_tasks(self._packages(packages), related_name)

        if force:
            discover()
            return
        from celeriac.signals import import_modules

        self._discover.append(discover)
        import_modules.connect(discover, sender=self)

    def _packages(self, packages: Any) -> list[str]:
        if packages is None:
            found = [
                name
                for fixup in self._fixups
                if hasattr(fixup, "autodiscover_tasks")
                for name in fixup.autodiscover_tasks()
            ]
        else:
            found = list(packages() if callable(packages) else packages)
        return found

    # -- calling --------------------------------------------------------------------------------------------

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        task_id: str | None = None,
        producer: Any = None,
        connection: Any = None,
        router: Any = None,
        result_cls: Any = None,
        expires: Any = None,
        publisher: Any = None,
        link: Any = None,
        link_error: Any = None,
        add_to_parent: bool = True,
        group_id: str | None = None,
        group_index: int | None = None,
        retries: int = 0,
        chord: Any = None,
        reply_to: str | None = None,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        route_name: str | None = None,
        shadow: str | None = None,
        chain: Any = None,
        task_type: Any = None,
        replaced_task_nesting: int = 0,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Publish a call by the task's name, whether or not it is known here. Options: see `Task.apply_async`.

        `task_always_eager` does not count: there may be nothing to run.
        """
        if self.conf.task_always_eager:
            warnings.warn(
                "task_always_eager has no effect on send_task: it publishes. Call the task itself.",
                AlwaysEagerIgnored,
                stacklevel=2,
            )
        given = {
            "countdown": countdown,
            "eta": eta,
            "task_id": task_id,
            "expires": expires,
            "link": link,
            "link_error": link_error,
            "group_id": group_id,
            "group_index": group_index,
            "chord": chord,
            "reply_to": reply_to,
            "time_limit": time_limit,
            "soft_time_limit": soft_time_limit,
            "root_id": root_id,
            "parent_id": parent_id,
            "route_name": route_name,
            "shadow": shadow,
            "chain": chain,
        }
        options.update({key: value for key, value in given.items() if value is not None})
        options.update(
            add_to_parent=add_to_parent, retries=retries, replaced_task_nesting=replaced_task_nesting
        )
        return self.producer.send_task(name, args, kwargs, options, task_type)

    def signature(self, *args: Any, **kwargs: Any) -> Signature[Any]:
        """A signature that belongs to this app; see `celeriac.signature`."""
        from celeriac.canvas import signature

        kwargs["app"] = self
        return signature(*args, **kwargs)

    def AsyncResult(
        self,
        id: str,
        backend: ResultBackend | None = None,
        task_name: str | None = None,
        app: Celeriac | None = None,
        parent: Any = None,
    ) -> AsyncResult[Any]:
        """The result of a call, by id."""
        from celeriac.result import AsyncResult

        return AsyncResult(id, backend, task_name, app or self, parent)

    def GroupResult(self, id: str | None = None, results: Any = None, parent: Any = None) -> GroupResult:
        """The results of a group."""
        from celeriac.result import GroupResult

        return GroupResult(id, results, parent=parent, app=self)

    # -- composition ----------------------------------------------------------------------------------------

    def _forget_parts(self) -> None:
        self._producer: Producer | None = None
        self._parts: dict[str, tuple[Any, Any] | None] = {}

    def _part(self, name: str, make: Callable[[], Any]) -> Any:
        """The part `name`; made once, and again after its settings have changed."""
        found = self._parts.get(name)
        if found is None:
            with self._lock:
                found = self._parts.get(name)
                if found is None:
                    values = tuple(self.conf.get(setting) for setting in _PARTS.get(name, ()))
                    found = self._parts[name] = (values, make())
        return found[1]

    def _make_loader(self) -> Loader:
        kind = self._loader_cls or next((os.environ[name] for name in _LOADER if os.environ.get(name)), None)
        if kind in (None, "app", "default"):
            return Loader(self)
        kind = plugins.load_class(kind) if isinstance(kind, str) else kind
        loader: Loader = kind(app=self)
        return loader

    @property
    def broker(self) -> Broker:
        """Where messages go. Nothing is connected before it is used."""
        conf = self.conf
        return self._part(  # type: ignore[no-any-return]
            "broker", lambda: plugins.broker_from_url(conf.broker_write_url, _broker_options(conf))
        )

    @property
    def backend(self) -> ResultBackend:
        """Where results are kept."""
        if self._own_backend is not None:
            return self._own_backend  # type: ignore[no-any-return]
        conf = self.conf
        return self._part(  # type: ignore[no-any-return]
            "backend",
            lambda: plugins.backend_from_url(conf.result_backend or "disabled://", _backend_options(conf)),
        )

    @property
    def queues(self) -> Queues:
        """The queues it knows of."""
        conf = self.conf
        return self._part(  # type: ignore[no-any-return]
            "queues",
            lambda: Queues(
                conf.task_queues,
                default=conf.task_default_queue,
                create_missing=conf.task_create_missing_queues,
                missing_exchange_type=conf.task_create_missing_queue_exchange_type,
                default_exchange=conf.task_default_exchange,
                default_exchange_type=conf.task_default_exchange_type,
                default_routing_key=conf.task_default_routing_key,
            ),
        )

    @property
    def router(self) -> Router:
        """Decides which call goes to which queue."""
        return self._part(  # type: ignore[no-any-return]
            "router", lambda: Router(self.conf.task_routes, self.queues, _load_from_cwd)
        )

    @property
    def producer(self) -> Producer:
        """Publishes calls."""
        producer = self._producer
        if producer is None:
            from celeriac.app.producer import Producer

            with self._lock:
                producer = self._producer = self._producer or Producer(self)
        return producer

    @property
    def amqp(self) -> Messaging:
        """Queues and router, under Celery's name for where they are."""
        return Messaging(self.queues, self.router)

    @property
    def control(self) -> Control:
        """Commands to all workers."""
        from celeriac.app.control import Control

        return Control(self)

    @property
    def log(self) -> Logging:
        """Sets up logging, for workers and schedulers."""
        from celeriac.app.log import Logging

        return self._part("log", lambda: (self._log_cls or Logging)(self))  # type: ignore[no-any-return]

    def select_queues(self, queues: Iterable[str] | None = None) -> None:
        """Consume from these queues only."""
        if queues is not None:
            self.queues.select(queues)

    def queues_to_consume(
        self, selected: Iterable[str] | None = None, excluded: Iterable[str] | None = None
    ) -> list[str]:
        """Names of the queues that a worker consumes from: `selected`, else all that are known; less `excluded`.

        Raises:
            QueueNotFound: a queue is unknown and `task_create_missing_queues` is off.
        """
        queues = self.queues
        names = [queues[name].name for name in selected] if selected else queues.consumed
        without = set(excluded or ())
        return [name for name in dict.fromkeys(names) if name not in without]

    @property
    def result_ttl(self) -> float | None:
        """Seconds that a result is kept; None: for ever."""
        return self.conf.result_expires or None

    def store_state(
        self,
        task: Task[..., Any],
        task_id: str,
        state: str | None,
        meta: Any,
        request: Any,
        *,
        traceback: str | None = None,
        **extra: Any,
    ) -> None:
        """Store a state of a call now (`Task.update_state`)."""
        from celeriac.brokers.base import StoredResult
        from celeriac.wire.results import encode_result

        if self.conf.result_extended:
            extra |= {
                "name": task.name,
                "args": request.args,
                "kwargs": request.kwargs,
                "worker": request.hostname,
            }
            extra |= {"retries": request.retries, "queue": (request.delivery_info or {}).get("routing_key")}
        document = encode_result(
            task_id,
            state or "PENDING",
            meta,
            traceback=traceback,
            serializer=self.conf.result_serializer,
            parent_id=request.parent_id,
            group_id=request.group,
            **extra,
        )
        task.backend.store([StoredResult(task_id, document, self.result_ttl)])

    # -- periodic tasks -------------------------------------------------------------------------------------

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Add an entry to the schedule of `beat`; return its name.

        Args:
            schedule: seconds, a timedelta, or a `crontab`.
            sig: a task or a signature.
            name: the entry's name; the text of the call by default.
            opts: options of the call.
        """
        from celeriac.canvas import Signature

        if isinstance(sig, Signature):
            call = sig.clone(args, dict(kwargs or {}))
        else:
            call = self.signature(sig.name, args, dict(kwargs or {}))
        key = name or repr(call)
        entry = {
            "schedule": schedule,
            "task": call.task,
            "args": tuple(call.args),
            "kwargs": dict(call.kwargs),
            "options": {**call.options, **opts},
        }
        if self.conf.configured:
            self._add_entry(key, entry, name is not None)
        else:
            self._periodic.append((key, entry, name is not None))
        return key

    def _add_entry(self, key: str, entry: dict[str, Any], named: bool) -> None:
        schedule = self.conf.beat_schedule
        if key in schedule and not named and schedule[key] != entry:
            warnings.warn(
                f"The periodic task {key!r} takes the place of another of the same call; give each a name.",
                stacklevel=3,
            )
        self.conf.beat_schedule = {**schedule, key: entry}

    # -- time, identity, the rest ---------------------------------------------------------------------------

    @property
    def timezone(self) -> tzinfo:
        """The zone of schedules and of datetimes that name none."""
        from celeriac.utils.time import as_timezone, local_timezone

        conf = self.conf
        if conf.timezone:
            return as_timezone(conf.timezone)
        return UTC if conf.enable_utc else local_timezone()

    def now(self) -> datetime:
        """The time, in the app's zone."""
        return datetime.now(self.timezone)

    @property
    def oid(self) -> str:
        """The id that stands as `reply_to` in this thread's messages."""
        from celeriac.app.ids import reply_id

        return reply_id()

    thread_oid = oid

    def eager(
        self,
        task: Task[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        task_id: str | None,
        options: dict[str, Any],
    ) -> Any:
        """A call under `task_always_eager`: serialised, read again, and run here."""
        from celeriac.app.eager import apply, round_trip

        args, kwargs = round_trip(task, args, kwargs, options.get("serializer"))
        return apply(task, args, kwargs, task_id, 0, None, options)

    async def in_thread(self, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Run a blocking call of ours for a coroutine, in one of a few threads kept for that."""
        from celeriac.app.threads import in_thread

        return await in_thread(function, *args, **kwargs)

    def start(self, argv: Sequence[str] | None = None) -> Any:
        """Run the command line for this app; `argv` without the program's name."""
        from celeriac.bin.main import run

        return run(self, list(sys.argv[1:] if argv is None else argv))

    def worker_main(self, argv: Sequence[str] | None = None) -> Any:
        """Run a worker: ``app.worker_main(["worker", "--loglevel=INFO"])``."""
        arguments = list(sys.argv[1:] if argv is None else argv)
        if "worker" not in arguments:
            raise ValueError("worker_main starts a worker: the first argument must be 'worker'.")
        return self.start(arguments)

    def bugreport(self) -> str:
        """Text for bug reports: versions and settings, without secrets."""
        from celeriac.app.utils import bugreport

        return bugreport(self)

    def close(self) -> None:
        """Drop all connections, and stop being one of the known apps."""
        for part in ("broker", "backend"):
            found = self._parts.get(part)
            if found is not None:
                found[1].close()
        _state.deregister_app(self)

    def __enter__(self) -> Celeriac:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main or '__main__'} at {id(self):#x}>"

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # a thread that is not here may have held it
        self.on_after_fork.send(sender=self)


Celery = Celeriac


class Messaging(NamedTuple):
    """`app.amqp`: what Celery keeps there and applications use."""

    queues: Queues
    router: Router


#: Parts that are made from settings, and from which.
_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "broker": ("broker_write_url", "broker_transport_options", "broker_use_ssl", "broker_connection_timeout"),
    "backend": ("result_backend", "result_backend_transport_options", "redis_backend_use_ssl"),
    "queues": _QUEUE_SETTINGS,
    "router": _QUEUE_SETTINGS,
}


def _registry(tasks: Any) -> TaskRegistry:
    if tasks is None:
        return TaskRegistry()
    if isinstance(tasks, str):
        tasks = plugins.load_class(tasks)
    if isinstance(tasks, type):
        tasks = tasks()
    return tasks if isinstance(tasks, TaskRegistry) else TaskRegistry(tasks)


def _fixup(entry: Any, app: Celeriac) -> Any:
    """Call an integration with `app`; Django's only where there are Django settings."""
    if isinstance(entry, str):
        if entry in Celeriac.builtin_fixups and not os.environ.get("DJANGO_SETTINGS_MODULE"):
            return None
        entry = plugins.load_class(entry)
    return entry(app)


def _warn_if_other(known: Any, fun: Callable[..., Any], name: str) -> None:
    before = getattr(known, "__wrapped__", None)
    place = (fun.__module__, getattr(fun, "__qualname__", ""))
    if (getattr(before, "__module__", None), getattr(before, "__qualname__", "")) != place:
        warnings.warn(
            f"There is a task {name!r} already, from {getattr(before, '__module__', '?')}; the function in "
            f"{fun.__module__} was ignored. Give one of them another name: @app.task(name=…).",
            DuplicateTaskNameWarning,
            stacklevel=4,
        )


def _load_from_cwd(path: str) -> Any:
    with cwd_in_path():
        return plugins.load_class(path)


def _broker_options(conf: LiveSettings) -> dict[str, Any]:
    options = dict(conf.broker_transport_options or {})
    if conf.broker_use_ssl:
        options.setdefault("ssl", conf.broker_use_ssl)
    options.setdefault("connect_timeout", conf.broker_connection_timeout)
    return options


def _backend_options(conf: LiveSettings) -> dict[str, Any]:
    options = dict(conf.result_backend_transport_options or {})
    if conf.redis_backend_use_ssl:
        options.setdefault("ssl", conf.redis_backend_use_ssl)
    return options


def _after_fork_in_child() -> None:
    for app in _state.all_apps():
        app._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
