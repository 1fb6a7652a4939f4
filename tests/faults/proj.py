"""The application of the fault tests. Every body leaves a line in the journal at its start and at its end,
each by one O_APPEND write.

Configured by the environment: FAULTS_BROKER, FAULTS_BACKEND, FAULTS_JOURNAL. Runs under Celery too
(FAULTS_LIBRARY=celery), as the negative control.
"""

import asyncio
import os
import signal
import time

from tests.faults.lines import written

if os.environ.get("FAULTS_LIBRARY") == "celery":
    from celery import Celery as Application
else:
    from celeriac import Celeriac as Application

app = Application("faults", broker=os.environ["FAULTS_BROKER"], backend=os.environ.get("FAULTS_BACKEND"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue="faults",
    accept_content=["json", "yaml", "msgpack"],
)
app.conf.update(**eval(os.environ.get("FAULTS_CONF", "{}")))

_journal = -1


def note(what, key, pid, at):
    global _journal
    if _journal < 0:
        _journal = os.open(os.environ["FAULTS_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_journal, written(what, key, pid, at))


@app.task(name="record", bind=True)
def record(self, key, seconds=0.0):
    note("start", key, os.getpid(), time.time())
    if seconds:
        time.sleep(seconds)
    note("end", key, os.getpid(), time.time())
    return key


@app.task(name="witness")
def witness(key, seconds=0.0):
    """Its result names the process whose word was taken."""
    note("start", key, os.getpid(), time.time())
    time.sleep(seconds)
    note("end", key, os.getpid(), time.time())
    return os.getpid()


@app.task(name="report", bind=True)
def report(self, key, seconds=0.0, again=0):
    """Says how far it is, sleeps, says it `again` times; who ran it."""
    self.progress(1, 10, key)
    note("start", key, os.getpid(), time.time())
    time.sleep(seconds)
    for number in range(again):
        self.progress(number, again, str(os.getpid()))
        time.sleep(0.02)
    note("end", key, os.getpid(), time.time())
    return os.getpid()


@app.task(name="arecord")
async def arecord(key, seconds=0.0):
    note("start", key, os.getpid(), time.time())
    await asyncio.sleep(seconds)
    note("end", key, os.getpid(), time.time())
    return key


@app.task(name="add")
def add(x, y):
    return x + y


@app.task(name="hold")
def hold(key, seconds):
    """Holds the interpreter inside of C: no other Python code of this process runs meanwhile."""
    import ctypes

    note("start", key, os.getpid(), time.time())
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    note("end", key, os.getpid(), time.time())
    return key


@app.task(name="fail")
def fail(text="boom"):
    raise ValueError(text)


@app.task(name="poison")
def poison(key):
    """Kills the whole worker: its own process and the supervisor's."""
    note("start", key, os.getpid(), time.time())
    os.kill(
        int(os.environ["FAULTS_SUPERVISOR"]) if "FAULTS_SUPERVISOR" in os.environ else _supervisor(),
        signal.SIGKILL,
    )
    time.sleep(30)


def _supervisor() -> int:
    """The grandparent: body ← template ← supervisor."""
    with open(f"/proc/{os.getppid()}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


@app.task(name="die")
def die(key, how="kill"):
    note("start", key, os.getpid(), time.time())
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(7)
    elif how == "abort":
        os.abort()
    elif how == "segv":
        import ctypes

        ctypes.string_at(0)
    elif how == "sysexit":
        raise SystemExit(3)


@app.task(name="flaky", bind=True, max_retries=5)
def flaky(self, key, until=2, countdown=0):
    note("start", key, os.getpid(), time.time())
    if self.request.retries < until:
        raise self.retry(countdown=countdown)
    note("end", key, os.getpid(), time.time())
    return self.request.retries


@app.task(name="errback")
def errback(request_or_id, *rest):
    note("errback", getattr(request_or_id, "id", request_or_id), os.getpid(), time.time())


@app.task(name="echo")
def echo(value):
    return value
