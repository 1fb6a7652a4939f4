"""`Beat`: the scheduler as a program: logging, banner, signals, then the service.

Not here: the command line (`bin/beat.py`), the loop (`beat/service.py`).
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from celeriac import _state, beat
from celeriac.app.settings import mask_url
from celeriac.beat.scheduler import Scheduler
from celeriac.utils.time import humanize_seconds

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["Beat"]

_BANNER = """\
app         {app}
broker      {broker}
scheduler   {scheduler}
state       {state}
entries     {entries}
interval    at most {interval}"""


class Beat:
    """The scheduler as a program.

    Args:
        max_interval: most seconds between two looks at the schedule.
        app: whose schedule is run; the current app by default.
        socket_timeout: accepted for compatibility; `broker_publish_timeout` bounds each sending.
        pidfile: accepted for compatibility; the command line writes it.
        no_color: True: do not colour logs.
        loglevel: number or name.
        logfile: path; the terminal by default.
        schedule: the schedule file; by default `beat_schedule_filename`.
        scheduler: scheduler class or its name; by default `beat_scheduler`.
        scheduler_cls: the same.
        redirect_stdouts: log what is printed; by default `worker_redirect_stdouts`.
        redirect_stdouts_level: the level of that.
        quiet: print no banner.
        remote_control: accepted for compatibility, without effect.
        hostname: the name that ``%n`` and ``%h`` in `logfile` stand for.
        log_format: ``text`` or ``json``.
    """

    Service = beat.Service
    app: Celeriac = None  # type: ignore[assignment]

    def __init__(
        self,
        max_interval: float | None = None,
        app: Celeriac | None = None,
        socket_timeout: float = 30,
        pidfile: str | None = None,
        no_color: bool | None = None,
        loglevel: int | str = "WARN",
        logfile: str | None = None,
        schedule: str | None = None,
        scheduler: Any = None,
        scheduler_cls: Any = None,
        redirect_stdouts: bool | None = None,
        redirect_stdouts_level: int | str | None = None,
        quiet: bool = False,
        remote_control: bool | None = None,
        hostname: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.log_format = kwargs.pop("log_format", "text")
        self.app = app or self.app or _state.get_current_app()
        conf = self.app.conf
        self.max_interval = max_interval
        self.socket_timeout = socket_timeout
        self.pidfile = pidfile
        self.no_color = no_color
        self.loglevel = loglevel
        self.logfile = logfile
        self.schedule = schedule or conf.beat_schedule_filename
        self.scheduler_cls = scheduler or scheduler_cls
        self.redirect_stdouts = conf.worker_redirect_stdouts if redirect_stdouts is None else redirect_stdouts
        self.redirect_stdouts_level = redirect_stdouts_level or conf.worker_redirect_stdouts_level
        self.quiet = quiet
        self.remote_control = remote_control
        self.hostname = hostname

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; then write everything down and return.

        Raises:
            ImproperlyConfigured: the schedule has a mistake, or its file is in use.
        """
        self.init_loader()
        self.setup_logging()
        self.start_scheduler()

    def init_loader(self) -> None:
        """Import everything that may add to the schedule."""
        self.app.loader.init_worker()
        self.app.finalize()

    def setup_logging(self, colorize: bool | None = None) -> None:
        if colorize is None and self.no_color:
            colorize = False
        handled = self.app.log.setup(
            self.loglevel,
            self.logfile,
            colorize=colorize,
            hostname=self.hostname,
            log_format=self.log_format,
        )
        self.redirect_stdouts = self.redirect_stdouts and not handled

    def start_scheduler(self) -> None:
        """Make the service, print the banner, run."""
        service = self.Service(
            self.app,
            max_interval=self.max_interval,
            schedule_filename=self.schedule,
            scheduler_cls=self.scheduler_cls,
            remote_control=self.remote_control,
            hostname=self.hostname,
        )
        if not self.quiet:
            print(self.banner(service), file=sys.__stdout__, flush=True)
            print(self.startup_info(service), file=sys.__stdout__, flush=True)
        if self.redirect_stdouts:  # not before mistakes in the schedule could be said in plain words
            self.app.log.redirect_stdouts(self.redirect_stdouts_level)
        self.install_sync_handler(service)
        service.start()

    def install_sync_handler(self, service: beat.Service) -> None:
        """SIGTERM and SIGINT end the loop; what ran is written down on the way out."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: service.stop())

    def banner(self, service: beat.Service) -> str:
        from celeriac import __version__

        return f"celeriac beat v{__version__} is starting."

    def startup_info(self, service: beat.Service) -> str:
        """What is run, by what, from where."""
        scheduler: Scheduler = service.scheduler
        kind = type(scheduler)
        return _BANNER.format(
            app=self.app.main,
            broker=mask_url(str(self.app.conf.broker_url)),
            scheduler=f"{kind.__module__}.{kind.__qualname__}",
            state=scheduler.info.strip().removeprefix(". db -> ") or "kept by the scheduler",
            entries=len(scheduler.schedule),
            interval=humanize_seconds(scheduler.max_interval),
        )
