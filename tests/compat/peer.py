"""A Celery client, run by Celery's own interpreter: reads one scenario from argv, prints one JSON line.

Knows nothing of this repository except the task names.
"""

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta

from celery import Celery, chord, group
from kombu import Exchange

app = Celery("peer", broker=os.environ["FAULTS_BROKER"], backend=os.environ["FAULTS_BACKEND"])
CONF = eval(os.environ.get("FAULTS_CONF", "{}"))
app.conf.update(task_default_queue="faults", result_extended=False, **CONF)


def plain():
    return app.send_task("add", (2, 3)).get(timeout=20)


def keywords():
    return app.send_task("add", kwargs={"x": 4, "y": 5}).get(timeout=20)


def countdown():
    begun = time.time()
    value = app.send_task("add", (1, 1), countdown=1.5).get(timeout=20)
    return [value, time.time() - begun]


def eta():
    begun = time.time()
    value = app.send_task("add", (1, 1), eta=datetime.now(UTC) + timedelta(seconds=1.5)).get(timeout=20)
    return [value, time.time() - begun]


def expires():
    result = app.send_task("record", ("expired",), expires=datetime.now(UTC) - timedelta(seconds=5))
    try:
        result.get(timeout=20)
    except Exception as exc:
        return [type(exc).__name__, result.state]
    return ["ran", result.state]


def lapsed():
    """An expired call, then another one behind it in the same queue."""
    app.send_task(
        "record", ("expired",), expires=datetime.now(UTC) - timedelta(seconds=5), ignore_result=True
    )
    return app.send_task("add", (2, 3)).get(timeout=20)


def error():
    result = app.send_task("fail", ("no way",))
    try:
        result.get(timeout=20)
    except Exception as exc:
        return [type(exc).__name__, str(exc), result.state, "fail" in (result.traceback or "")]
    return "no error"


def progress():
    """What a client sees of a task of ours that says how far it is."""
    told = []
    result = app.send_task("report", ("reading", 2.0))
    deadline = time.time() + 20
    while result.state != "PROGRESS" and time.time() < deadline:
        time.sleep(0.02)
    seen = [result.state, result.info]
    result.get(timeout=20, on_message=lambda body: told.append(body["status"]))
    return [*seen, result.state, told[-1:]]


def retry():
    return app.send_task("flaky", ("peer",), {"until": 2, "countdown": 0}).get(timeout=20)


def priority():
    urgent, idle = int(sys.argv[2]), int(sys.argv[3])
    for number in range(3):
        app.send_task("record", (f"low{number}",), priority=idle, ignore_result=True)
    for number in range(3):
        app.send_task("record", (f"high{number}",), priority=urgent, ignore_result=True)
    return True


def members():
    return group(app.signature("add", (number, 1)) for number in range(5)).apply_async().get(timeout=20)


def link_error():
    result = app.send_task("fail", ("no way",), link_error=app.signature("errback"))
    result.get(timeout=20, propagate=False)
    return result.id


def named():
    app.send_task("record", (sys.argv[2],), task_id=sys.argv[2])
    return True


def routed():
    """Calls sent to an exchange: argv holds the task, the exchange and its type, then routing keys."""
    name, exchange, kind, *keys = sys.argv[2:]
    known = [Exchange(exchange, type=kind)]
    for key in keys:
        app.send_task(name, (key,), exchange=exchange, routing_key=key, declare=known, ignore_result=True)
    return True


def link():
    result = app.send_task("add", (2, 2), link=app.signature("add", (10,)))
    value = result.get(timeout=20)
    deadline = time.time() + 20
    while not result.children and time.time() < deadline:
        result = app.AsyncResult(result.id)
        time.sleep(0.05)
    return value


def chain():
    steps = app.signature("add", (1, 1)) | app.signature("add", (10,)) | app.signature("add", (100,))
    return steps.apply_async().get(timeout=20)


def chords():
    """Chords of several shapes; what their bodies came to."""
    add, echo = app.signature("add"), app.signature("echo")
    plain = chord([add.clone((number, 1)) for number in range(20)], echo)
    chains = chord([add.clone((1, 1)), add.clone((1, 1)) | add.clone((10,))], echo)
    inner = chord([chord([add.clone((1, 1)), add.clone((2, 2))], echo), add.clone((3, 3))], echo)
    flat = chord([group([add.clone((1, 1)), add.clone((2, 2))]), add.clone((3, 3))], echo)
    longer = add.clone((1, 1)) | group([add.clone((1,)), add.clone((2,))]) | echo
    return [shape.apply_async().get(timeout=20) for shape in (plain, chains, inner, flat, longer)]


def uneven():
    """A member that is itself a chain with a group at its end."""
    add, echo = app.signature("add"), app.signature("echo")
    header = [add.clone((1, 1)) | group([add.clone((1,)), add.clone((2,))]), add.clone((3, 3))]
    return chord(header, echo).apply_async().get(timeout=20)


def broken_chord():
    body = app.signature("echo").on_error(app.signature("errback"))
    result = chord([app.signature("add", (1, 1)), app.signature("fail", ("no way",))], body).apply_async()
    result.get(timeout=20, propagate=False)
    return [result.state, type(result.result).__name__, str(result.result).partition(" ")[0], result.id]


def serializers():
    return [app.send_task("add", (1, 2), serializer=name).get(timeout=20) for name in ("yaml", "msgpack")]


def compressed():
    return [app.send_task("add", (1, 2), compression=name).get(timeout=20) for name in ("gzip", "bzip2")]


def pickled():
    app.send_task("add", (1, 2), serializer="pickle", task_id="pickled")
    return app.send_task("add", (2, 2)).get(timeout=20)


def dates():
    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    return app.send_task("echo", (moment,)).get(timeout=20) == moment


def protocol_1():
    app.conf.task_protocol = 1
    fresh = Celery("old", broker=os.environ["FAULTS_BROKER"], backend=os.environ["FAULTS_BACKEND"])
    fresh.conf.update(task_default_queue="faults", task_protocol=1, **CONF)
    return fresh.send_task("add", (3, 4)).get(timeout=20)


def many():
    count = int(sys.argv[2])
    for number in range(count):
        app.send_task("record", (f"{sys.argv[3]}{number}",), ignore_result=True)
    return count


def state():
    result = app.AsyncResult(sys.argv[2])
    return [result.state, repr(result.result)]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
