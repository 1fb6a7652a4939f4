"""Every exception and warning of the package, in one tree.

Exception
├── CeleryError (also exported as CeleriacError)
│   ├── ImproperlyConfigured         a setting, URL or option is wrong
│   ├── SecurityError
│   ├── OperationalError             the broker or the result store could not be reached in time
│   ├── DecodeError                  bytes that cannot be turned into values
│   │   └── ContentDisallowed        … or must not be (content type not in `accept_content`)
│   ├── EncodeError                  values that cannot be turned into bytes
│   ├── TaskPredicate                raised by a task to end itself on purpose
│   │   ├── Retry · Ignore · Reject
│   └── TaskError
│       ├── NotRegistered · QueueNotFound (also KeyError) · AlreadyRegistered
│       ├── MaxRetriesExceededError · InvalidTaskError · IncompleteStream · ChordError
│       ├── TaskRevokedError
│       └── TimeoutError             waiting for a result took too long
├── BackendError: BackendGetMetaError, BackendStoreError
├── SoftTimeLimitExceeded · TimeLimitExceeded · WorkerLostError · Terminated
└── RemoteError                      stand-in for an exception whose class is not loaded here
SystemExit
└── WorkerShutdown · WorkerTerminate
UserWarning
└── CeleryWarning (CeleriacWarning): AlwaysEagerIgnored, DuplicateNodenameWarning, DuplicateTaskNameWarning,
    FixupWarning, NotConfigured, SecurityWarning
"""

from __future__ import annotations

import numbers
from datetime import datetime
from typing import Any

__all__ = [
    "AlreadyRegistered",
    "AlwaysEagerIgnored",
    "BackendError",
    "BackendGetMetaError",
    "BackendStoreError",
    "CDeprecationWarning",
    "CPendingDeprecationWarning",
    "CeleriacError",
    "CeleriacWarning",
    "CeleryError",
    "CeleryWarning",
    "ChordError",
    "ContentDisallowed",
    "DecodeError",
    "DuplicateNodenameWarning",
    "DuplicateTaskNameWarning",
    "EncodeError",
    "FixupWarning",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "NotConfigured",
    "NotRegistered",
    "OperationalError",
    "QueueNotFound",
    "Reject",
    "RemoteError",
    "Retry",
    "SecurityError",
    "SecurityWarning",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "Terminated",
    "TimeLimitExceeded",
    "TimeoutError",
    "WorkerLostError",
    "WorkerShutdown",
    "WorkerTerminate",
]


class CeleryError(Exception):
    """Base of the package's errors."""


CeleriacError = CeleryError


class ImproperlyConfigured(CeleryError):
    """A setting, URL or option is wrong; the message names it and says what to write instead."""


class SecurityError(CeleryError):
    """Something was refused for safety."""


class OperationalError(CeleryError):
    """The broker or result store could not be reached, or did not answer in time."""


class DecodeError(CeleryError):
    """Bytes that cannot be turned into values."""


class ContentDisallowed(DecodeError):
    """A content type that `accept_content` does not name."""


class EncodeError(CeleryError):
    """Values that the chosen serializer cannot turn into bytes."""


class TaskPredicate(CeleryError):
    """Base of what a task raises to end itself on purpose."""


class Retry(TaskPredicate):
    """The task is to be tried again. Raised by `Task.retry`.

    Attributes:
        message: text, or None.
        exc: the exception that caused the retry, or None.
        when: seconds (int or float), or the datetime of the next try.
        sig: the next call as a signature, where it is not the worker that publishes it.
        options: what `Task.retry` was given for the next call (`args`, `kwargs`, `eta`, `countdown`, …).
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: float | datetime | None = None,
        is_eager: bool = False,
        sig: Any = None,
        **kwargs: Any,
    ) -> None:
        self.message = message
        self.exc = exc if isinstance(exc, BaseException) else None
        self.excs = repr(exc) if isinstance(exc, BaseException) else exc
        self.when = when
        self.is_eager = is_eager
        self.sig = sig
        self.options: dict[str, Any] = {}
        super().__init__(self, exc, when, **kwargs)

    def humanize(self) -> str:
        if isinstance(self.when, numbers.Number):
            return f"in {self.when}s"
        return f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        if self.excs:
            return f"Retry {self.humanize()}: {self.excs}"
        return f"Retry {self.humanize()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return self.__class__, (self.message, self.exc, self.when)


class Ignore(TaskPredicate):
    """The worker stores no result and acknowledges the message."""


class Reject(TaskPredicate):
    """The message is rejected: dead-lettered, or put back when `requeue` is true."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue
        super().__init__(reason, requeue)

    def __repr__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class TaskError(CeleryError):
    """Base of errors about tasks."""


class NotRegistered(KeyError, TaskError):
    """No task of that name is registered."""

    def __repr__(self) -> str:
        return str(self)


class QueueNotFound(KeyError, TaskError):
    """The queue is not in `task_queues` and `task_create_missing_queues` is off."""


class AlreadyRegistered(TaskError):
    """The name is taken."""


class MaxRetriesExceededError(TaskError):
    """`Task.retry` was called once too often."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.task_args: Any = kwargs.pop("task_args", [])
        self.task_kwargs: Any = kwargs.pop("task_kwargs", {})
        super().__init__(*args, **kwargs)


class InvalidTaskError(TaskError):
    """A message that is not a valid task message; the text says why."""


class IncompleteStream(TaskError):
    """The end of a stream of messages is missing."""


class ChordError(TaskError):
    """A member of a chord's header failed."""


class TaskRevokedError(TaskError):
    """The task was revoked, expired, or terminated."""


class TimeoutError(TaskError):
    """Waiting for a result took longer than its `timeout`."""


class BackendError(Exception):
    """Base of result store errors that carry the task's id."""


class BackendGetMetaError(BackendError):
    """A result document could not be read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.task_id = kwargs.get("task_id", "")
        super().__init__(*args)


class BackendStoreError(BackendError):
    """A result document could not be stored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state = kwargs.get("state", "")
        self.task_id = kwargs.get("task_id", "")
        super().__init__(*args)


class SoftTimeLimitExceeded(Exception):
    """Raised inside the task when its soft time limit has passed; it may clean up and end."""

    def __str__(self) -> str:
        return f"SoftTimeLimitExceeded{self.args!r}"


class TimeLimitExceeded(Exception):
    """The task was stopped because its hard time limit (seconds, first argument) had passed."""

    def __str__(self) -> str:
        return f"TimeLimitExceeded{self.args!r}"


class WorkerLostError(Exception):
    """The process that ran the task died, as often as `task_delivery_limit` allows."""


class Terminated(Exception):
    """The task was stopped on request (`revoke(terminate=True)`)."""


class RemoteError(Exception):
    """Stand-in for an exception of another process whose class is not loaded here.

    Attributes:
        exc_type: name of its class.
        exc_module: module of its class.
        exc_args: its arguments, as far as they could be stored.
    """

    def __init__(self, exc_type: str = "", exc_module: str = "", exc_args: tuple[Any, ...] = ()) -> None:
        self.exc_type = exc_type
        self.exc_module = exc_module
        self.exc_args = exc_args
        super().__init__(exc_type, exc_module, exc_args)

    def __str__(self) -> str:
        name = f"{self.exc_module}.{self.exc_type}" if self.exc_module else self.exc_type
        return f"{name}({', '.join(map(repr, self.exc_args))})"


class WorkerShutdown(SystemExit):
    """Asks the worker for a warm shutdown."""


class WorkerTerminate(SystemExit):
    """Asks the worker for a cold shutdown."""


class CeleryWarning(UserWarning):
    """Base of the package's warnings."""


CeleriacWarning = CeleryWarning


class AlwaysEagerIgnored(CeleryWarning):
    """`send_task` does not honour `task_always_eager`."""


class DuplicateNodenameWarning(CeleryWarning):
    """Two workers have the same node name."""


class DuplicateTaskNameWarning(CeleryWarning):
    """Two functions were registered under one task name."""


class FixupWarning(CeleryWarning):
    """An integration could not be set up."""


class NotConfigured(CeleryWarning):
    """No configuration was found; defaults are used."""


class SecurityWarning(CeleryWarning):
    """Something unsafe is switched on."""


class CDeprecationWarning(DeprecationWarning):
    """The feature is deprecated."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """The feature will be deprecated."""
