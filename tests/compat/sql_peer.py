"""Celery's SQL result store, used by Celery's own interpreter: one scenario from argv, one JSON line out.

Knows nothing of this repository. ``sql_peer.py URL SCENARIO [WORD…]``.
"""

import json
import pickle
import sys
from datetime import UTC, datetime

import sqlalchemy as sa
from celery import Celery, states
from celery.exceptions import Retry, TaskRevokedError
from celery.result import AsyncResult, GroupResult
from results_peer import Request, read, save_group

url, scenario, *words = sys.argv[1:]
app = Celery("peer", broker="memory://", backend=f"db+{url}")

EXTENDED = (
    ", name VARCHAR(155), args {bytes}, kwargs {bytes}, worker VARCHAR(155), retries INTEGER, "
    "queue VARCHAR(155)"
)


def request(*children):
    return Request(app, children, args=(1, 2), kwargs={"a": datetime(2030, 1, 2)})


def write():
    """Rows of every state, as this version writes them."""
    app.conf.result_extended = words == ["extended"]
    store = app.backend.store_result
    store("success", {"x": [1, "ü"]}, states.SUCCESS, request=request("child-1", "child-2"))
    store("date", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), states.SUCCESS)
    store("none", None, states.SUCCESS)
    store("failure", ValueError("bad", 3), states.FAILURE, traceback="the traceback", request=request())
    store("retry", Retry("again", ValueError("first")), states.RETRY, traceback="text")
    store("revoked", TaskRevokedError("revoked"), states.REVOKED)
    store("started", {"pid": 1, "hostname": "w1"}, states.STARTED, request=request())
    store("progress", {"done": 5}, "PROGRESS")
    save_group(app)
    return True


def old():
    """Tables and rows of Celery up to 5.6, with or without the columns of `result_extended`."""
    engine = sa.create_engine(url)
    pg = engine.dialect.name == "postgresql"
    kind = {"bytes": "BYTEA" if pg else "BLOB"}
    number = "id INTEGER PRIMARY KEY" + ("" if pg else " AUTOINCREMENT")
    when = "TIMESTAMP" if pg else "DATETIME"
    more = EXTENDED.format(**kind) if words == ["extended"] else ""
    with engine.begin() as connection:
        if pg:
            connection.execute(sa.text("CREATE SEQUENCE task_id_sequence"))
            connection.execute(sa.text("CREATE SEQUENCE taskset_id_sequence"))
        connection.execute(
            sa.text(
                f"CREATE TABLE celery_taskmeta ({number}, task_id VARCHAR(155) UNIQUE, status VARCHAR(50), "
                f"result {kind['bytes']}, date_done {when}, traceback TEXT{more})"
            )
        )
        connection.execute(
            sa.text(
                f"CREATE TABLE celery_tasksetmeta ({number}, taskset_id VARCHAR(155) UNIQUE, "
                f"result {kind['bytes']}, date_done {when})"
            )
        )
        rows = [
            ("success", "SUCCESS", {"x": [1, "ü"], "when": datetime(2030, 1, 2, tzinfo=UTC)}, None),
            ("none", "SUCCESS", None, None),
            ("failure", "FAILURE",
             {"exc_type": "ValueError", "exc_message": ("bad", 3), "exc_module": "builtins"},
             "the traceback"),
            ("exception", "FAILURE", KeyError("k"), "text"),
            ("evil", "SUCCESS", sys.exit, None),
        ]  # fmt: skip
        next_id = "nextval('task_id_sequence')" if pg else "NULL"
        for task_id, status, value, traceback in rows:
            connection.execute(
                sa.text(
                    "INSERT INTO celery_taskmeta (id, task_id, status, result, date_done, traceback) "
                    f"VALUES ({next_id}, :i, :s, :r, :d, :t)"
                ),
                {
                    "i": task_id,
                    "s": status,
                    "r": pickle.dumps(value),
                    "d": datetime(2026, 1, 2),
                    "t": traceback,
                },
            )
        if more:
            connection.execute(
                sa.text("UPDATE celery_taskmeta SET name = 'proj.add', args = :a, kwargs = :k, retries = 1"),
                {"a": b"[1, 2]", "k": b"{}"},
            )
        # Of another store: this one would make its own tables when it is pickled.
        other = Celery("other", broker="memory://", backend="cache+memory://")
        group = GroupResult("group", [AsyncResult("success", app=other)], app=other)
        connection.execute(
            sa.text(
                "INSERT INTO celery_tasksetmeta (id, taskset_id, result, date_done) "
                f"VALUES ({next_id.replace('task', 'taskset')}, 'group', :r, :d)"
            ),
            {"r": pickle.dumps(group), "d": datetime(2026, 1, 2)},
        )
    return True


def read_rows():
    """What Celery makes of rows that somebody else wrote."""
    app.conf.result_extended = True
    return read(app, words)


def raw():
    """The column `result` of a row, as it stands."""
    with sa.create_engine(url).connect() as connection:
        query = sa.text("SELECT result FROM celery_taskmeta WHERE task_id = :i")
        return bytes(connection.execute(query, {"i": words[0]}).scalar()).hex()


if __name__ == "__main__":
    print(json.dumps({"write": write, "old": old, "read": read_rows, "raw": raw}[scenario]()))
