"""`app.control`: commands to all workers that need none of them to be up.

1. `revoke`: a record in the broker; whoever receives the task drops it.
2. `purge`: empties the queues.

Not here: commands that workers answer (`inspect`, limits, pool size); they are not built yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from celeriac.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["Control"]

#: Seconds for which a revoked id is remembered when `result_expires` does not say longer.
_REMEMBERED: Final = 10_800.0


class Control:
    """Commands of one app."""

    def __init__(self, app: Celeriac) -> None:
        self.app = app

    def revoke(
        self,
        task_id: str | Sequence[str],
        destination: Any = None,
        terminate: bool = False,
        signal: Any = None,
        **kwargs: Any,
    ) -> None:
        """See to it that a task does not start, wherever it waits.

        Args:
            task_id: an id, or several.
            destination, signal, kwargs: for Celery's callers.
            terminate: also stop it if it runs: refused, since workers do not take commands yet.

        Raises:
            ImproperlyConfigured: `terminate` is true.
            OperationalError: the broker cannot be reached.
        """
        if terminate:
            raise ImproperlyConfigured(
                "revoke(terminate=True) is not built yet: a running task cannot be stopped by a command. "
                "Give it a time_limit, or revoke it before it starts."
            )
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        self.app.broker.revoke(ids, ttl=max(self.app.result_ttl or 0.0, _REMEMBERED))

    def revoke_by_stamped_headers(
        self, headers: Mapping[str, Any], destination: Any = None, terminate: bool = False, **kwargs: Any
    ) -> None:
        """Not built yet: what is revoked is remembered by id.

        Raises:
            ImproperlyConfigured: always.
        """
        raise ImproperlyConfigured(
            "Tasks cannot be revoked by their stamps yet. Revoke them by id: `revoke` takes several, and the "
            "result of a group has it too."
        )

    def purge(self, connection: Any = None) -> int:
        """Drop all messages that wait in the queues this app consumes from; return how many there were."""
        queues = self.app.queues
        return sum(self.app.broker.purge(name) for name in queues.consumed)

    discard_all = purge
