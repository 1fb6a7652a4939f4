"""The client: applications, tasks, and how calls become messages.

    base.py       the application                        task.py       Task: calling, retrying, hooks
    declaring.py  functions → tasks, shared_task         producer.py   calls → stored messages
    catalog.py    tasks from declaration to registry     options.py    what the options of a call mean
    parts.py      settings → implementations             routes.py     which call goes to which queue
    queues.py     queues and exchanges                   followups.py  links, chains, errbacks, retries
    eager.py      a call run here and now                discovery.py  -A: from a name to an app

Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac as Celery
    from celeriac.app.declaring import shared_task
    from celeriac.app.utils import bugreport

__all__ = ["Celery", "app_or_default", "bugreport", "default_app", "shared_task"]


def app_or_default(app: Any = None) -> Any:
    """`app`, or the current app when it is None."""
    from celeriac._state import get_current_app

    return get_current_app() if app is None else app


def __getattr__(name: str) -> Any:
    if name == "Celery":
        from celeriac.app.base import Celeriac

        return Celeriac
    if name == "shared_task":
        from celeriac.app.declaring import shared_task

        return shared_task
    if name == "bugreport":
        from celeriac.app.utils import bugreport

        return bugreport
    if name == "default_app":
        from celeriac._state import get_current_app
        from celeriac.local import Proxy

        return Proxy(get_current_app)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
