"""Front module under Celery's path `app.utils`: settings, app discovery, reports.

1. Re-exports: `Settings`, `find_app`.
2. `appstr`, `bugreport`, `sanitize_url`.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from celeriac.app.discovery import find_app
from celeriac.app.settings import Settings, mask_url

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["Settings", "appstr", "bugreport", "filter_hidden_settings", "find_app", "sanitize_url"]


def appstr(app: Celeriac) -> str:
    """What an app is called in text: ``main:0x…``."""
    return f"{app.main or '__main__'} at {id(app):#x}"


def sanitize_url(url: str, mask: str = "********") -> str:
    """`url` without its password."""
    return mask_url(url, mask)


def filter_hidden_settings(conf: Settings) -> dict[str, Any]:
    """All settings as a dictionary, secrets masked."""
    return conf.table(with_defaults=True, censored=True)


def bugreport(app: Celeriac) -> str:
    """What whoever reads a bug report needs to know of this installation. Never holds a password."""
    from celeriac import __version__

    conf = app.conf
    lines = [
        f"software -> celeriac:{__version__} py:{platform.python_version()}",
        f"platform -> system:{platform.system()} release:{platform.release()} "
        f"machine:{platform.machine()} imp:{platform.python_implementation()}",
        f"loader   -> {type(app.loader).__module__}.{type(app.loader).__qualname__}",
        f"settings -> transport:{mask_url(conf.broker_url)} results:{mask_url(conf.result_backend or 'disabled://')}",
        "",
        conf.humanize(with_defaults=False, censored=True),
    ]
    return "\n".join(lines)
