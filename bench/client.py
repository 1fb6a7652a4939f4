"""The sending side of a trial, run in the contender's own environment: `python -m bench.client APP VERB …`.

Prints one line of JSON. Only the standard library and the contender's app are used.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from typing import Any


def single(app: Any, count: int) -> Any:
    """Messages per second, sent one by one."""
    for _ in range(min(200, count)):
        app.send_one()
    send = app.send_one
    begun = time.perf_counter()
    for _ in range(count):
        send()
    return count / (time.perf_counter() - begun)


def bulk(app: Any, count: int) -> Any:
    """Messages per second, sent together."""
    app.send_bulk(min(200, count))
    begun = time.perf_counter()
    app.send_bulk(count)
    return count / (time.perf_counter() - begun)


def tasks(app: Any, kind: str, count: int) -> Any:
    """Send tasks; nothing is measured."""
    app.send_tasks(kind, count)


def due(app: Any, count: int, at: float) -> Any:
    """Send tasks due at `at`; how many seconds are left when the last one is sent."""
    app.send_due(count, at)
    return at - time.time()


def prepare(app: Any) -> Any:
    """Make the tables or queues that the contender needs before anything is sent."""
    app.prepare()


def spread(app: Any, later: int, soon: int, after: float, span: float) -> Any:
    """Send `later` tasks due in an hour or so, then `soon` tasks due one after the other, `span` seconds in
    all, from `after` seconds later on. Returns when that is, and how long before it all were sent."""
    app.send_spread(later, time.time() + 3600, 600)
    begin = time.time() + after
    app.send_spread(soon, begin, span)
    return [begin, begin - time.time()]


def claims(app: Any, rounds: int, batch: int, waiting: int) -> Any:
    """Milliseconds of each of `rounds` claims of `batch` messages, with `waiting` more behind them."""
    app.fill(waiting)
    gc.collect()
    taken = []
    for number in range(rounds + 20):
        app.fill(batch)
        begun = time.perf_counter()
        app.claim(batch)
        if number >= 20:
            taken.append(1000 * (time.perf_counter() - begun))
    return taken


def trips(app: Any, count: int) -> Any:
    """Milliseconds of each of `count` round trips, one after the other."""
    trip = app.round_trip
    for _ in range(min(100, count)):
        trip()
    gc.collect()
    taken = []
    for _ in range(count):
        begun = time.perf_counter()
        trip()
        taken.append(1000 * (time.perf_counter() - begun))
    return taken


def waiting(app: Any, count: int) -> Any:
    """MB by which this process grows by `count` results that it waits for, until all are there and kept: in
    the end, and at most while it waited."""
    kept = [app.send_group(20)]
    app.wait_for_group(kept[0])
    gc.collect()
    before = _memory("VmRSS")
    kept.append(app.send_group(count))
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # from now on VmHWM is the peak of waiting, not of sending
    app.wait_for_group(kept[1])
    gc.collect()
    return [_memory("VmRSS") - before, _memory("VmHWM") - before]


def chord(app: Any, count: int) -> Any:
    """Seconds from sending a chord of `count` tasks until the result of its body is here."""
    app.run_chord(20)
    begun = time.perf_counter()
    app.run_chord(count)
    return time.perf_counter() - begun


def chain(app: Any, count: int) -> Any:
    """Seconds from sending a chain of `count` tasks until the result of the last is here."""
    app.run_chain(5)
    begun = time.perf_counter()
    app.run_chain(count)
    return time.perf_counter() - begun


def _memory(name: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))


def calls(app: Any, count: int) -> Any:
    """Python functions called by one `send_one()`, by file (`send_one` itself not counted)."""
    for _ in range(20):
        app.send_one()
    by_file: dict[str, dict[str, int]] = {}

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "call" and (code := frame.f_code).co_filename != app.__file__:
            functions = by_file.setdefault(code.co_filename, {})
            functions[code.co_qualname] = functions.get(code.co_qualname, 0) + 1

    gc.disable()
    sys.setprofile(profile)
    try:
        for _ in range(count):
            app.send_one()
    finally:
        sys.setprofile(None)
    return by_file


VERBS = {
    verb.__name__: verb
    for verb in (
        prepare,
        single,
        bulk,
        tasks,
        due,
        spread,
        trips,
        calls,
        claims,
        waiting,
        chord,
        chain,
    )
}


def main() -> None:
    name, verb, *words = sys.argv[1:]
    arguments = [json.loads(word) for word in words]
    json.dump(VERBS[verb](importlib.import_module(name), *arguments), sys.stdout)


if __name__ == "__main__":
    main()
