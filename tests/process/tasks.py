"""The application of the worker tests: bodies that do what bodies should not, and leave lines in a journal.

Each line is one O_APPEND write: what, key, pid, epoch seconds. Configured by the environment that
`tests.faults.harness.environment` makes.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from functools import wraps
from typing import Any

from tests.faults.lines import written

from celeriac import Celeriac, signals
from celeriac.exceptions import Ignore, Reject, SoftTimeLimitExceeded

app = Celeriac("tasks", broker=os.environ["FAULTS_BROKER"], backend=os.environ.get("FAULTS_BACKEND"))
app.conf.update(task_default_queue="faults")
app.conf.update(**eval(os.environ.get("FAULTS_CONF", "{}")))
switches = os.environ.get("TASKS_SWITCHES", "").split()
kept: list[Any] = []

if "thread" in switches:  # makes forking unsafe
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def note(what: str, key: Any) -> None:
    fd = os.open(os.environ["FAULTS_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, written(what, key, os.getpid(), time.time()))
    os.close(fd)


if "signals" in switches:

    @signals.worker_ready.connect
    def ready(sender: Any, **_: Any) -> None:
        note("worker_ready", sender)

    @signals.worker_shutting_down.connect
    def shutting_down(sig: str, how: str, exitcode: int, **_: Any) -> None:
        note("worker_shutting_down", f"{sig}/{how}/{exitcode}")

    @signals.worker_shutdown.connect
    def shutdown(sender: Any, **_: Any) -> None:
        time.sleep(0.3)
        note("worker_shutdown", sender)

    @signals.worker_process_init.connect
    def process_init(**_: Any) -> None:
        note("worker_process_init", "-")

    @signals.worker_process_shutdown.connect
    def process_shutdown(**_: Any) -> None:
        note("worker_process_shutdown", "-")


if "die" in switches:

    @signals.worker_process_init.connect
    def die_at_birth(**_: Any) -> None:
        note("born", "-")
        os._exit(9)


@app.task(name="add")
def add(x: int, y: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return x + y


@app.task(name="pid")
def pid() -> int:
    return os.getpid()


@app.task(name="record", bind=True)
def record(self: Any, key: str, seconds: float = 0.0) -> str:
    note("start", key)
    time.sleep(seconds)
    note("end", key)
    return key


@app.task(name="arecord")
async def arecord(key: str, seconds: float = 0.0) -> str:
    note("start", key)
    await asyncio.sleep(seconds)
    note("end", key)
    return key


@app.task(name="errback")
def errback(failed: str) -> None:
    note("errback", failed)


@app.task(name="dies")
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# -- chords -----------------------------------------------------------------------------------------------


@app.task(name="replaced", bind=True)
def replaced(self: Any, x: int) -> Any:
    return self.replace(add.s(x, 1))


@app.task(name="adds_more", bind=True)
def adds_more(self: Any, x: int) -> int:
    self.add_to_chord(add.s(x, 100))
    return x


@app.task(name="body")
def body(values: list[Any]) -> list[Any]:
    note("body", len(values))
    return values


# -- time limits ------------------------------------------------------------------------------------------


@app.task(name="spin")
def spin(seconds: float) -> None:
    """Busy in Python, so that a soft limit reaches it in every pool."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@app.task(name="aspin")
async def aspin(seconds: float) -> None:
    await asyncio.sleep(seconds)


@app.task(name="catches")
def catches(seconds: float) -> str:
    try:
        spin.run(seconds)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "not limited"


@app.task(name="acatches")
async def acatches(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        await asyncio.sleep(0.2)
        return "cleaned up"
    return "not limited"


@app.task(name="swallows")
def swallows() -> None:
    while True:
        try:
            spin.run(60)
        except BaseException:
            note("swallowed", "-")


@app.task(name="aswallows")
async def aswallows() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            note("swallowed", "-")


@app.task(name="holds_gil")
def holds_gil(seconds: int) -> None:
    ctypes.PyDLL(None).sleep(seconds)


@app.task(name="ablocks")
async def ablocks(seconds: float) -> None:
    time.sleep(seconds)


# -- ends -------------------------------------------------------------------------------------------------


class NeedsArguments(Exception):
    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(code)
        self.reason = reason


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Irreducible(Exception):
    def __init__(self) -> None:
        super().__init__(threading.Lock())

    def __reduce__(self) -> Any:
        raise RuntimeError("not picklable")


def _raise(kind: str) -> None:
    if kind == "needs":
        raise NeedsArguments(7, reason="x")
    if kind == "unprintable":
        raise Unprintable("x")
    if kind == "irreducible":
        raise Irreducible
    if kind == "group":
        raise ExceptionGroup("several", [ValueError("a"), Unprintable("b")])
    if kind == "cycle":
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first
    if kind == "huge":
        raise ValueError("x" * 10_000_000)
    if kind == "local":

        class Local(Exception):
            pass

        raise Local("here")
    if kind == "exit":
        raise SystemExit(3)
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "generator":
        raise GeneratorExit
    if kind == "cancelled":
        raise asyncio.CancelledError
    if kind == "recursion":
        _raise(kind)
    if kind == "ignore":
        raise Ignore
    if kind == "reject":
        raise Reject("no good")
    raise ValueError(kind)


@app.task(name="raises")
def raises(kind: str) -> None:
    _raise(kind)


@app.task(name="araises")
async def araises(kind: str) -> None:
    await asyncio.sleep(0)
    _raise(kind)


@app.task(name="araises_inside")
async def araises_inside(kind: str) -> None:
    """In a task of its own: asyncio lets SystemExit out of the loop."""

    async def inner() -> None:
        await asyncio.sleep(0)
        _raise(kind)

    await asyncio.gather(inner())


@app.task(name="returns")
def returns(what: str) -> Any:
    if what == "lock":
        return threading.Lock()
    if what == "circle":
        circle: list[Any] = []
        circle.append(circle)
        return circle
    if what == "deep":
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        return deep
    if what == "surrogate":
        return "\ud800"
    return "x" * int(what)


@app.task(name="echo")
def echo(value: Any) -> Any:
    return len(value) if isinstance(value, str) else value


def in_a_loop_of_its_own(function: Any) -> Any:
    @wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return inner


def handed_back(function: Any) -> Any:
    @wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


@app.task(name="wrapped")
@in_a_loop_of_its_own
async def wrapped(value: int) -> int:
    await asyncio.sleep(0)
    return value + 1


@app.task(name="passed")
@handed_back
async def passed(value: int) -> int:
    await asyncio.sleep(0)
    return value + 1


# -- mischief ---------------------------------------------------------------------------------------------


@app.task(name="mischief", bind=True)
def mischief(self: Any, what: str) -> Any:
    if what == "fds":
        os.closerange(0, 1024)
    elif what == "output":
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            assert stream is not None
            stream.write("noise " * 200_000 + "\n")
        os.write(1, b"raw noise\n" * 10_000)
    elif what == "signals":
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
    elif what == "cwd":
        os.chdir("/")
        os.umask(0o777)
        os.environ.clear()
    elif what == "threads":
        for _ in range(20):
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        threading.Thread(target=time.sleep, args=(600,)).start()
    elif what == "gc":
        gc.disable()
        sys.setrecursionlimit(100)
    elif what == "stdin":
        return sys.stdin.read()
    elif what == "parent":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)
    elif what == "group":
        os.killpg(0, signal.SIGTERM)
    return what


@app.task(name="grandchild")
def grandchild(key: str, seconds: float) -> None:
    process = subprocess.Popen(["sleep", "600"])
    note("grandchild", process.pid)
    time.sleep(seconds)


@app.task(name="terminates")
def terminates() -> int:
    """SIGTERM must reach what a task starts, whatever its own process makes of it."""
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(10)
    started = subprocess.Popen(["sleep", "60"])
    started.terminate()
    started.wait(10)
    assert process.exitcode is not None
    return process.exitcode + started.returncode


@app.task(name="mutates", bind=True, max_retries=2)
def mutates(self: Any, numbers: list[int], table: dict[str, int]) -> Any:
    seen = (list(numbers), dict(table))
    numbers.append(len(numbers))
    table["more"] = 1
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return seen


@app.task(name="leaks")
def leaks(megabytes: int) -> int:
    kept.append(b"x" * (megabytes << 20))
    return os.getpid()


# -- retries ----------------------------------------------------------------------------------------------


@app.task(name="gives_up", bind=True, max_retries=2)
def gives_up(self: Any, key: str) -> None:
    note("try", key)
    try:
        raise ValueError("never works")
    except ValueError as exc:
        raise self.retry(exc=exc, countdown=0) from exc


@app.task(
    name="auto", bind=True, autoretry_for=(ValueError,), retry_kwargs={"max_retries": 2, "countdown": 0}
)
def auto(self: Any, key: str) -> None:
    note("try", key)
    raise ValueError("never works")


@app.task(name="later", bind=True)
def later(self: Any, key: str, countdown: float) -> Any:
    note(f"try{self.request.retries}", key)
    if not self.request.retries:
        raise self.retry(countdown=countdown)
    request = self.request
    return {
        "queue": request.delivery_info["routing_key"],
        "priority": request.delivery_info["priority"],
        "mine": request.get("mine"),
        "retries": request.retries,
        "id": request.id,
    }
