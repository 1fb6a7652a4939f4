"""What is connected when an app is made in a Django project.

1. Django is set up before any module of tasks is imported.
2. The installed apps are where `autodiscover_tasks()` looks.
3. Tasks are `DjangoTask`s.
4. Connections are looked after (`connections.py`), in workers and in the scheduler.

Nothing here imports Django until it is needed: the app is made while Django's own settings are being read.
"""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from celeriac import signals
from celeriac.exceptions import FixupWarning

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["DjangoFixup", "fixup"]


def fixup(app: Celeriac, env: str = "DJANGO_SETTINGS_MODULE") -> DjangoFixup | None:
    """Prepare `app` for Django if the variable `env` names a settings module; None if it does not."""
    if not os.environ.get(env):
        return None
    if find_spec("django") is None:
        warnings.warn(
            f"{env} is set but Django is not installed, so tasks run without it. Unset {env}, or: "
            "pip install 'celeriac[django]'",
            FixupWarning,
            stacklevel=3,
        )
        return None
    return DjangoFixup(app).install()


class DjangoFixup:
    """What an app has of Django.

    Args:
        app: the application.
    """

    #: Base class of the app's tasks, unless the app was given one.
    task_cls = "celeriac.contrib.django.task:DjangoTask"

    def __init__(self, app: Celeriac) -> None:
        self.app = app

    def install(self) -> DjangoFixup:
        """Connect everything; what is the same for all apps is connected once."""
        signals.import_modules.connect(self.on_import_modules, sender=self.app)
        for signal, receiver in (
            (signals.worker_init, on_before_fork),
            (signals.worker_before_create_process, on_before_fork),
            (signals.worker_process_init, on_new_process),
            (signals.beat_embedded_init, on_new_process),
            (signals.task_prerun, on_task_prerun),
            (signals.task_postrun, on_task_postrun),
        ):
            signal.connect(receiver)
        return self

    def on_import_modules(self, **named: Any) -> None:
        setup()

    def autodiscover_tasks(self) -> list[str]:
        """The packages of the installed apps."""
        setup()
        from django.apps import apps  # type: ignore[import-untyped]

        return [config.name for config in apps.get_app_configs()]


def setup() -> None:
    """Set up Django, unless it has been (a web process, `manage.py`) or is just being."""
    import django  # type: ignore[import-untyped]
    from django.apps import apps

    if not apps.ready and not apps.loading:
        django.setup()


def on_before_fork(**named: Any) -> None:
    from celeriac.contrib.django import connections

    connections.before_fork()


def on_new_process(**named: Any) -> None:
    from celeriac.contrib.django import connections

    connections.after_fork()


def on_task_prerun(sender: Any = None, task_id: str = "", **named: Any) -> None:
    # An eager task runs inside the request or test that called it, and uses its connections.
    if not sender.request.is_eager:
        from celeriac.contrib.django import connections

        connections.before_task(task_id)


def on_task_postrun(sender: Any = None, task_id: str = "", **named: Any) -> None:
    if not sender.request.is_eager:
        from celeriac.contrib.django import connections

        connections.after_task(task_id)
