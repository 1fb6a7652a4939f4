"""The tables of the embedded store, and how a file becomes one.

1. `SCHEMA`: the SQL of version 1, with what each table is for; `CHORDS`: what version 2 adds.
2. `MIGRATIONS`: what leads from each older version to the next (`PRAGMA user_version` counts them).
3. `prepare`: sets up a new connection, and creates or migrates the tables, whoever comes first.

Times are integers, microseconds since the epoch, so that they compare and print exactly.

How a message moves (each arrow one transaction; `message` itself is written once and deleted once, because
rewriting its payload at every step is what costs):

    message + ready ──▶ message + a tag in claim.messages ──▶ deleted, or `dead`, or `ready` again
    message + delayed ──(due)──▶ message + ready

A claim is one batch that one consumer took. It lists the messages of the batch; those of them that still
exist in `message` are held. A message is in exactly one of ready, delayed, and one claim.
The tag of a delivery is its lease's number (times DELIVERIES) plus its own number among all deliveries of
this lease: that of its claim's first, plus its place in the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from celeriac.exceptions import ImproperlyConfigured, OperationalError

if TYPE_CHECKING:
    from celeriac.transport.sqlite import Connection

__all__ = [
    "APPLICATION_ID",
    "CHORDS",
    "DELIVERIES",
    "MIGRATIONS",
    "OF_ONE_CONSUMER",
    "SCHEMA",
    "SUSPECT",
    "VERSION",
    "prepare",
]

#: "Clrc", in the header of the file: tells our files from other programs' (`PRAGMA application_id`).
APPLICATION_ID: Final = 0x436C7263
VERSION: Final = 2

#: Pages of the write-ahead log (4 KB each) at which a commit has to copy it into the file. The worker does so
#: every second (`Database.checkpoint`), so that no commit has to as long as there is less to do.
LOG_PAGES: Final = 4000

#: Bytes that the file of the log may keep when it starts again from its beginning.
LOG_BYTES: Final = 64_000_000

#: Deliveries that one lease can number.
DELIVERIES: Final = 1 << 36
#: … of which its first consumer has so many (for a day at 49,000 a second), and so has each deputy.
OF_ONE_CONSUMER: Final = 1 << 32
#: `ready.rank` of messages that have crashed a process; all others have their priority, 0 or more.
SUSPECT: Final = -1

SCHEMA: Final = """
-- Names of queues, so that rows elsewhere carry a small number. Never deleted: processes cache them.
CREATE TABLE queue (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE binding (
    queue TEXT NOT NULL, exchange TEXT NOT NULL, routing_key TEXT NOT NULL, exchange_type TEXT NOT NULL,
    max_priority INTEGER,
    PRIMARY KEY (exchange, queue, routing_key, exchange_type)
) WITHOUT ROWID;

-- Every message that is neither settled nor dead. The id is the time of publishing, or one more than the
-- last: not used again, and cheaper than AUTOINCREMENT, which writes one more page per commit.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    since INTEGER NOT NULL,      -- when it began, or begins, to wait: its place in line
    raw BLOB NOT NULL            -- the envelope, see wire/virtual.py
);

-- The line: what can be taken, in the order in which it is taken.
CREATE TABLE ready (
    queue INTEGER NOT NULL, rank INTEGER NOT NULL, since INTEGER NOT NULL, id INTEGER NOT NULL,
    PRIMARY KEY (queue, rank, since, id)
) WITHOUT ROWID;

CREATE TABLE delayed (
    queue INTEGER NOT NULL, due INTEGER NOT NULL, id INTEGER NOT NULL, priority INTEGER NOT NULL,
    PRIMARY KEY (queue, due, id)
) WITHOUT ROWID;

-- One row per consumer. AUTOINCREMENT: a consumer whose lease was taken never meets its number again.
CREATE TABLE lease (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    expires INTEGER NOT NULL,
    joined INTEGER NOT NULL DEFAULT 0   -- how often a deputy took over; each numbers its own deliveries
);

-- Which leases serve which queues; these rows begin and end with the lease.
CREATE TABLE serving (
    queue INTEGER NOT NULL, lease INTEGER NOT NULL,
    PRIMARY KEY (queue, lease)
) WITHOUT ROWID;

CREATE TABLE claim (
    lease INTEGER NOT NULL,
    first INTEGER NOT NULL,      -- number of its first delivery
    messages TEXT NOT NULL,      -- JSON array of message ids; 0 where one has left the batch
    PRIMARY KEY (lease, first)
) WITHOUT ROWID;

-- The suspect of a queue that is out, and until when the next one waits.
CREATE TABLE trial (queue INTEGER PRIMARY KEY, message INTEGER NOT NULL, until INTEGER NOT NULL);

CREATE TABLE dead (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue INTEGER NOT NULL, priority INTEGER NOT NULL, crashes INTEGER NOT NULL,
    reason TEXT NOT NULL, at INTEGER NOT NULL, raw BLOB NOT NULL
);
CREATE INDEX dead_queue ON dead (queue, id);

CREATE TABLE revoked (task_id TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;

-- Consumers that found nothing and sleep, with the name of their bell (transport/bells.py).
CREATE TABLE idle (
    queue INTEGER NOT NULL, lease INTEGER NOT NULL, bell TEXT NOT NULL,
    PRIMARY KEY (queue, lease)
) WITHOUT ROWID;

-- Results. Numbered, with an index on the id: a table sorted by id would touch twice the pages.
CREATE TABLE result (
    id INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL UNIQUE,
    document BLOB NOT NULL,
    expires INTEGER
);
CREATE INDEX result_expires ON result (expires) WHERE expires IS NOT NULL;

CREATE TABLE saved_group (group_id TEXT PRIMARY KEY, document BLOB NOT NULL, expires INTEGER) WITHOUT ROWID;

-- Processes that wait for results, by the name of their bell.
CREATE TABLE watcher (bell TEXT PRIMARY KEY) WITHOUT ROWID;
"""

CHORDS: Final = """
-- Chords that were sent and are not forgotten. `size`: 0 while the header is still being streamed. `closer`:
-- the member that completed it. `closed`: its body was sent; only the closer is remembered.
CREATE TABLE chord (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chord_id TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    grown INTEGER NOT NULL DEFAULT 0,
    arrived INTEGER NOT NULL DEFAULT 0,
    body BLOB,
    closer TEXT,
    closed INTEGER NOT NULL DEFAULT 0,
    expires INTEGER
);
CREATE INDEX chord_expires ON chord (expires) WHERE expires IS NOT NULL;

-- Members that have arrived.
CREATE TABLE chord_part (
    id INTEGER PRIMARY KEY,
    chord INTEGER NOT NULL, task_id TEXT NOT NULL, position INTEGER, payload BLOB NOT NULL,
    UNIQUE (chord, task_id)
);

-- Members that a chord has grown by after it was sent.
CREATE TABLE chord_extra (
    chord INTEGER NOT NULL, task_id TEXT NOT NULL, PRIMARY KEY (chord, task_id)
) WITHOUT ROWID;
"""

#: version n -> the SQL that leads to n + 1.
MIGRATIONS: Final[dict[int, str]] = {0: SCHEMA, 1: CHORDS}


def prepare(connection: Connection, path: str, synchronous: str) -> None:
    """Set the connection up; create or migrate the tables. Repeated while the store is locked."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        _migrate(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise OperationalError(
            f"The task store {path} is on a file system where SQLite cannot use its write-ahead log "
            f"(journal mode stays {mode!r}); several processes could not share it. Put it on a local disk."
        )
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")


def _migrate(connection: Connection, path: str) -> None:
    connection.execute("BEGIN EXCLUSIVE")
    try:
        (version,) = connection.execute(
            "PRAGMA user_version"
        ).fetchone()  # another process may have been faster
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and owner != APPLICATION_ID:
            raise ImproperlyConfigured(
                f"{path} is a SQLite database of another program. The task store needs a file of its own: "
                "name one that does not exist yet in the URL (sqlite:////path/to/tasks.db)."
            )
        if version > VERSION:
            raise ImproperlyConfigured(
                f"{path} was written by a newer version of Celeriac (layout {version}, this one knows "
                f"{VERSION}). Upgrade Celeriac, or use another file."
            )
        for each in range(version, VERSION):
            for statement in MIGRATIONS[each].split(";\n"):  # executescript would commit first
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
