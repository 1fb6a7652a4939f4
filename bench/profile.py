"""`python -m bench.profile`: where the time goes.

1. `calls`: Python functions and files that one `delay()` passes through, by contender (`--list`: by file).
2. `worker`: the processor time of one drained task, by process and thread (the kernel's account of a plain
   run), then the functions of one child of ours, by thread (cProfile, from a second run).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import environments
from bench.contender import Contender, Shape, all_contenders
from bench.trial import Counts, Trial

SENDS = 100
CALLS = Mapping[str, Mapping[str, int]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("what", choices=["calls", "worker"])
    parser.add_argument("--contenders", default="celeriac,celery,dramatiq,huey,potatoq")
    parser.add_argument("--list", action="store_true", help="calls: every file and function")
    parser.add_argument("--results", action="store_true", help="worker: with results stored")
    parser.add_argument("--tasks", type=int, default=20_000, help="worker: tasks to drain (default 20,000)")
    parser.add_argument("--processes", type=int, default=1, help="worker: processes (default 1)")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="worker: see bench/probe.py")
    parser.add_argument("--top", type=int, default=30, help="worker: functions a thread (default 30)")
    options = parser.parse_args()
    chosen = [contender for contender in all_contenders() if contender.name in options.contenders.split(",")]
    for contender in chosen:
        python = environments.python_of(contender)
        if options.what == "calls":
            _print_calls(contender, calls_per_send(contender, python), listed=options.list)
        else:
            print(f"{contender.name}: processor time of one task, µs")
            print("\n".join(threads_of_drain(contender, python, options)))
            if contender.name.startswith("celeriac"):
                print("\n".join(functions_of_drain(contender, python, options)))


def calls_per_send(contender: Contender, python: Path) -> dict[str, dict[str, float]]:
    """Python calls of one `delay()` by file and function, averaged over many."""
    with Trial(contender, python, Counts()) as trial:
        counted: CALLS = trial.client("calls", SENDS)
    return {
        file: {function: calls / SENDS for function, calls in functions.items()}
        for file, functions in counted.items()
    }


def _print_calls(contender: Contender, by_file: Mapping[str, Mapping[str, float]], *, listed: bool) -> None:
    total = sum(sum(functions.values()) for functions in by_file.values())
    print(f"{contender.name}: {total:.1f} Python calls in {len(by_file)} files per delay()")
    if not listed:
        return
    for file, functions in sorted(by_file.items(), key=lambda item: -sum(item[1].values())):
        print(f"  {sum(functions.values()):6.1f}  {'/'.join(Path(file).parts[-3:])}")
        for function, calls in sorted(functions.items(), key=lambda item: -item[1]):
            print(f"          {calls:6.2f}  {function}")


def threads_of_drain(contender: Contender, python: Path, options: argparse.Namespace) -> list[str]:
    """Lines of processor time per task, from the first execution to the last, by process and thread."""
    with Trial(contender, python, Counts()) as trial:
        trial.switch_on(results=options.results)
        trial.client("tasks", "noop", options.tasks)
        trial.start_worker(Shape(processes=options.processes))
        begun = trial.wait_for(1).executions
        before = _threads(trial)
        done = trial.wait_for(options.tasks)
        after = _threads(trial)
    rate = (options.tasks - 1) / (done.last - done.first)
    spent = {thread: after[thread] - before.get(thread, 0) for thread in after}
    tasks = max(1, options.tasks - begun)
    dearest = sorted(spent.items(), key=lambda item: -item[1])
    lines = [f"  {value / 1000 / tasks:8.2f}  {thread}" for thread, value in dearest]
    together = sum(spent.values()) / 1000 / tasks
    return [*lines, f"  {together:8.2f}  together; {rate:,.0f} tasks/s, by process {done.by_process}"]


def _threads(trial: Trial) -> dict[str, int]:
    """Nanoseconds on a processor of every thread of the worker and of the broker."""
    spent = {}
    for pid in [*trial.worker_tree(), *trial.broker_pids()]:
        for thread in os.listdir(f"/proc/{pid}/task"):
            base = Path(f"/proc/{pid}/task/{thread}")
            role = "main" if thread == str(pid) else "thread"
            name = (base / "comm").read_text().strip()
            spent[f"{pid} {name} {role} {thread}"] = int((base / "schedstat").read_text().split()[0])
    return spent


def functions_of_drain(contender: Contender, python: Path, options: argparse.Namespace) -> list[str]:
    """Lines of one child's costliest functions, by thread, in µs per task under the profiler."""
    at = int(options.tasks / options.processes * 0.8)
    with tempfile.TemporaryDirectory() as folder:
        watched = contender._replace(
            variables=(
                *contender.variables,
                ("BENCH_PROFILE", folder),
                ("BENCH_PROFILE_AT", str(at)),
                ("BENCH_PROFILE_CLOCK", options.clock),
            )
        )
        with Trial(watched, python, Counts()) as trial:
            trial.switch_on(results=options.results)
            trial.client("tasks", "noop", options.tasks)
            trial.start_worker(Shape(processes=options.processes))
            trial.wait_for(options.tasks)
        found = sorted(Path(folder).glob("*.json"))
        if not found:
            return ["  no child ran enough tasks to write a profile"]
        rows: list[tuple[str, str, int, float]] = json.loads(found[0].read_text())
    return _costliest(rows, at, options.top)


def _costliest(rows: Sequence[tuple[str, str, int, float]], tasks: int, top: int) -> list[str]:
    lines = []
    for thread in dict.fromkeys(row[0] for row in rows):
        mine = sorted((row for row in rows if row[0] == thread), key=lambda row: -row[3])
        total = sum(row[3] for row in mine)
        lines.append(f"  thread {thread}: {1e6 * total / tasks:.2f} µs a task under the profiler")
        lines += [
            f"    {1e6 * spent / tasks:7.2f} µs  {calls / tasks:6.2f} x  {label}"
            for _, label, calls, spent in mine[:top]
        ]
    return lines


if __name__ == "__main__":
    main()
