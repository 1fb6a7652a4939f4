"""From a call to a stored message.

1. `Producer.call`: one call of a task. The hot path of `delay()`: what does not change from call to call is
   worked out once per task (`Plan`).
2. `Producer.send`: many calls in one batch (groups, `apply_many`); `send_task`: a call by name.
3. `Producer.followups`, `Producer.retry`: what a worker publishes together with an acknowledgement, as
   values.

Not here: which options a call has (`options.py`), where it goes (`routes.py`), what a message looks like
(`wire/protocol.py`), how it is stored (`brokers/`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celeriac import _state, signals
from celeriac.app.alike import MANY, gathered
from celeriac.app.chords import openings
from celeriac.app.followups import followups, next_try
from celeriac.app.ids import local as _local
from celeriac.app.ids import new_id, reply_id
from celeriac.app.options import PLANNED, Prepared, fields_of, patience
from celeriac.app.queues import declarations
from celeriac.app.routes import Destination
from celeriac.app.stack import Running, current_parent
from celeriac.brokers.alike import Alike, Draft
from celeriac.brokers.base import Outgoing
from celeriac.exceptions import ImproperlyConfigured
from celeriac.utils.bulk import collector_paused
from celeriac.utils.identity import uuids
from celeriac.wire import json
from celeriac.wire.pattern import Pattern
from celeriac.wire.protocol import write

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.app.task import Task
    from celeriac.backends.base import Opening
    from celeriac.brokers.base import Delivery
    from celeriac.canvas import Sending
    from celeriac.exceptions import Retry
    from celeriac.execution.call import Context
    from celeriac.execution.conclude import Conclusion
    from celeriac.result import AsyncResult
    from celeriac.wire.message import Message
    from celeriac.wire.protocol import Call

__all__ = ["Plan", "Producer", "Request"]

_running = _state.running
_before = signals.before_task_publish
_after = signals.after_task_publish
_new_tuple: Any = tuple.__new__
_PLANNED_KEYS: Final = PLANNED.keys()
#: Options that say how long publishing may take, and nothing of the message.
_PATIENCE_KEYS: Final = {"timeout", "retry", "retry_policy"}

#: One call: name, arguments, keyword arguments, options, and its task where that is known.
Request = tuple[str, Sequence[Any], Mapping[str, Any] | None, dict[str, Any], Any]


class Plan(NamedTuple):
    """A task's calls without options, as far as they are all alike.

    `write` makes the message of one; `fixed` is false when a call has to be looked at each time (a routing
    function, an expiry, a `shadow_name`). `place`: what follows the message in an
    `Outgoing`.
    """

    producer: Producer
    write: Callable[..., Message]
    destination: Destination
    place: tuple[str, str, str, int, None, None]
    ignored: bool
    fixed: bool


class Producer:
    """Publishes the calls of one app. Thread-safe; made anew when the configuration changes.

    Args:
        app: a configured app.
    """

    def __init__(self, app: Celeriac) -> None:
        from celeriac.result import AsyncResult
        from celeriac.result.waiting import joins_allowed

        self.app = app
        self.broker = app.broker
        self.timeout: float = patience({}, app.conf)
        self._result = AsyncResult
        self._joins_allowed = joins_allowed
        self._declared: set[str] = set()
        self._mailbox = app.mailbox

    def reply_to(self) -> str:
        """Where results of this process's calls are to be sent, if they are sent anywhere."""
        return reply_id() if self._mailbox is None else self._mailbox.address

    def _listen(self) -> None:
        """Before calls are published: their results may come at once. Inside a task nobody waits for them,
        unless that was allowed."""
        if self._mailbox is not None and (_running.get() is None or self._joins_allowed()):
            self._mailbox.listen()

    # -- calls ----------------------------------------------------------------------------------------------

    def call(
        self,
        task: Task[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        task_id: str | None,
        options: dict[str, Any],
    ) -> AsyncResult[Any]:
        """Publish one call of `task`; return when it is stored. Hot."""
        plan = task._plan
        if plan is None or plan.producer is not self:
            plan = self._plan(task)
        if options or not plan.fixed or _running.get() is not None or _before.receivers or _after.receivers:
            return self._call_with(task.name, args, kwargs, task_id, options, task)
        call_id = task_id or new_id()
        if self._mailbox is not None:
            reply_to = self._mailbox.address if plan.ignored else self._mailbox.listen()
        else:
            try:
                reply_to = _local.reply_id
            except AttributeError:
                reply_to = reply_id()
        message = plan.write(id=call_id, args=args, kwargs=kwargs or None, reply_to=reply_to)
        self.broker.publish((_new_tuple(Outgoing, (message, *plan.place)),), timeout=self.timeout)
        result: AsyncResult[Any] = self._result(call_id, None, task.name, self.app)
        if plan.ignored:
            result.ignored = True
        return result

    def send_task(
        self, name: str, args: Any, kwargs: Any, options: dict[str, Any], task: Task[..., Any] | None = None
    ) -> AsyncResult[Any]:
        """Publish a call by the task's name; whether anybody knows it shows in the worker."""
        return self._call_with(name, args or (), kwargs, None, options, task)

    def _call_with(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        task_id: str | None,
        options: dict[str, Any],
        task: Task[..., Any] | None,
    ) -> AsyncResult[Any]:
        if task_id is not None:
            options["task_id"] = task_id
        connection = options.pop("connection", None)
        parent = current_parent()
        prepared = self.prepare(name, args, kwargs, options, task, parent)
        self._publish([prepared], patience(options, self.app.conf), connection)
        result: AsyncResult[Any] = self._result(prepared.id, None, name, self.app)
        if prepared.outgoing.message.headers["ignore_result"]:
            result.ignored = True
        if parent is not None and parent[0].trail and options.get("add_to_parent", True):
            parent[1].add_child(result)
        return result

    def call_many(
        self,
        task: Task[..., Any],
        calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]],
        options: dict[str, Any],
    ) -> list[AsyncResult[Any]]:
        """Publish many calls of `task` in one batch."""
        plan = self._plan_of(task)
        timeout = patience(options, self.app.conf) if options else self.timeout
        with collector_paused():
            if (
                not options.keys() <= _PATIENCE_KEYS
                or not plan.fixed
                or _running.get() is not None
                or _before.receivers
                or _after.receivers
            ):
                connection = options.pop("connection", None)
                prepared = self._prepare_all(
                    [(task.name, args, kwargs, dict(options), task) for args, kwargs in calls]
                )
                self._publish(prepared, timeout, connection)
                return [self._made(one.id, task) for one in prepared]
            self._listen()
            pattern = Pattern(partial(plan.write, reply_to=self.reply_to()))
            ids = list(uuids(len(calls)))
            drafts = [
                _new_tuple(Draft, (pattern, call_id, args, kwargs or None, None))
                for call_id, (args, kwargs) in zip(ids, calls, strict=True)
            ]
            if drafts:
                batch = Alike(drafts, plan.place)
                can = self.broker.capabilities
                self.broker.publish(batch if can.in_parts or can.envelopes else list(batch), timeout=timeout)
            return [self._made(call_id, task) for call_id in ids]

    def _made(self, call_id: str, task: Task[..., Any]) -> AsyncResult[Any]:
        result: AsyncResult[Any] = self._result(call_id, None, task.name, self.app)
        if task.ignore_result:
            result.ignored = True
        return result

    def send(
        self,
        sendings: Iterable[Sending],
        *,
        timeout: float | None = None,
        producer: Any = None,
        connection: Any = None,
    ) -> None:
        """Publish `sendings` (a canvas's messages) in one batch; with `connection`, in its transaction.

        Raises:
            TypeError: a task known here does not take the arguments it would get; nothing was sent.
        """
        with collector_paused():
            sendings, seconds = list(sendings), self.timeout if timeout is None else timeout
            requests = list(self._known(sendings, check=True))
            batch = self._alike(requests) if connection is None else None
            if batch is None:
                prepared = self._prepare_all(requests)
                self.start(sendings)
                self._publish(prepared, seconds, connection)
                return
            if any(sending[4] for sending in sendings):  # chords that begin: not before all can be sent
                batch.write()
                self.start(sendings)
            self._listen()
            self.broker.publish(batch, timeout=seconds)

    def _alike(self, requests: Sequence[Request]) -> Alike | None:
        """`requests` as a batch that this broker writes from patterns; None when they are looked at one by
        one."""
        if len(requests) < MANY or _before.receivers or _after.receivers:
            return None
        if not self.broker.capabilities.envelopes:
            return None
        parent = current_parent()
        if parent is not None and self.app.conf.task_inherit_parent_priority:
            return None
        return gathered(requests, self._plan_of, self._shared(parent))

    def start(self, sendings: Iterable[Sending]) -> None:
        """Make the chords that begin with `sendings` known to their store."""
        found = openings(self.app, sendings)
        if found:
            store = self.app.chord_store
            assert store is not None  # what nobody counts is not begun so
            store.open_chords(found)

    # -- for workers ----------------------------------------------------------------------------------------

    def outgoing(self, sendings: Iterable[Sending]) -> list[Outgoing]:
        """`sendings` as messages that somebody else publishes (a settlement)."""
        prepared = self._prepare_all(self._known(sendings, check=False))
        for one in prepared:
            self._announce(one)
        return [one.outgoing for one in prepared]

    def followups(
        self, call: Call, context: Context, conclusion: Conclusion
    ) -> tuple[list[Outgoing], list[Opening]]:
        """What a concluded call sets off: links, the next step of its chain, errbacks; and the chords that
        begin with them."""
        sendings = followups(self.app, call, context, conclusion)
        return self.outgoing(sendings), openings(self.app, sendings)

    def retry(self, call: Call, delivery: Delivery, retry: Retry) -> Outgoing:
        """The next try of a delivered call, as its `Retry` wants it."""
        return next_try(self.app, call, delivery, retry)

    # -- making messages ------------------------------------------------------------------------------------

    def prepare(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        options: dict[str, Any],
        task: Task[..., Any] | None,
        parent: Running | None = None,
    ) -> Prepared:
        """Route a call (made by `parent`) with its options, and write its message."""
        app = self.app
        if task is not None:
            options = {**task.execution_options, **options}
            if "shadow" not in options and task.names_shadows:
                options["shadow"] = task.shadow_name(args, kwargs or {}, options)
        options = app.router.route(options, options.get("route_name") or name, args, kwargs, task)
        destination = app.router.destination(options)
        fields = fields_of(options, app, task, parent)
        message = write(
            name=name,
            args=args if isinstance(args, (list, tuple)) else list(args),
            kwargs=None if not kwargs else dict(kwargs),
            exchange=destination.info_exchange,
            routing_key=destination.info_key,
            **fields.message,
        )
        queue, exchange, routing_key = destination[:3]
        outgoing = Outgoing(
            message, queue, exchange, routing_key, fields.message["priority"], fields.countdown, fields.due
        )
        return Prepared(fields.message["id"], name, outgoing, destination, (args, kwargs), options)

    def _known(self, sendings: Iterable[Sending], *, check: bool) -> Iterator[Request]:
        """`sendings` with the tasks they name, as far as they are known here."""
        find = self.app.tasks.get
        for name, args, kwargs, options, _ in sendings:
            task = find(name)
            if task is not None:
                if check and task.typing:
                    takes = task._arguments or task.arguments
                    if kwargs or not takes.fewest <= len(args) <= takes.most:
                        takes.check(args, kwargs)
                if task._codec is not None:
                    args, kwargs = task._codec.dump(args, kwargs)
            yield name, args, kwargs, options, task

    def _prepare_all(self, calls: Iterable[Request]) -> list[Prepared]:
        """Prepare many calls; those that differ in nothing but arguments and ids go by their task's plan."""
        parent = current_parent()
        heavy = parent is not None and self.app.conf.task_inherit_parent_priority
        shared = self._shared(parent)
        prepared: list[Prepared] = []
        for name, args, kwargs, options, task in calls:
            plan = None if heavy or task is None or not options.keys() <= _PLANNED_KEYS else task._plan
            if plan is None or plan.producer is not self or not plan.fixed:
                prepared.append(self.prepare(name, args, kwargs, options, task, parent))
                if task is not None and (task._plan is None or task._plan.producer is not self):
                    self._plan(task)
                continue
            fields = shared | {
                PLANNED[key]: value for key, value in options.items() if value is not None and value != {}
            }
            call_id = fields.setdefault("id", "") or new_id()
            fields["id"] = call_id
            outgoing = Outgoing(plan.write(args=args, kwargs=kwargs or None, **fields), *plan.place)
            prepared.append(Prepared(call_id, name, outgoing, plan.destination, (args, kwargs), options))
        return prepared

    def _shared(self, parent: Running | None) -> dict[str, Any]:
        """What all messages hold that are made together, unless their options say otherwise."""
        shared: dict[str, Any] = {"reply_to": self.reply_to()}
        if parent is not None:
            shared["root_id"] = parent[1].root_id or parent[1].id
            shared["parent_id"] = parent[1].id
        return shared

    def _plan_of(self, task: Task[..., Any]) -> Plan:
        plan = task._plan
        return plan if plan is not None and plan.producer is self else self._plan(task)

    def _plan(self, task: Task[..., Any]) -> Plan:
        """Work out what all plain calls of `task` share."""
        app = self.app
        own = task.execution_options
        routed = app.router.route(own, task.name, (), {}, task) if app.router.static else dict(own)
        destination = app.router.destination(routed)
        fields = fields_of(routed, app, task, None)
        same = {
            key: value for key, value in fields.message.items() if key not in ("id", "reply_to", "root_id")
        }
        plan = Plan(
            self,
            partial(
                write,
                name=task.name,
                exchange=destination.info_exchange,
                routing_key=destination.info_key,
                **same,
            ),
            destination,
            (*destination[:3], same["priority"], None, None),
            bool(same["ignore_result"]),
            app.router.static
            and not destination.exchange
            and not task.names_shadows
            and own.get("expires") is None
            and fields.countdown is None
            and fields.due is None,
        )
        task.__dict__["_plan"] = plan
        return plan

    # -- publishing -----------------------------------------------------------------------------------------

    def _publish(self, prepared: Sequence[Prepared], timeout: float, connection: Any = None) -> None:
        if not prepared:
            return
        publish = self.broker.publish if connection is None else self._publish_in(connection)
        if _before.receivers:
            for one in prepared:
                self._announce(one)
        for exchange in {one.destination.exchange for one in prepared} - self._declared:
            self._declare(exchange)
        self._listen()
        publish([one.outgoing for one in prepared], timeout=timeout)
        if _after.receivers:
            for one in prepared:
                message = one.outgoing.message
                _after.send(
                    sender=one.name,
                    body=one.body(),
                    headers=message.headers,
                    exchange=one.destination.info_exchange,
                    routing_key=one.destination.info_key,
                )

    def _publish_in(self, connection: Any) -> Callable[..., None]:
        """`publish` inside the transaction of the caller's `connection`."""
        if type(connection).__module__.partition(".")[0] == "kombu":
            return self.broker.publish  # Celery's callers lend theirs to the broker; ours has its own
        if not self.broker.capabilities.transactional:
            raise ImproperlyConfigured(
                "apply_async(connection=…) sends inside a transaction of yours, which this broker cannot do. "
                "Use a postgresql:// broker in the same database, or send after the commit (in Django: "
                "delay_on_commit)."
            )
        publish: Any = self.broker.publish
        return partial(publish, connection=connection)

    def _announce(self, one: Prepared) -> None:
        """`before_task_publish`: receivers may add to headers and properties."""
        if not _before.receivers:
            return
        message = one.outgoing.message
        queue = one.destination.declare
        _before.send(
            sender=one.name,
            body=one.body(),
            exchange=one.destination.info_exchange,
            routing_key=one.destination.info_key,
            declare=[queue] if queue is not None else [],
            headers=message.headers,
            properties=message.properties,
            retry_policy=one.options.get("retry_policy") or self.app.conf.task_publish_retry_policy,
        )
        message.headers.update(json.plain(message.headers))
        message.properties.update(json.plain(message.properties))

    def _declare(self, exchange: str) -> None:
        """Exchanges need their bindings known before anything can be sent through them; once each."""
        if exchange:
            self.broker.declare(declarations(self.app.queues.values()))
        self._declared.add(exchange)
