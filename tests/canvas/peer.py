"""A client that sends trees and tells what came of them; Celery's interpreter runs it, and ours.

Reads JSON from stdin: {"runs": [[run, tree], …], "quiet": seconds}; prints JSON: for each run what its result
says. Waits until all are there or nothing has been written into the journal for `quiet` seconds.
"""

import json
import os
import sys
import time

from tests.canvas.proj import build
from tests.canvas.tree import load


def outcome(result):
    """The value of a result, or the name of its exception, or its state when it is not there."""
    if hasattr(result, "results"):
        return ["group", [outcome(one) for one in result.results]]
    if not result.ready():
        return ["pending", result.state]
    if result.state == "SUCCESS":
        return ["value", result.result]
    return ["failed", result.state, type(result.result).__name__, str(result.result)[:200]]


def ready(result):
    return result.ready()


def send(runs):
    sent = {}
    for run, tree in runs:
        try:
            sent[run] = build(load(tree), run).apply_async()
        except Exception as exc:
            sent[run] = exc
    return sent


def wait(sent, quiet):
    path = os.environ["FAULTS_JOURNAL"]
    size, since = -1, time.monotonic()
    open_runs = {run: result for run, result in sent.items() if not isinstance(result, Exception)}
    while open_runs and time.monotonic() - since < quiet:
        open_runs = {run: result for run, result in open_runs.items() if not result.ready()}
        now = os.stat(path).st_size
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(0.05)
    size, since = -1, time.monotonic()
    while time.monotonic() - since < min(quiet, 1.0):  # links and errbacks have no result that is waited for
        now = os.stat(path).st_size
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(0.05)


def main():
    given = json.load(sys.stdin)
    sent = send(given["runs"])
    wait(sent, given["quiet"])
    found = {
        run: ["raised", type(result).__name__, str(result)[:300]]
        if isinstance(result, Exception)
        else outcome(result)
        for run, result in sent.items()
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
