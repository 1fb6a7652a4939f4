"""What every command shares: the chosen application, and how to print.

1. `CLIContext`: the values of the global options; the application is imported on first use, not before.
2. Export of `-b` and `--result-backend` to the environment, so that the application, and every process that
   is started for it, sees the same choice.
3. The errors of finding an application, in words.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from celeriac.exceptions import CeleriacError

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["CLIContext", "load_app"]

#: Global options that travel by environment: option → the variable that the settings read.
EXPORTED = {
    "broker": "CELERIAC_BROKER_URL",
    "result_backend": "CELERIAC_RESULT_BACKEND",
    "loader": "CELERIAC_LOADER",
    "config": "CELERIAC_CONFIG_MODULE",
}


class CLIContext:
    """The global options of one run of the command.

    Args:
        app: the application, or its name as `-A` takes it; None: the default application.
        no_color: never colour the output.
        workdir: folder to change to before anything is imported.
        quiet: print results only.
    """

    def __init__(
        self,
        app: str | Celeriac | None = None,
        no_color: bool = False,
        workdir: Path | None = None,
        quiet: bool = False,
    ) -> None:
        self.spec = app if isinstance(app, str) else None
        self._app = None if isinstance(app, str) else app
        self.no_color = no_color
        self.quiet = quiet
        self.workdir: Path | None = None
        if workdir is not None:
            self.change_to(workdir)

    @property
    def app(self) -> Celeriac:
        """The application; imported on first use."""
        if self._app is None:
            self._app = load_app(self.spec)
        return self._app

    @property
    def app_if_loaded(self) -> Celeriac | None:
        """The application when it is there already; never imports."""
        return self._app

    @property
    def names_app(self) -> bool:
        """Was an application chosen (as opposed to the default one)?"""
        return self.spec is not None or self._app is not None

    def choose(self, option: str, value: Any) -> None:
        """Take the value of one global option, wherever on the command line it stood."""
        if option == "app":
            self.spec, self._app = value, None
        elif option == "workdir":
            self.change_to(value)
        elif option in EXPORTED:
            os.environ[EXPORTED[option]] = value
        else:
            setattr(self, option, value)

    def change_to(self, workdir: Path) -> None:
        try:
            os.chdir(workdir)
        except OSError as exc:
            raise click.UsageError(f"Cannot work in the folder {str(workdir)!r}: {exc.strerror}.") from exc
        self.workdir = workdir

    def style(self, message: Any = None, **style: Any) -> str:
        return str(message) if self.no_color else click.style(message, **style)

    def echo(self, message: Any = None, **options: Any) -> None:
        if self.no_color:
            options["color"] = False
        click.echo(message, **options)

    def secho(self, message: Any = None, **options: Any) -> None:
        if self.no_color:
            options["color"] = False
        click.secho(message, **options)

    def error(self, message: Any = None, **options: Any) -> None:
        self.secho(message, err=True, **options)

    def tell(self, value: Any, **options: Any) -> None:
        """Print what came out of a message: unchanged into a pipe, harmless to a terminal."""
        from celeriac.utils.log import is_terminal, printable

        text = str(value)
        self.echo(
            printable(text) if is_terminal(sys.stderr if options.get("err") else sys.stdout) else text,
            **options,
        )

    @property
    def OK(self) -> str:
        return self.style("OK", fg="green", bold=True)

    @property
    def ERROR(self) -> str:
        return self.style("ERROR", fg="red", bold=True)


class BrokenApplication(click.UsageError):
    """Importing the application raised; the traceback of its own code is shown first."""

    def __init__(self, spec: str, cause: BaseException) -> None:
        super().__init__(f"Importing {spec!r} failed; the error above is from the application's own code.")
        self.details = "".join(traceback.format_exception(cause)).rstrip()

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.details, file=file, err=True)
        super().show(file)


def load_app(spec: str | None) -> Celeriac:
    """Import the application that `spec` names, by Celery's rules of discovery.

    Args:
        spec: ``package``, ``package.module``, ``package.module:attribute``; None: the default application.

    Raises:
        click.UsageError: there is no such module, no application in it, or importing it failed
            (`BrokenApplication`).
    """
    from celeriac.app.discovery import find_app
    from celeriac.app.loading import cwd_in_path

    if spec is None:
        from celeriac._state import get_current_app

        with cwd_in_path():
            return get_current_app()
    try:
        return find_app(spec)
    except ModuleNotFoundError as exc:
        if not _is_part_of(exc.name or "", spec):
            raise BrokenApplication(spec, exc) from exc
        raise click.UsageError(
            f"There is no module {exc.name!r} to take the application {spec!r} from. Looked in "
            f"{os.getcwd()!r} and on the Python path. Is it the project's folder? (--workdir names another.)"
        ) from exc
    except (AttributeError, ValueError, TypeError) as exc:
        if _user_frame(exc):
            raise BrokenApplication(spec, exc) from exc
        raise click.UsageError(f"There is no application {spec!r}: {exc}.") from exc
    except CeleriacError as exc:
        frame = _user_frame(exc)
        where = f" ({frame.filename}, line {frame.lineno})" if frame else ""
        raise click.ClickException(f"{exc}{where}") from exc
    except Exception as exc:
        raise BrokenApplication(spec, exc) from exc


def _is_part_of(missing: str, spec: str) -> bool:
    """Is `missing` the module `spec` names, or one of its parents (and not something that it imports)?"""
    module = spec.partition(":")[0]
    return missing != "" and (module == missing or module.startswith(f"{missing}."))


def _user_frame(exc: BaseException) -> traceback.FrameSummary | None:
    """The innermost place in code that is neither ours nor the import system's; None: there is none."""
    ours = (str(Path(__file__).parent.parent), str(Path(importlib.__file__).parent), "<frozen importlib")
    frames = traceback.extract_tb(exc.__traceback__)
    return next((frame for frame in reversed(frames) if not frame.filename.startswith(ours)), None)
