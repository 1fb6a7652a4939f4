"""Signals: how an application learns of what happens, without being asked for anything.

1. `Signal`: connect, disconnect, send. Receivers are held weakly unless told otherwise.
2. The signals themselves, under Celery's names.

What a receiver raises is logged and never reaches the sender: a broken receiver fails no publish and no task.
Not here: who sends which signal (`app.producer`, `execution`, `worker`, `beat` do).
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, NamedTuple, TypeVar, overload

__all__ = [
    "Signal",
    "after_setup_logger",
    "after_setup_task_logger",
    "after_task_publish",
    "beat_embedded_init",
    "beat_init",
    "before_task_publish",
    "celeryd_after_setup",
    "celeryd_init",
    "eventlet_pool_apply",
    "eventlet_pool_postshutdown",
    "eventlet_pool_preshutdown",
    "eventlet_pool_started",
    "heartbeat_sent",
    "import_modules",
    "setup_logging",
    "task_failure",
    "task_internal_error",
    "task_postrun",
    "task_prerun",
    "task_received",
    "task_rejected",
    "task_retry",
    "task_revoked",
    "task_sent",
    "task_success",
    "task_unknown",
    "user_preload_options",
    "worker_before_create_process",
    "worker_init",
    "worker_process_init",
    "worker_process_shutdown",
    "worker_ready",
    "worker_shutdown",
    "worker_shutting_down",
]

logger = logging.getLogger(__name__)

_F = TypeVar("_F", bound=Callable[..., Any])


class _Receiver(NamedTuple):
    """One connection. `target()` gives the function, or None when it is gone; `sender` None means any."""

    key: Hashable
    target: Callable[[], Callable[..., Any] | None]
    sender: Any


class Signal:
    """Something that happens, and those who want to know.

    `receivers` is a tuple that is replaced, never changed: sending takes no lock, and code on a hot path may
    skip everything with ``if signal.receivers:``.

    Example:
        >>> done = Signal({"result"}, name="done")
        >>> @done.connect
        ... def show(sender, result, **named):
        ...     print(sender, result)
        >>> _ = done.send("me", result=3)
        me 3
    """

    def __init__(
        self, providing_args: Iterable[str] | None = None, use_caching: bool = False, name: str | None = None
    ) -> None:
        self.name = name
        self.providing_args = frozenset(providing_args or ())
        self.receivers: tuple[_Receiver, ...] = ()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name} providing_args={sorted(self.providing_args)}>"

    @overload
    def connect(
        self, receiver: _F, /, sender: Any = None, weak: bool = True, dispatch_uid: Any = None
    ) -> _F: ...

    @overload
    def connect(
        self, *, sender: Any = None, weak: bool = True, dispatch_uid: Any = None
    ) -> Callable[[_F], _F]: ...

    def connect(
        self,
        receiver: Any = None,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Any = None,
    ) -> Any:
        """Call `receiver(sender=…, signal=…, **named)` whenever the signal is sent.

        Works as a decorator, with and without arguments. Connecting the same receiver twice has the effect of
        once.

        Args:
            receiver: any callable that takes keyword arguments.
            sender: only what this sender sends; strings are compared by value, all else by identity.
            weak: forget the receiver when nothing else refers to it (lambdas and local functions go at once).
            dispatch_uid: a name in place of the receiver's identity, for code that may be imported twice.

        Returns:
            The receiver, or a decorator when none was given.
        """
        if receiver is None:
            return lambda fun: self.connect(fun, sender=sender, weak=weak, dispatch_uid=dispatch_uid)
        if not callable(receiver):
            raise TypeError(f"A receiver of the signal {self.name} must be callable, not {receiver!r}.")
        sender = _canonical(sender)
        key = (_identity(receiver) if dispatch_uid is None else dispatch_uid, _identity(sender))
        entry = _Receiver(key, self._reference(receiver, key) if weak else lambda: receiver, sender)
        with self._lock:
            if all(other.key != key or other.target() is None for other in self.receivers):
                self.receivers = (*(other for other in self.receivers if other.key != key), entry)
        return receiver

    def disconnect(
        self, receiver: Any = None, sender: Any = None, weak: bool | None = None, dispatch_uid: Any = None
    ) -> bool:
        """Undo `connect` of the same receiver (or `dispatch_uid`) and sender; say whether there was one."""
        key = (_identity(receiver) if dispatch_uid is None else dispatch_uid, _identity(_canonical(sender)))
        return self._drop(key)

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether anything would be called for `sender`."""
        return any(True for _ in self._live(_canonical(sender)))

    def send(self, sender: Any, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Call every receiver; return (receiver, what it returned or raised) in the order of connection."""
        if not self.receivers:
            return []
        responses: list[tuple[Callable[..., Any], Any]] = []
        for receiver in self._live(_canonical(sender)):
            try:
                response = receiver(signal=self, sender=sender, **named)
            except Exception as exc:  # whoever sends must not suffer from whoever listens
                logger.exception("Receiver %r of the signal %s raised: %r", receiver, self.name, exc)
                response = exc
            responses.append((receiver, response))
        return responses

    send_robust = send

    def _live(self, sender: Any) -> Iterable[Callable[..., Any]]:
        for entry in self.receivers:
            if entry.sender is None or _same(entry.sender, sender):
                receiver = entry.target()
                if receiver is not None:
                    yield receiver

    def _reference(self, receiver: Any, key: Hashable) -> Callable[[], Callable[..., Any] | None]:
        """A weak reference that takes its entry away when the receiver dies."""
        this = weakref.ref(self)

        def gone(dead: Any) -> None:
            signal = this()
            if signal is not None:
                signal.receivers = tuple(entry for entry in signal.receivers if entry.target is not dead)

        try:
            if hasattr(receiver, "__self__") and hasattr(receiver, "__func__"):
                return weakref.WeakMethod(receiver, gone)
            return weakref.ref(receiver, gone)
        except TypeError:  # builtins and some C objects cannot be referred to weakly
            return lambda: receiver

    def _drop(self, key: Hashable) -> bool:
        with self._lock:
            kept = tuple(entry for entry in self.receivers if entry.key != key)
            found = len(kept) < len(self.receivers)
            self.receivers = kept
        return found


def _canonical(sender: Any) -> Any:
    """A shared task stands for its copy in every app, so all of them send as the one that was declared."""
    return getattr(sender, "__declared__", sender) if sender is not None else None


def _identity(target: Any) -> Hashable:
    if isinstance(target, (str, bytes)):
        return target
    if hasattr(target, "__func__") and hasattr(target, "__self__"):
        return (id(target.__self__), id(target.__func__))
    return id(target)


def _same(wanted: Any, sender: Any) -> bool:
    return wanted is sender or (isinstance(wanted, (str, bytes)) and bool(wanted == sender))


def _signal(name: str, *providing_args: str) -> Signal:
    return Signal(providing_args, name=name)


# Publishing, in the process that calls `delay`. The sender is the task's name.
before_task_publish: Final = _signal(
    "before_task_publish",
    "body",
    "exchange",
    "routing_key",
    "headers",
    "properties",
    "declare",
    "retry_policy",
)
after_task_publish: Final = _signal("after_task_publish", "body", "exchange", "routing_key")
task_sent: Final = _signal("task_sent", "task_id", "task", "args", "kwargs", "eta", "taskset")

# Running, in the worker. The sender is the task (of received, unknown, rejected: the consumer).
task_received: Final = _signal("task_received", "request")
task_prerun: Final = _signal("task_prerun", "task_id", "task", "args", "kwargs")
task_postrun: Final = _signal("task_postrun", "task_id", "task", "args", "kwargs", "retval")
task_success: Final = _signal("task_success", "result", "runtime")
task_retry: Final = _signal("task_retry", "request", "reason", "einfo")
task_failure: Final = _signal("task_failure", "task_id", "exception", "args", "kwargs", "traceback", "einfo")
task_internal_error: Final = _signal(
    "task_internal_error", "task_id", "args", "kwargs", "request", "exception", "traceback", "einfo"
)
task_revoked: Final = _signal("task_revoked", "request", "terminated", "signum", "expired")
task_rejected: Final = _signal("task_rejected", "message", "exc")
task_unknown: Final = _signal("task_unknown", "message", "exc", "name", "id")

# The worker itself.
celeryd_init: Final = _signal("celeryd_init", "instance", "conf", "options")
celeryd_after_setup: Final = _signal("celeryd_after_setup", "instance", "conf")
import_modules: Final = _signal("import_modules")
worker_init: Final = _signal("worker_init")
worker_before_create_process: Final = _signal("worker_before_create_process")
worker_process_init: Final = _signal("worker_process_init")
worker_process_shutdown: Final = _signal("worker_process_shutdown")
worker_ready: Final = _signal("worker_ready")
worker_shutdown: Final = _signal("worker_shutdown")
worker_shutting_down: Final = _signal("worker_shutting_down")
heartbeat_sent: Final = _signal("heartbeat_sent")

# Logging, beat, command line.
setup_logging: Final = _signal("setup_logging", "loglevel", "logfile", "format", "colorize")
after_setup_logger: Final = _signal(
    "after_setup_logger", "logger", "loglevel", "logfile", "format", "colorize"
)
after_setup_task_logger: Final = _signal(
    "after_setup_task_logger", "logger", "loglevel", "logfile", "format", "colorize"
)
beat_init: Final = _signal("beat_init")
beat_embedded_init: Final = _signal("beat_embedded_init")
user_preload_options: Final = _signal("user_preload_options", "app", "options")

# Never sent (there is no eventlet pool); here so that code which connects to them still imports.
eventlet_pool_started: Final = _signal("eventlet_pool_started")
eventlet_pool_preshutdown: Final = _signal("eventlet_pool_preshutdown")
eventlet_pool_postshutdown: Final = _signal("eventlet_pool_postshutdown")
eventlet_pool_apply: Final = _signal("eventlet_pool_apply", "target", "args", "kwargs")
