"""One connection to a PostgreSQL server, driven through libpq. The one importer of psycopg.

1. `Link.dial`: connect, within a deadline, to the host that libpq chooses.
2. `Link.query`: one statement with its parameters, one trip, its own transaction; binary results (`Rows`).
   `Link.send` and `Link.receive`: its halves, for who has something to do while the server works.
3. `Link.script`: several statements without parameters, one transaction (migrations).
4. `Link.notes`, `Link.fileno`: notifications that have come, and what to wait on for more.
5. The errors of this border, all `OperationalError`: `Disconnected` (the connection is of no use any more;
   what was sent may or may not have been done), `NotNow` (the server refused for a while: nothing was done),
   `Refused` (the server's plain no; nothing was done).

libpq is used without psycopg's own cursors: every wait is ours and ends at its deadline (`time.monotonic`
seconds), and a statement costs a third of the time.

An exception in the middle of an operation (a signal's, for instance) closes the link.

Not here: repeating (`pool.py`), what is asked.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Final, NamedTuple, NoReturn

import psycopg
from psycopg import pq

from celeriac import failpoints
from celeriac.exceptions import OperationalError
from celeriac.transport.postgres.url import Server
from celeriac.transport.postgres.values import Param

__all__ = ["Disconnected", "Link", "NotNow", "Note", "Refused", "Rows"]

_monotonic = time.monotonic
_READ: Final = select.POLLIN | select.POLLERR | select.POLLHUP
_OK: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY)
_READING: Final = pq.PollingStatus.READING
_BINARY: Final = 1

#: SQLSTATE classes and codes after which the connection is of no use: the statement may have been done.
_FATAL: Final = ("57P01", "57P02", "57P03", "57P04", "57P05", "08", "XX", "58", "25P03", "40003")
#: … and those that pass by themselves; nothing was done.
_PASSING: Final = ("40", "55P03", "57014", "53", "25006", "55006", "55P02")


class Disconnected(OperationalError):
    """The connection is lost, or could not be made."""


class NotNow(OperationalError):
    """The server refused for a while; nothing was done.

    `code`: SQLSTATE.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Refused(OperationalError):
    """The server's plain no; nothing was done. `code`: SQLSTATE."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Note(NamedTuple):
    """A notification."""

    channel: str
    payload: bytes


Rows = list[tuple[bytes | None, ...]]


class Link:
    """Used by one thread at a time.

    Attributes:
        closed: of no use any more.
        pooled: somebody stands between (pgbouncer): what is said of sessions does not hold.
    """

    def __init__(self, connection: pq.abc.PGconn, server: Server) -> None:
        self._pg = connection
        self._server = server
        self._poll = select.poll()
        self._socket = connection.socket
        self._poll.register(self._socket, _READ)
        self._notes: list[Note] = []
        self.closed = False
        self.pooled = False
        self.version = connection.server_version
        self.where = server.where

    @classmethod
    def dial(cls, server: Server, deadline: float) -> Link:
        """Connect and log in.

        Raises:
            Disconnected: nobody could be reached, or the log-in was refused, within the deadline.
        """
        failures: list[str] = []
        attempts = _attempts(server.conninfo)
        for at, conninfo in enumerate(attempts):
            # libpq's own time limit counts in its blocking calls only: a dead host must leave time for others
            share = (deadline - _monotonic()) / (len(attempts) - at)
            pg = pq.PGconn.connect_start(conninfo)
            try:
                _finish_connecting(pg, server, _monotonic() + min(server.connect_timeout, share))
                pg.nonblocking = 1
                pg.notice_handler = None
                return cls(pg, server)
            except Disconnected as exc:
                pg.finish()
                failures.append(str(exc))
            except BaseException:
                pg.finish()
                raise
        raise Disconnected(" ".join(failures))

    def query(self, sql: bytes, params: Sequence[Param] = (), *, deadline: float) -> Rows:
        """Run one statement in a transaction of its own; return its rows, every value in binary."""
        self.send(sql, params, deadline=deadline)
        return self.receive(deadline=deadline)

    def send(self, sql: bytes, params: Sequence[Param] = (), *, deadline: float) -> None:
        """The first half of `query`: the server works on it meanwhile. `receive` must come next."""
        if self.closed:
            raise Disconnected(f"The connection to PostgreSQL at {self.where} is closed.")
        pg = self._pg
        try:
            if params:
                values, types, formats = zip(*params, strict=True)
            else:
                values = types = formats = ()
            pg.send_query_params(sql, values, types, formats, _BINARY)
            if pg.flush():
                self._flush(deadline)
            if failpoints.on:
                failpoints.passed("sent", self.close)
        except BaseException as exc:
            self._fail(exc)

    def receive(self, *, deadline: float) -> Rows:
        """The second half of `query`."""
        if self.closed:
            raise Disconnected(f"The connection to PostgreSQL at {self.where} is closed.")
        try:
            results = self._results(deadline)
            if failpoints.on:
                failpoints.passed("done", self.close)
        except BaseException as exc:
            self._fail(exc)
        return self._read(results[-1])

    def script(self, sql: bytes, *, deadline: float) -> None:
        """Run several statements, without parameters, as one transaction."""
        if self.closed:
            raise Disconnected(f"The connection to PostgreSQL at {self.where} is closed.")
        try:
            self._pg.send_query(sql)
            if self._pg.flush():
                self._flush(deadline)
            results = self._results(deadline)
        except BaseException as exc:
            self._fail(exc)
        for result in results:
            if result.status not in _OK:
                raise self._refusal(result)

    def notes(self) -> list[Note]:
        """Notifications that have come; does not block.

        Raises:
            Disconnected: the connection was lost.
        """
        try:
            if not self.closed:
                self._pg.consume_input()
                self._gather()
        except BaseException as exc:
            self._fail(exc)
        notes, self._notes = self._notes, []
        return notes

    def fileno(self) -> int:
        return self._socket

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._pg.finish()

    def abandon(self) -> None:
        """In a forked child: forget the parent's connection without a farewell, which would end it."""
        self.closed = True

    def backend_pid(self) -> int:
        """The server process as the log-in named it; a pooler names another."""
        return self._pg.backend_pid

    # -- waiting ---------------------------------------------------------------------------------------------

    def _flush(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLOUT)
        while self._pg.flush():
            if not poll.poll(max(0.0, deadline - _monotonic()) * 1000):
                raise TimeoutError
            self._pg.consume_input()

    def _results(self, deadline: float) -> list[pq.abc.PGresult]:
        pg, poll = self._pg, self._poll
        found: list[pq.abc.PGresult] = []
        while True:
            while pg.is_busy():
                left = deadline - _monotonic()
                if left <= 0 or not poll.poll(left * 1000):
                    raise TimeoutError
                pg.consume_input()
            result = pg.get_result()
            if result is None:
                break
            found.append(result)
        self._gather()
        return found

    def _gather(self) -> None:
        while (note := self._pg.notifies()) is not None:
            self._notes.append(Note(note.relname.decode("utf-8", "replace"), note.extra))

    # -- results ---------------------------------------------------------------------------------------------

    def _read(self, result: pq.abc.PGresult) -> Rows:
        if result.status not in _OK:
            raise self._refusal(result)
        get, columns = result.get_value, range(result.nfields)
        return [tuple([get(row, column) for column in columns]) for row in range(result.ntuples)]

    def _refusal(self, result: pq.abc.PGresult) -> OperationalError:
        code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        message = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"no message").decode(
            "utf-8", "replace"
        )
        said = f"PostgreSQL at {self.where}: {message}"
        if not code or code.startswith(_FATAL):
            self.close()
            return Disconnected(f"{said}.")
        if code.startswith(_PASSING):
            if code == "25006":  # a standby: libpq may find the primary at another host
                self.close()
            return NotNow(f"{said}.", code)
        return Refused(f"{said} (SQLSTATE {code}).", code)

    def _fail(self, exc: BaseException) -> NoReturn:
        """Close, and raise what a failure of the connection means; anything else as it is."""
        self.close()
        explained = self._explained(exc)
        if explained is None:
            raise exc
        raise explained from exc

    def _explained(self, exc: BaseException) -> OperationalError | None:
        """What a failure of the connection means; None: it is something else."""
        if isinstance(exc, TimeoutError):
            return Disconnected(f"PostgreSQL at {self.where} did not answer in time.")
        if isinstance(exc, (psycopg.Error, OSError)):
            first = [*str(exc).strip().splitlines(), ""][0]
            return Disconnected(f"The connection to PostgreSQL at {self.where} was lost: {first}.")
        return None


def _attempts(conninfo: str) -> list[bytes]:
    """One connection string for each host."""
    options = pq.Conninfo.parse(conninfo.encode())
    given: dict[bytes, bytes] = {each.keyword: each.val for each in options if each.val is not None}
    keys: tuple[bytes, ...] = (b"host", b"hostaddr", b"port")
    lists = {key: given[key].split(b",") for key in keys if key in given}
    count = max((len(values) for key, values in lists.items() if key != b"port"), default=1)
    attempts = []
    for at in range(count):
        chosen = {key: values[at if len(values) > 1 else 0] for key, values in lists.items()}
        merged = {**given, **chosen}
        words = (
            b"%b='%b'" % (key, value.replace(b"\\", b"\\\\").replace(b"'", b"\\'"))
            for key, value in merged.items()
        )
        attempts.append(b" ".join(words))
    return attempts


def _finish_connecting(pg: pq.abc.PGconn, server: Server, deadline: float) -> None:
    """Drive libpq through host after host."""
    while True:
        if pg.status == pq.ConnStatus.BAD:
            break
        status = pg.connect_poll()
        if status == pq.PollingStatus.OK:
            return
        if status == pq.PollingStatus.FAILED:
            break
        poll = select.poll()
        poll.register(pg.socket, select.POLLIN if status == _READING else select.POLLOUT)
        left = deadline - _monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise Disconnected(f"PostgreSQL at {server.where} did not answer in time.")
    said = " ".join(pg.get_error_message().split())
    raise Disconnected(f"Cannot connect to PostgreSQL at {server.where}: {said}")
