"""The raw loop on PostgreSQL with psycopg 3 (`python -m … PROCESSES`)."""

from __future__ import annotations

import os
import time
import uuid

import msgspec
import psycopg

from bench import pages, site
from bench.forks import fork

BATCH = 100
TABLES = """
CREATE TABLE bench (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    holder int,
    body bytea NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX bench_waiting ON bench (id) WHERE holder IS NULL;
CREATE TABLE result (id text PRIMARY KEY, document bytea NOT NULL);
"""
TAKE = """
WITH taken AS (
    SELECT id FROM bench WHERE holder IS NULL ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
)
UPDATE bench SET holder = %s FROM taken WHERE bench.id = taken.id RETURNING bench.id, bench.body
"""
DROP = "DELETE FROM bench WHERE id = ANY(%s)"
STORE = "INSERT INTO result SELECT * FROM unnest(%s::text[], %s::bytea[])"
INSERT_ONE = "INSERT INTO bench (body) VALUES (%s)"
INSERT_MANY = "INSERT INTO bench (body) SELECT unnest(%s::bytea[])"
CLONE = "INSERT INTO bench (body) SELECT %s::bytea FROM generate_series(1, %s)"

TASK = "bench.contenders.raw_postgres.app.noop"
MESSAGE = (
    """
{"headers": {"lang": "py", "task": "TASK", "id": "ID", "shadow": null, "eta": null, "expires": null,
"group": null, "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "ID",
"parent_id": null, "argsrepr": "()", "kwargsrepr": "{}", "origin": "gen1@bench", "ignore_result": true,
"replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}},
"body": [[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]}
""".strip()
    .replace("\n", " ")
    .replace("TASK", TASK)
)
FIXED = MESSAGE.replace("ID", str(uuid.uuid4())).encode()


class Headers(msgspec.Struct):
    """The fields of a task message that the loop reads."""

    task: str
    id: str


class Envelope(msgspec.Struct):
    """A message in the table."""

    body: tuple[list, dict, dict]
    headers: Headers


decode = msgspec.json.Decoder(Envelope).decode


def connect():
    return psycopg.connect(site.BROKER, autocommit=True)


_connection = None
_held: list[int] = []


def client():
    global _connection
    if _connection is None:
        _connection = connect()
    return _connection


def prepare():
    client().execute(TABLES)


def send_one():
    client().execute(INSERT_ONE, (FIXED,))


def send_bulk(count):
    for begin in range(0, count, BATCH):
        client().execute(INSERT_MANY, ([FIXED] * min(BATCH, count - begin),))


def send_tasks(kind, count):
    names = [MESSAGE.replace("ID", str(uuid.uuid4())).encode() for _ in range(count)]
    client().execute(INSERT_MANY, (names,))


def fill(count):
    if count > BATCH:
        client().execute(CLONE, (FIXED, count))
        client().execute("VACUUM (ANALYZE) bench")
    elif count:
        send_bulk(count)


def claim(count):
    global _held
    _held = [row[0] for row in take(client(), os.getpid(), count, _held, {})]


def take(connection, number, count, held, results):
    """Drop what is held, store results, take more: one transaction, one trip."""
    with connection.pipeline(), connection.transaction():
        if held:
            connection.execute(DROP, (held,))
        if results:
            connection.execute(STORE, (list(results), list(results.values())))
        taken = connection.execute(TAKE, (count, number), binary=True)
    return taken.fetchall()


def noop():
    pages.hit()
    return 1


TASKS = {TASK: noop}


def work(number):
    """Take, run, store, for ever; look again after 2 ms when there was nothing."""
    connection = connect()
    connection.prepare_threshold = 0
    held, results = [], {}
    while True:
        taken = take(connection, number, BATCH, held, results)
        held, results = [], {}
        for at, body in taken:
            one = decode(body)
            args, kwargs, _ = one.body
            value = TASKS[one.headers.task](*args, **kwargs)
            held.append(at)
            if site.RESULTS:
                results[one.headers.id] = b'{"status": "SUCCESS", "result": %d, "traceback": null}' % value
        if not taken:
            time.sleep(0.002)


if __name__ == "__main__":
    fork(work)
