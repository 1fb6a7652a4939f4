"""Long-running programs: in the background, under another user, with a pid file.

1. `detach`: the same command again, in a session of its own, without a terminal.
2. `become`: user, group and umask of this process.
3. `PidFile`: one program at a time; a stale file is taken over.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

import click

from celeriac.bin.base import CannotCreate, Failure

__all__ = ["PidFile", "become", "detach"]

_DETACH: Final = ("-D", "--detach")


def detach(ctx: click.Context, command: str) -> None:
    """Start this very command line once more, detached, and return when it has started.

    The new process has no terminal; it lives on when this one ends.
    """
    arguments = [word for word in sys.argv[1:] if word not in _DETACH]
    python = ctx.params.get("executable") or sys.executable
    environment = {**os.environ}
    for prefix in ("CELERIAC", "CELERY"):
        environment.pop(f"{prefix}_{command.upper()}_DETACH", None)
    process = subprocess.Popen(
        [python, "-m", "celeriac", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment,
    )
    try:
        code = process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        return
    raise Failure(
        f"The detached {command} ended at once with exit code {code}. Run it without --detach to see why."
    )


def become(uid: str | None, gid: str | None, umask: str | None) -> None:
    """Give this process the user, group and umask; None leaves one as it is.

    Raises:
        click.UsageError: there is no such user or group, or this process may not become it.
    """
    if umask is not None:
        try:
            os.umask(int(umask, 8))
        except ValueError as exc:
            raise click.UsageError(f"--umask {umask!r} is not an octal number such as 022.") from exc
    if uid is None and gid is None:
        return
    import grp
    import pwd

    try:
        user = None if uid is None else pwd.getpwuid(int(uid)) if uid.isdigit() else pwd.getpwnam(uid)
        if gid is not None:
            group = int(gid) if gid.isdigit() else grp.getgrnam(gid).gr_gid
        else:
            group = user.pw_gid if user else os.getgid()
    except KeyError as exc:
        raise click.UsageError(f"There is no such user or group: {exc.args[0]}.") from exc
    if (os.getuid() if user is None else user.pw_uid, group) == (os.getuid(), os.getgid()):
        return  # as after a restart by HUP
    try:
        if user is not None and os.geteuid() == 0:
            os.initgroups(user.pw_name, group)
        os.setgid(group)
        if user is not None:
            os.setuid(user.pw_uid)
    except PermissionError as exc:
        raise click.UsageError("Only root may become another user or group (--uid, --gid).") from exc


class PidFile:
    """Holds a file with this process's id while a program runs.

    Args:
        path: the file; None: do nothing.

    Example:
        >>> with PidFile(None):
        ...     pass
    """

    def __init__(self, path: str | None) -> None:
        self.path = Path(path) if path else None

    def __enter__(self) -> PidFile:
        if self.path is not None:
            self._take(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.path is not None and _owner(self.path) == os.getpid():
            self.path.unlink(missing_ok=True)

    def _take(self, path: Path) -> None:
        # Written elsewhere and then linked: whoever sees the file sees the process id in it.
        mine = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            mine.write_text(f"{os.getpid()}\n")
            while not _linked(mine, path):
                owner = _owner(path)
                if owner is not None and owner != os.getpid() and _is_alive(owner):
                    raise CannotCreate(
                        f"The pid file {str(path)!r} belongs to process {owner}, which is running. "
                        "Stop it first, or choose another --pidfile."
                    )
                path.unlink(missing_ok=True)  # left behind by a process that is dead
        except OSError as exc:
            raise CannotCreate(f"Cannot write the pid file {str(path)!r}: {exc.strerror}.") from exc
        finally:
            mine.unlink(missing_ok=True)


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True


def _owner(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
