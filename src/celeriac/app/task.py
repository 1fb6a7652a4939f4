"""`Task`: a function that can be called from elsewhere, and everything a task can do while it runs.

1. Attributes: what is not set on the task comes from the settings when the app is finalised (`FromConfig`).
2. Calling: `delay`, `apply_async`, `apply_many`, `adelay`, `aapply_async`, `apply` (eager), `__call__`
   (in-process).
3. While running: `request`, `retry`, `replace`, `update_state`, `progress`.
4. Hooks that do nothing until they are overridden: `before_start`, `on_success`, `on_failure`, `on_retry`,
   `after_return`, `on_replace`, `on_bound`, `shadow_name`.

Not here: how a function becomes a task (`declaring.py`), how a call becomes a message (`producer.py`), how a
body is run (`execution/`).
"""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar

from celeriac import _state, exceptions
from celeriac.app import stack
from celeriac.app.annotations import annotate
from celeriac.app.arguments import Arguments
from celeriac.app.attributes import EXECUTION_OPTIONS, FromConfig, SignatureOfRun, from_setting
from celeriac.app.autoretry import add_autoretry_behaviour
from celeriac.app.retrying import retry, signature_from_request
from celeriac.exceptions import Retry
from celeriac.execution.call import Context
from celeriac.execution.outcome import Replaced
from celeriac.execution.progress import Progress

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.app.producer import Plan
    from celeriac.backends.base import ResultBackend
    from celeriac.canvas import Signature, chunks, xmap, xstarmap
    from celeriac.result import AsyncResult, EagerResult

__all__ = ["AsyncTask", "Context", "FromConfig", "Task"]

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A task. Usually made by `@app.task`; a class of one's own for state or hooks.

    `P` is the parameters of its function, `R` what it returns, so that type checkers see through `delay` to
    the result.

    Example:
        >>> from celeriac import Celeriac
        >>> app = Celeriac("example", broker="memory://", set_as_current=False)
        >>> @app.task
        ... def add(x: int, y: int) -> int:
        ...     return x + y
        >>> add(2, 2), add.apply((2, 3)).get()
        (4, 5)
    """

    MaxRetriesExceededError: ClassVar[Any] = exceptions.MaxRetriesExceededError
    OperationalError: ClassVar[Any] = exceptions.OperationalError

    #: The task's name in messages; made from module and function when it is not given.
    name: str = None  # type: ignore[assignment]
    #: True for classes that are not tasks themselves.
    abstract: bool = True
    #: Check arguments at the call (None: as the app's `strict_typing`).
    typing: bool | None = None
    #: How often it may be retried; None: for ever.
    max_retries: int | None = 3
    #: Seconds before a retry that does not say.
    default_retry_delay: float = 180
    #: Exceptions that are expected: logged without a traceback.
    throws: Any = ()
    #: Whether results of calls made by this task are remembered as its children.
    trail: bool = True
    send_events: bool = True
    #: Seconds, or a datetime, after which an unstarted call is dropped.
    expires: Any = None
    resultrepr_maxsize: int = 1024

    serializer: Any = from_setting("task_serializer")
    rate_limit: Any = from_setting("task_default_rate_limit")
    priority: Any = from_setting("task_default_priority")
    time_limit: Any = from_setting("task_time_limit")
    soft_time_limit: Any = from_setting("task_soft_time_limit")
    track_started: Any = from_setting("task_track_started")
    acks_late: Any = from_setting("task_acks_late")
    acks_on_failure_or_timeout: Any = from_setting("task_acks_on_failure_or_timeout")
    acks_on_failure: Any = from_setting("task_acks_on_failure")
    acks_on_timeout: Any = from_setting("task_acks_on_timeout")
    reject_on_worker_lost: Any = from_setting("task_reject_on_worker_lost")
    retry_on_worker_lost: Any = from_setting("task_retry_on_worker_lost")
    ignore_result: Any = from_setting("task_ignore_result")
    store_eager_result: Any = from_setting("task_store_eager_result")
    store_errors_even_if_ignored: Any = from_setting("task_store_errors_even_if_ignored")

    #: (attribute, setting) pairs that a task takes from the settings.
    from_config: tuple[tuple[str, str], ...] = ()

    __signature__ = SignatureOfRun()

    _app: Celeriac | None = None
    _bound: Celeriac | None = None  # the app, once its settings have become attributes
    _backend: ResultBackend | None = None
    _plan: Plan | None = None
    _options: dict[str, Any] | None = None
    _arguments: Arguments | None = None
    _codec: Any = None  # app.pydantic.Codec, for tasks declared with pydantic=True
    _function: Any = None  # what was declared, as it was given to the decorator
    _takes_self = False  # its first parameter is the task
    _orig_run: Any = None

    # -- binding --------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        self.__dict__["_plan"] = self.__dict__["_options"] = None  # worked out for calls; may be wrong now

    @property
    def app(self) -> Celeriac:
        """The app it belongs to; the current one until it is bound."""
        return self._app or _state.get_current_app()

    @app.setter
    def app(self, app: Celeriac) -> None:
        self._app = app

    @property
    def backend(self) -> ResultBackend:
        """Where its results go: the app's result store, or its own."""
        return self._backend or self.app.backend

    @backend.setter
    def backend(self, backend: ResultBackend) -> None:
        self._backend = backend

    def bind(self, app: Celeriac) -> Celeriac:
        """Make it a task of `app`: settings and annotations become its attributes, retries are wrapped."""
        self._app = self._bound = app
        conf = app.conf
        for attribute, setting in self.from_config:
            if attribute not in self.__dict__ and getattr(type(self), attribute, None) is None:
                self.__dict__[attribute] = conf[setting]
        if self.typing is None:
            self.typing = app.strict_typing
        annotate(self, conf.task_annotations)
        add_autoretry_behaviour(self)
        self.on_bound(app)
        return app

    def _bind_now(self) -> Celeriac:
        """Finalise the app because a task of it is used; a task nobody registered is bound by itself."""
        app = self.app
        app.finalize(auto=True)
        if self._bound is None:
            self.bind(app)
        return app

    @classmethod
    def on_bound(cls, app: Celeriac) -> None:
        """Called when a task of this class is bound to an app."""

    @property
    def arguments(self) -> Arguments:
        """What a caller gives: the parameters of the function that was declared, or of a class's `run`."""
        if self._arguments is None:
            fun = self._function or self._orig_run or self.run
            bound = self._takes_self and self._function is not None
            self.__dict__["_arguments"] = Arguments(fun, self.name or type(self).__name__, bound=bound)
        return self._arguments  # type: ignore[return-value]

    # -- calling --------------------------------------------------------------------------------------------

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The body. Classes define it; for functions it is the function."""
        raise NotImplementedError(f"The task class {type(self).__name__} needs a method run().")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the body here and now, in-process: no message, no result store.

        The value is what the body returns: for an `async def` a coroutine.
        """
        pair = _state.running.get()
        if pair is not None and pair[0] is self and not pair[1].called_directly and not pair[1]._protected:
            # A base class that overrides __call__ has been entered by the worker, and calls up.
            pair[1]._protected = 1
            return self.run(*args, **kwargs)  # type: ignore[no-any-return]
        if inspect.iscoroutinefunction(self.run):
            return self._call_coroutine(args, kwargs)  # type: ignore[return-value]
        self.push_request(args=args, kwargs=kwargs)
        try:
            return self.run(*args, **kwargs)  # type: ignore[no-any-return]
        finally:
            self.pop_request()

    async def _call_coroutine(self, args: Any, kwargs: Any) -> Any:
        self.push_request(args=args, kwargs=kwargs)
        try:
            return await self.run(*args, **kwargs)
        finally:
            self.pop_request()

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Publish a call with these arguments.

        Returns when the message is stored.

        Raises:
            TypeError: the function does not take these arguments; nothing was sent.
            OperationalError: the broker did not take the message within `broker_publish_timeout` seconds.
            EncodeError: the arguments cannot be serialised.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """Publish a call, with options.

        Args:
            args: positional arguments, a list or tuple.
            kwargs: keyword arguments, a dictionary.
            task_id: the call's id; a new one by default.
            producer: for Celery's callers; not used.
            link: signature, or list of signatures, to call with the result.
            link_error: the same, when the call fails.
            shadow: another name for logs.
            options: `countdown` (seconds), `eta` (datetime), `expires` (seconds or datetime), `queue`,
                `exchange`, `routing_key`, `priority`, `serializer`, `compression`, `headers`,
                `ignore_result`, `time_limit`, `soft_time_limit` (seconds), `retry`, `retry_policy`,
                `add_to_parent`, `reply_to`, `root_id`, `parent_id`, `group_id`, `group_index`, `chord`,
                `chain`, `argsrepr`, `kwargsrepr`, `delivery_mode`, `timeout` (seconds for the publish),
                `connection` (to the database of a postgresql:// broker: the call is sent when the transaction
                of this connection commits, and never if it does not). What is none of these goes into the
                message's properties.

        Raises:
            As `delay`; also `TypeError` for an option that looks misspelt, `QueueNotFound` for an unknown
            queue when `task_create_missing_queues` is off.
        """
        app = self._bound or self._bind_now()
        if args is None:
            args = ()
        if self.typing:
            takes = self._arguments or self.arguments
            if kwargs or not takes.fewest <= len(args) <= takes.most or isinstance(args, str):
                takes.check(args, kwargs)
        if self._codec is not None:
            args, kwargs = self._codec.dump(args, kwargs)
        elif kwargs is not None and type(kwargs) is not dict:
            kwargs = dict(kwargs)
        if link is not None:
            options["link"] = link
        if link_error is not None:
            options["link_error"] = link_error
        if shadow is not None:
            options["shadow"] = shadow
        if app.conf.task_always_eager:
            return app.eager(self, args, kwargs, task_id, options)  # type: ignore[no-any-return]
        return (app._producer or app.producer).call(self, args, kwargs, task_id, options)

    def apply_many(self, calls: Iterable[Any], **options: Any) -> list[AsyncResult[R]]:
        """Publish many calls in one trip to the broker.

        Args:
            calls: for each call an (args, kwargs) pair, or just its args (a tuple or list).
            options: as for `apply_async`, for all of them.

        Example:
            ``add.apply_many([(1, 2), (3, 4), ((5,), {"y": 6})])``
        """
        app = self._bound or self._bind_now()
        pairs = [_pair(call) for call in calls]
        if self.typing:
            takes = self.arguments
            fewest, most = takes.fewest, takes.most
            for args, kwargs in pairs:
                if kwargs or not fewest <= len(args) <= most:
                    takes.check(args, kwargs)
        if self._codec is not None:
            pairs = [self._codec.dump(args, kwargs) for args, kwargs in pairs]
        if app.conf.task_always_eager:
            return [app.eager(self, args, kwargs, None, dict(options)) for args, kwargs in pairs]
        return app.producer.call_many(self, pairs, options)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """`delay` for coroutines: the event loop goes on while the message is published."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """`apply_async` for coroutines."""
        return await self.app.in_thread(self.apply_async, args, kwargs, **options)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int | None = None,
        throw: bool | None = None,
        logfile: str | None = None,
        loglevel: int | None = None,
        headers: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Run the call here and now, as a worker would: request, retries, hooks, signals, callbacks.

        Args:
            throw: raise what the task raises (None: `task_eager_propagates`).
            retries: with how many retries behind it the call starts.
        """
        from celeriac.app.eager import apply

        options.update(link=link, link_error=link_error, logfile=logfile, loglevel=loglevel, headers=headers)
        return apply(self, args, kwargs, task_id, retries or 0, throw, options)

    # -- while it runs --------------------------------------------------------------------------------------

    @property
    def request(self) -> Context:
        """The call that is being run; an empty one (`called_directly` is true) outside of any."""
        return stack.request_of(self)

    def push_request(self, *args: Any, **kwargs: Any) -> None:
        """Make a call current in this context, until `pop_request`."""
        stack.push(self, Context(*args, **kwargs))

    def pop_request(self) -> None:
        stack.pop()

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Run this call again later: ``raise self.retry(exc=exc)``.

        The next try is published together with the acknowledgement of this one, under the same id.

        Args:
            args, kwargs: other arguments for the next try.
            exc: why; raised instead when there are no tries left.
            throw: raise `Retry` (that ends the body); otherwise the next try is published at once, and
                returned.
            eta: when (datetime).
            countdown: in how many seconds (default: `default_retry_delay`).
            max_retries: in place of the task's own.
            options: further options of the next call, as for `apply_async`.

        Raises:
            Retry: to be left alone.
            MaxRetriesExceededError: no tries are left and no `exc` was given.
        """
        return retry(self, args, kwargs, exc, throw, eta, countdown, max_retries, options)

    def signature_from_request(
        self,
        request: Context | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        **extra_options: Any,
    ) -> Signature[R]:
        """The call of `request` as a signature, to be called again to the same place."""
        request = self.request if request is None else request
        if queue is not None:
            extra_options["queue"] = queue
        return signature_from_request(self, request, args, kwargs, extra_options)

    subtask_from_request = signature_from_request

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Store a state of one's own, for this call or for `task_id`.

        Example:
            ``self.update_state(state="PROGRESS", meta={"done": 3})``

        A state that is not final does not take the place of one that is. This waits for the result store;
        `progress` does not.
        """
        request = self.request
        task_id = request.id if task_id is None else task_id
        if not task_id:
            raise ValueError(
                f"update_state of {self.name} needs a task_id: the task was called in-process, so there is "
                "no call whose state could be stored."
            )
        reports = getattr(request, "_reports", None)
        if reports is not None and task_id == request.id:
            reports.drop(request)
        self.app.store_state(self, task_id, state, meta, request, **kwargs)

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far this call is: whoever waits for it is told, and `result.progress` says it.

        Returns at once: the newest report is stored by another thread, some 20 times a second at most, as
        the custom state ``PROGRESS`` with ``{"current": …, "total": …, "message": …}``. Does nothing where
        nobody could ask: outside of a worker, and when the call's result is ignored.

        Args:
            current: what is done, in any unit.
            total: what there is to do, in the same unit; when left out, what was said before.
            message: a few words about it (1000 characters are kept); when left out, what was said before.

        Raises:
            TypeError: a number is none, or not finite.

        Example:
            ``self.progress(done, len(files), "reading")``
        """
        said = Progress.checked(current, total, message)
        request = self.request
        reports = getattr(request, "_reports", None)
        if reports is not None:
            reports.note(self, request, *said)

    def replace(self, sig: Signature[Any]) -> Any:
        """End this call and let `sig` finish it: its result, its place in a chain, group or chord.

        Raises:
            Ignore: always; to be left alone.
            ImproperlyConfigured: `sig` is an empty chain, or a chord without a body.
        """
        from celeriac.app.replacing import replace

        return replace(self, sig)

    def add_to_chord(self, sig: Signature[Any], lazy: bool = False) -> Any:
        """Add `sig` to the header of the chord this call is a member of; its result joins the others.

        Args:
            lazy: it is not sent, but returned, to be sent by the caller before this call ends.

        Raises:
            ValueError: this call is not a member of a chord.
        """
        from celeriac.app.replacing import add_to_chord

        return add_to_chord(self, sig, lazy=lazy)

    def add_trail(self, result: Any) -> Any:
        """Remember `result` as a child of the running call."""
        if self.trail:
            self.request.add_child(result)
        return result

    # -- hooks ----------------------------------------------------------------------------------------------

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called before the body, in the worker."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called after the body has returned `retval`."""

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the call will be tried again because of `exc`."""

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the call has failed with `exc`."""

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called at the very end, whatever the end was."""

    def on_replace(self, sig: Signature[Any]) -> Any:
        """Called by `replace`, with the replacement: ends this call. It is published together with the
        acknowledgement of this one."""
        raise Replaced(result=sig.apply()) if self.request.is_eager else Replaced(sig)

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str | None:
        """Another name for this call in logs; None for the task's own."""
        return None

    # -- other words for it ---------------------------------------------------------------------------------

    @property
    def execution_options(self) -> dict[str, Any]:
        """Options that every call of this task has: those of its attributes that are set."""
        options = self._options
        if options is None:
            found = ((name, getattr(self, name, None)) for name in EXECUTION_OPTIONS)
            options = {name: value for name, value in found if value is not None}
            self.__dict__["_options"] = options
        return options

    @property
    def names_shadows(self) -> bool:
        """Whether `shadow_name` has been overridden and has to be asked."""
        return type(self).shadow_name is not Task.shadow_name

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[R]:
        """The result of a call of this task, by id."""
        return self.app.AsyncResult(task_id, backend=self._backend, task_name=self.name, **kwargs)

    def signature(self, args: Any = None, *starargs: Any, **starkwargs: Any) -> Signature[R]:
        """This task with arguments and options, as a value that can be combined and sent."""
        from celeriac.canvas import signature

        starkwargs.setdefault("app", self.app)
        return signature(self, args, *starargs, **starkwargs)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """``add.s(1, 2)``: a signature with these arguments; more may come before them when it is called."""
        return _signature_class()(self, args, kwargs, app=self.app)

    def si(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """As `s`, immutable: the result of what came before is not passed in."""
        return self.signature(args, kwargs, immutable=True)

    def chunks(self, it: Iterable[Any], n: int) -> chunks:
        """Calls for the items of `it`, `n` of them to a message."""
        from celeriac.canvas import chunks

        return chunks(self.s(), it, n, app=self.app)

    def map(self, it: Iterable[Any]) -> xmap:
        """One call that runs the task for every item of `it`."""
        from celeriac.canvas import xmap

        return xmap(self.s(), it, app=self.app)

    def starmap(self, it: Iterable[Any]) -> xstarmap:
        """As `map`; every item is a tuple of arguments."""
        from celeriac.canvas import xstarmap

        return xstarmap(self.s(), it, app=self.app)

    def __repr__(self) -> str:
        app = self._app.main if self._app is not None else "no app"
        return f"<@task: {self.name} of {app or 'default'}>"

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)


Task.from_config = tuple(
    (name, value.setting) for name, value in vars(Task).items() if isinstance(value, FromConfig)
)


if TYPE_CHECKING:

    class AsyncTask(Task[P, R]):
        """A task made of an `async def`: called in-process it gives a coroutine. Exists for type checkers."""

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
            ...

else:
    AsyncTask = Task


@cache
def _signature_class() -> type[Signature[Any]]:
    from celeriac.canvas import Signature

    return Signature


def _by_name(name: str) -> Any:
    return _state.get_current_app().tasks[name]


def _pair(call: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    match call:
        case ((list() | tuple()) as args, dict() as kwargs):
            return args, kwargs
        case list() | tuple():
            return call, {}
    raise TypeError(f"apply_many takes (args, kwargs) pairs or tuples of arguments, not {call!r:.80}")
