"""The demo: measure Python's standard library with real worker processes on the embedded store.

1. Start `celeriac worker` as a process of its own.
2. Send a chord: one task for each file, and one that sums up when the last of them is done. Send one task
   that fails on its first try, and one that is to run two seconds from now.
3. Watch the results come in; print the summary.
4. Stop the worker, and complain about anything that is not as it should be.

    python examples/codebase/run.py [--limit FILES] [--concurrency PROCESSES]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measure import Summary

HERE = Path(__file__).parent
DELAY = 2.0  #: seconds ahead that the scheduled task is sent
PATIENCE = 120.0  #: seconds after which a missing result is an error


def library_files(limit: int | None) -> list[str]:
    """Every .py file of the standard library, as paths inside it."""
    from tasks import LIBRARY

    found = sorted(
        str(path.relative_to(LIBRARY))
        for path in LIBRARY.rglob("*.py")
        if "site-packages" not in path.parts and "dist-packages" not in path.parts
    )
    return found[:limit]


def start_worker(folder: Path, concurrency: int) -> subprocess.Popen[bytes]:
    """Start `celeriac worker` on the embedded store of `folder`."""
    command = [
        sys.executable,
        "-m",
        "celeriac",
        "-A",
        "tasks",
        "worker",
        "-c",
        str(concurrency),
        "-l",
        "info",
    ]
    with open(folder / "worker.log", "wb") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def stop_worker(worker: subprocess.Popen[bytes]) -> str:
    """Ask the worker to finish; say what was wrong, or nothing."""
    if worker.poll() is None:
        worker.send_signal(signal.SIGTERM)
    try:
        code = worker.wait(timeout=20)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
        return "the worker did not stop within 20 s of TERM"
    return "" if code == 0 else f"the worker ended with exit code {code}"


def table(rows: list[tuple[str, ...]], right: set[int]) -> str:
    """`rows` in aligned columns; the first one is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([f"  {lines[0]}", f"  {'─' * len(lines[0])}", *(f"  {line}" for line in lines[1:])])


def in_words(found: Summary, seconds: float, concurrency: int) -> str:
    """The ten files with the most complex functions, and the totals."""
    names = ("path", "lines", "functions", "classes", "nesting", "complexity", "most_complex")
    rows = [("file", "lines", "functions", "classes", "nesting", "complexity", "most complex function")]
    rows += [tuple(str(one[name]) for name in names) for one in found["top"]]  # type: ignore[literal-required]
    return (
        f"{table(rows, right={1, 2, 3, 4, 5})}\n\n"  # type: ignore[arg-type]
        f"  {found['files']:,} files, {found['lines']:,} lines, {found['functions']:,} functions, "
        f"{found['classes']:,} classes; {found['broken']} are broken on purpose\n"
        f"  {seconds:.1f} s with {concurrency} processes: {found['files'] / seconds:,.0f} tasks/s"
    )


class WorkerEnded(Exception):
    """The worker is gone, so waiting is in vain."""


def run(worker: subprocess.Popen[bytes], limit: int | None, concurrency: int) -> list[str]:
    """Do everything; return what was not as it should be."""
    from tasks import app, measure, stumble, summarise, wake_up

    from celeriac import chord

    files = library_files(limit)
    print(
        f"celeriac demo: {len(files):,} files of {sys.version.split()[0]}'s standard library, "
        f"{concurrency} worker processes, store {app.conf.broker_url}"
    )
    wrong: list[str] = []
    started = time.monotonic()
    asked_at = time.time()
    scheduled = wake_up.apply_async(countdown=DELAY)
    stumbling = stumble.delay()
    summary = chord([measure.s(name) for name in files], summarise.s()).apply_async()

    def look_at_worker() -> None:
        if worker.poll() is not None:
            raise WorkerEnded

    summary.parent.watch(timeout=PATIENCE, label="files", file=sys.stdout, on_interval=look_at_worker)
    found = summary.get(timeout=PATIENCE, on_interval=look_at_worker)
    seconds = time.monotonic() - started
    print(f"\n{in_words(found, seconds, concurrency)}\n")

    retries = stumbling.get(timeout=PATIENCE)
    print(f"  the task that failed on purpose succeeded after {retries} retry")
    if retries != 1:
        wrong.append(f"it took {retries} retries, not 1")
    late = scheduled.get(timeout=PATIENCE) - asked_at - DELAY
    print(f"  the task that was sent {DELAY:.0f} s ahead ran {late * 1000:+,.0f} ms from its time")
    if late < -0.01:
        wrong.append(f"the scheduled task ran {-late:.2f} s too early")
    if found["files"] != len(files):
        wrong.append(f"{len(files) - found['files']} files are missing")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the standard library with real workers.")
    parser.add_argument("--limit", type=int, help="measure only so many files")
    parser.add_argument("--concurrency", type=int, default=os.cpu_count() or 2, help="worker processes")
    given = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="celeriac-demo-"))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )
    os.chdir(folder)
    worker = start_worker(folder, given.concurrency)
    try:
        wrong = run(worker, given.limit, given.concurrency)
    except WorkerEnded:
        wrong = ["the worker ended in the middle"]
    finally:
        problem = stop_worker(worker)
    wrong += [problem] if problem else []
    for what in wrong:
        print(f"  WRONG: {what}", file=sys.stderr)
    if wrong:
        log = folder / "worker.log"
        print(f"\n{log.read_text()[-2000:]}\n  all of the worker's log: {log}", file=sys.stderr)
        return 1
    print("  the worker finished its work and stopped")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
