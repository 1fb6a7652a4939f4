"""A private MariaDB.

1. `MariaServer`: a server of its own; fresh databases.
2. `find_mariadb`: its server binary.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers.process import Server, find_program

__all__ = ["MariaServer", "find_mariadb"]


def find_mariadb() -> str:
    """Path of `mariadbd`."""
    if found := find_program("mariadbd", ["/usr/libexec", "/usr/local/libexec"]):
        return found
    raise RuntimeError("No mariadbd was found. Run `scripts/provide-servers`, or install it.")


class MariaServer(Server):
    """A MariaDB server; user root, password ``secret``.

    Attributes:
        url: ``mysql://root:secret@127.0.0.1:<port>/test``. With SQLAlchemy, say ``mysql+pymysql://``.

    Args:
        settings: options of the server without their dashes, e.g. ``{"max_connections": 20}``.
    """

    patience = 60.0

    def __init__(self, settings: Mapping[str, object] | None = None) -> None:
        super().__init__("mariadb")
        self._binary = find_mariadb()
        self._settings = dict(settings or {})
        self._databases = 0
        self._user = pwd.getpwuid(os.geteuid()).pw_name
        self.url = f"mysql://root:secret@127.0.0.1:{self.port}/test"
        try:
            self._lay_out()
            self.start()
        except BaseException:
            self.stop()
            raise

    def _lay_out(self) -> None:
        install = find_program("mariadb-install-db", [Path(self._binary).parent])
        if not install:
            raise RuntimeError("No mariadb-install-db was found beside mariadbd.")
        subprocess.run(
            [install, "--no-defaults", f"--datadir={self.folder / 'data'}", f"--user={self._user}",
             "--auth-root-authentication-method=normal", "--skip-test-db", "--force"],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        (self.folder / "init.sql").write_text(
            "ALTER USER root@localhost IDENTIFIED BY 'secret';\n"
            "GRANT ALL ON *.* TO root@'127.0.0.1' IDENTIFIED BY 'secret' WITH GRANT OPTION;\n"
            "CREATE DATABASE IF NOT EXISTS test;\n"
        )

    def command(self) -> list[str]:
        options = {
            "datadir": self.folder / "data",
            "port": self.port,
            "bind-address": "127.0.0.1",
            "socket": self.folder / "sock",
            "pid-file": self.folder / "pid",
            "init-file": self.folder / "init.sql",
            "user": self._user,
            "character-set-server": "utf8mb4",
            **self._settings,
        }
        return [self._binary, "--no-defaults", *(f"--{name}={value}" for name, value in options.items())]

    def answers(self) -> bool:
        """It greets who connects, protocol version 10; the socket is opened after the init file was run."""
        return self.ask(b"", 5)[4:5] == b"\x0a"

    def sql(self, statement: str) -> None:
        """Run a statement as root."""
        client = find_program("mariadb") or find_program("mysql")
        assert client, "no mariadb client was found"
        words = ["--no-defaults", f"--socket={self.folder / 'sock'}", "-uroot", "-psecret", "-e", statement]
        subprocess.run([client, *words], check=True, capture_output=True, timeout=30)

    def database(self, name: str | None = None) -> str:
        """Make a fresh, empty database (isolation between tests); its URL."""
        self._databases += 1
        name = name or f"d{self._databases}"
        self.sql(f"CREATE DATABASE {name}")
        return f"mysql://root:secret@127.0.0.1:{self.port}/{name}"
