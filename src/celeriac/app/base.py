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
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from celeriac import _state, plugins
from celeriac.app import declaring
from celeriac.app.catalog import Catalog
from celeriac.app.configuring import Configuration
from celeriac.app.declaring import BoundDecorator, Decorator, SharedTask
from celeriac.app.loading import Loader
from celeriac.app.parts import Messaging, Parts
from celeriac.app.queues import Queues
from celeriac.app.registry import TaskRegistry
from celeriac.app.routes import Router
from celeriac.app.settings import read_assignments, read_envvar
from celeriac.app.task import AsyncTask
from celeriac.app.task import Task as _Task
from celeriac.exceptions import AlwaysEagerIgnored
from celeriac.signals import Signal

if TYPE_CHECKING:
    from celeriac.app.control import Control
    from celeriac.app.log import Logging
    from celeriac.app.producer import Producer
    from celeriac.backends.base import ChordStore, Mailbox, ResultBackend
    from celeriac.brokers.base import Broker, StoredResult
    from celeriac.canvas import Signature
    from celeriac.result import AsyncResult

__all__ = ["Celeriac", "Celery"]

P = ParamSpec("P")
R = TypeVar("R")
AnyTask = _Task[..., Any]


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
        self.user_options: defaultdict[str, set[Any]] = defaultdict(set)
        self.on_configure = Signal(name="app.on_configure")
        self.on_after_configure = Signal({"source"}, name="app.on_after_configure")
        self.on_after_finalize = Signal(name="app.on_after_finalize")
        self.on_after_fork = Signal(name="app.on_after_fork")
        #: Held by whoever changes what the app is made of.
        self.lock = threading.RLock()
        self._discoveries: list[Callable[..., None]] = []
        self._producer: Producer | None = None
        self._catalog = Catalog(self, tasks, task_cls)
        own_backend = None if isinstance(backend, str) else backend
        self._parts = Parts(self, loader=loader, log=log, backend=own_backend)
        named = {
            "broker_url": broker,
            "result_backend": backend if isinstance(backend, str) else None,
            "include": include,
        }
        given = {**(changes or {}), **kwargs, **{name: value for name, value in named.items() if value}}
        self._configuration = Configuration(
            self,
            given,
            source=config_source,
            silent=config_source_silent,
            changed=self._configuration_changed,
        )
        #: The settings; reading one loads the configuration.
        self.conf = self._configuration.settings
        if set_as_current:
            self.set_current()
        self.fixups = list(self.builtin_fixups if fixups is None else fixups)
        self._fixups = [_fixup(entry, self) for entry in self.fixups]
        for fixup in self._fixups:
            self._catalog.prefer_base(getattr(fixup, "task_cls", None))
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
        """The task that a worker runs in this context (in-process calls inside of it do not count), or
        None."""
        from celeriac.app.stack import current_parent

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
        self.namespace = namespace or self.namespace
        self._configuration.read_from(obj, silent=silent, force=force)

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> bool:
        """Configure from the module that the environment variable names; return whether it is set.

        Raises:
            ImproperlyConfigured: it is not set, and `silent` is false.
        """
        if not os.environ.get(variable_name):
            read_envvar(variable_name, silent=silent)  # says what is missing
            return False
        self.config_from_object(os.environ[variable_name], silent=silent, force=force)
        return True

    def config_from_cmdline(self, argv: Sequence[str], namespace: str = "celery") -> None:
        """Set settings from ``name=value`` words of a command line."""
        self.conf.update(read_assignments(argv, namespace))

    def add_defaults(self, fun: Any) -> Any:
        """Add defaults that every configuration outranks: a dictionary, or a function that returns one."""
        self._configuration.add_defaults(fun)
        return fun

    def _configuration_changed(self) -> None:
        self._producer = None
        self._parts.settings_changed()

    # -- tasks ----------------------------------------------------------------------------------------------

    @property
    def Task(self) -> type[AnyTask]:
        """Base class of this app's tasks; may be replaced by a subclass."""
        return self._catalog.base

    @Task.setter
    def Task(self, base: type[AnyTask]) -> None:
        self._catalog.base = base

    @overload
    def task(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...

    @overload
    def task(self, fun: Callable[P, R], /) -> _Task[P, R]: ...

    @overload
    def task(self, *, bind: Literal[True], **opts: Any) -> BoundDecorator: ...

    @overload
    def task(self, *, bind: Literal[False] = False, **opts: Any) -> Decorator: ...

    def task(self, *args: Any, **opts: Any) -> Any:
        """Make a function a task: ``@app.task`` or ``@app.task(name=…, bind=True, …)``.

        Args:
            opts: `name`; `base` (task class); `bind` (the task is the first argument); `pydantic`,
                `pydantic_strict`, `pydantic_context`, `pydantic_dump_kwargs`; `shared` (also a task of apps
                made later; default true); `lazy` (register when the app is finalised; default true); `filter`
                (called with the task, returns what the name is bound to); all else becomes an attribute of
                the task.

        Raises:
            TypeError: it was not given one function.
        """
        shared, lazy = opts.pop("shared", True), opts.pop("lazy", True)
        chosen = opts.pop("filter", None)

        def declare(fun: Callable[..., Any]) -> Any:
            task = self._catalog.declare(fun, opts, lazy=lazy)
            if shared:
                _state.connect_on_app_finalize(lambda app: app.adopt(fun, opts))
            return chosen(task) if chosen is not None else task

        return declare(declaring.only_function(args, "app.task")) if args else declare

    def adopt(
        self, fun: Callable[..., Any], options: Mapping[str, Any], declared: SharedTask | None = None
    ) -> AnyTask:
        """Make a task of this app from a function that was declared elsewhere; what it has already stays."""
        return self._catalog.adopt(fun, options, declared)

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
        self._catalog.register(task)
        return task

    @property
    def finalized(self) -> bool:
        """Whether the tasks declared so far have been registered."""
        return self._catalog.finalized

    @property
    def tasks(self) -> TaskRegistry:
        """All tasks by name. Finalises the app."""
        if not self._catalog.finalized:
            self._catalog.finalize(auto=True)
        return self._catalog.registry

    def finalize(self, auto: bool = False) -> None:
        """Register and bind every task that was declared so far; loads the configuration.

        Raises:
            RuntimeError: it is asked for implicitly (`auto`) although `autofinalize` is off.
        """
        self._catalog.finalize(auto=auto)

    def gen_task_name(self, name: str, module: str | None) -> str:
        """The name of a task whose function is `name` in `module`; for subclasses to change."""
        return declaring.gen_task_name(self, name, module)

    @property
    def loader(self) -> Loader:
        """Imports the modules of tasks."""
        return self._parts.loader()

    def import_default_modules(self, include: Sequence[str] = ()) -> None:
        """Import all modules of tasks, as a worker does when it starts: autodiscovered, `imports`,
        `include`."""
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

        self._discoveries.append(discover)  # signals hold their receivers weakly
        import_modules.connect(discover, sender=self)

    def _packages(self, packages: Any) -> list[str]:
        if packages is not None:
            return list(packages() if callable(packages) else packages)
        installed = (fixup for fixup in self._fixups if hasattr(fixup, "autodiscover_tasks"))
        return [name for fixup in installed for name in fixup.autodiscover_tasks()]

    # -- calling --------------------------------------------------------------------------------------------

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        task_id: str | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Publish a call by the task's name, whether or not it is known here. Options: see
        `Task.apply_async`.

        `task_always_eager` does not count: there may be nothing to run.
        """
        if self.conf.task_always_eager:
            warnings.warn(
                "task_always_eager has no effect on send_task: it publishes. Call the task itself.",
                AlwaysEagerIgnored,
                stacklevel=2,
            )
        options.update(countdown=countdown, eta=eta, task_id=task_id)
        options = {key: value for key, value in options.items() if value is not None}
        return self.producer.send_task(name, args, kwargs, options, options.get("task_type"))

    def signature(self, *args: Any, **kwargs: Any) -> Signature[Any]:
        """A signature that belongs to this app; see `celeriac.signature`."""
        from celeriac.canvas import signature

        kwargs["app"] = self
        return signature(*args, **kwargs)

    @property
    def result_class(self) -> type[AsyncResult[Any]]:
        """The class of the results of its calls."""
        from celeriac.result import AsyncResult

        return AsyncResult

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

    @property
    def GroupResult(self) -> type[Any]:
        """The class of the results of this app's groups: ``app.GroupResult.restore(id)``."""
        from celeriac.result import GroupResult

        return GroupResult.of_app(self)

    @property
    def ResultSet(self) -> type[Any]:
        """The class of sets of this app's results."""
        from celeriac.result import ResultSet

        return ResultSet.of_app(self)

    # -- composition ----------------------------------------------------------------------------------------

    @property
    def broker(self) -> Broker:
        """Where messages go. Nothing is connected before it is used."""
        return self._parts.broker()

    @property
    def backend(self) -> ResultBackend:
        """Where results are kept."""
        return self._parts.backend()

    @property
    def chord_store(self) -> ChordStore | None:
        """Where the members of chords are counted; None: chords are polled for, if that is possible."""
        return self._parts.chord_store()

    @property
    def counts_chords(self) -> bool:
        """Whether something counts the members of chords; otherwise they are polled for.

        Raises:
            ImproperlyConfigured: neither is possible.
        """
        return self._parts.counts_chords()

    @property
    def mailbox(self) -> Mailbox | None:
        """The result store, where it sends results to the process that makes the call."""
        return self._parts.mailbox()

    @property
    def queues(self) -> Queues:
        """The queues it knows of."""
        return self._parts.queues()

    @property
    def router(self) -> Router:
        """Decides which call goes to which queue."""
        return self._parts.router()

    @property
    def producer(self) -> Producer:
        """Publishes calls."""
        producer = self._producer
        if producer is None:
            from celeriac.app.producer import Producer

            producer = Producer(self)
            self._producer = producer
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
        return self._parts.log()

    def select_queues(self, queues: Iterable[str] | None = None) -> None:
        """Consume from these queues only."""
        if queues is not None:
            self.queues.select(queues)

    def queues_to_consume(
        self, selected: Iterable[str] | None = None, excluded: Iterable[str] | None = None
    ) -> list[str]:
        """Names of the queues that a worker consumes from: `selected`, else all that are known; less
        `excluded`.

        Raises:
            QueueNotFound: a queue is unknown and `task_create_missing_queues` is off.
        """
        return self.queues.to_consume(selected, excluded)

    @property
    def result_ttl(self) -> float | None:
        """Seconds that a result is kept; None: for ever."""
        return self.conf.result_expires or None

    def store_state(
        self, task: AnyTask, task_id: str, state: str | None, meta: Any, request: Any, **extra: Any
    ) -> None:
        """Store a state of a call now; see `celeriac.app.storing`."""
        from celeriac.app.storing import store_state

        store_state(self, task, task_id, state, meta, request, **extra)

    def state_document(
        self, task: AnyTask, task_id: str, state: str, meta: Any, request: Any, **extra: Any
    ) -> StoredResult:
        """A state of a call as a document; see `celeriac.app.storing`."""
        from celeriac.app.storing import state_document

        return state_document(self, task, task_id, state, meta, request, **extra)

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
        from celeriac.app.periodic import entry_of

        entry = entry_of(self, schedule, sig, args, kwargs, name, opts)
        self._configuration.schedule(entry)
        return entry.key

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

        mailbox = self.mailbox
        return reply_id() if mailbox is None else mailbox.address

    thread_oid = oid

    def eager(
        self,
        task: AnyTask,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        task_id: str | None,
        options: dict[str, Any],
    ) -> Any:
        """A call under `task_always_eager`: serialised, read again, and run here."""
        from celeriac.app.eager import apply, round_trip

        args, kwargs = round_trip(task, args, kwargs, options.get("serializer"))
        return apply(task, args, kwargs, task_id, 0, None, options)

    def eager_chain(self, *run: Any) -> Any:
        """Run a chain here and now; see `celeriac.app.here.run_chain`."""
        from celeriac.app.here import run_chain

        return run_chain(self, *run)

    def chord_unlock(self, header: Any, body: Any, options: dict[str, Any]) -> Any:
        """The call that polls for the members of a chord; see `celeriac.app.polling.unlocking`."""
        from celeriac.app.polling import unlocking

        return unlocking(self, header, body, options)

    def eager_chord(self, *run: Any) -> Any:
        """Run a chord here and now; see `celeriac.app.here.run_chord`."""
        from celeriac.app.here import run_chord

        return run_chord(self, *run)

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
        self._parts.close()
        _state.deregister_app(self)

    def __enter__(self) -> Celeriac:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main or '__main__'} at {id(self):#x}>"

    def _after_fork(self) -> None:
        self.lock = threading.RLock()  # a thread that is not here may have held it
        self.on_after_fork.send(sender=self)


Celery = Celeriac


def _fixup(entry: Any, app: Celeriac) -> Any:
    """Call an integration with `app`; Django's only where there are Django settings."""
    if isinstance(entry, str):
        if entry in Celeriac.builtin_fixups and not os.environ.get("DJANGO_SETTINGS_MODULE"):
            return None
        entry = plugins.load_class(entry)
    return entry(app)


def _after_fork_in_child() -> None:
    for app in _state.all_apps():
        app._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
