"""The application of the canvas tests: leaves and errbacks that leave lines in a journal, and `build`.

Runs under Celery as well (FAULTS_LIBRARY=celery), so only `tree.py` and `lines.py` of ours are imported.
Configured by the environment that `tests.faults.harness.environment` makes. A line: what, ``run:label:id``,
pid, epoch seconds; of errbacks ``run:label:id of what failed:own id``.
"""

import os
import random
import signal
import time

from tests.canvas.tree import Chain, Group, Leaf, dump, load, mark
from tests.faults.lines import written

if os.environ.get("FAULTS_LIBRARY") == "celery":
    from celery import Celery as Application
    from celery import chain, chord, group
    from celery.exceptions import Reject
else:
    from celeriac import Celeriac as Application
    from celeriac.canvas import chain, chord, group
    from celeriac.exceptions import Reject

app = Application(
    "canvas", broker=os.environ.get("FAULTS_BROKER", "memory://"), backend=os.environ.get("FAULTS_BACKEND")
)
app.conf.update(task_default_queue="faults")
app.conf.update(**eval(os.environ.get("FAULTS_CONF", "{}")))

_journal = -1


class Boom(Exception):
    """What a leaf that fails raises."""


def note(what, run, label, task_id):
    global _journal
    if _journal < 0:
        _journal = os.open(os.environ["FAULTS_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_journal, written(what, f"{run}:{label}:{task_id}", os.getpid(), time.time()))


@app.task(name="leaf", bind=True, max_retries=3)
def leaf(self, *args, run, label, how="ok", becomes=None, pause=0.0):
    note("start", run, label, self.request.id)
    if pause:
        time.sleep(pause)
    if how in ("die", "poison") and (how == "poison" or first_time(run, label)):
        os.kill(os.getpid(), signal.SIGKILL)
    if how in ("retry", "giveup") and not self.request.retries:
        raise self.retry(countdown=0)
    if how in ("fail", "giveup"):
        raise Boom(label)
    if how == "reject":
        raise Reject(label, requeue=False)
    if how == "replace":
        raise self.replace(build(load(becomes), run, self.app))
    note("end", run, label, self.request.id)
    return mark(label, args)


@app.task(name="part")
def part(index, run):
    """A member of a chord that gives another value each time it runs."""
    time.sleep(0.002)
    return [index, run, random.random()]


@app.task(name="whole", bind=True)
def whole(self, parts, run, size):
    note("body", run, "whole", self.request.id)
    assert [index for index, _, _ in parts] == list(range(size)), "members are missing or not in order"
    assert {name for _, name, _ in parts} == {run}, "members of another chord"
    return len(parts)


def first_time(run, label):
    """Once for each leaf, whichever process asks."""
    try:
        os.close(os.open(f"{os.environ['FAULTS_JOURNAL']}.{run}.{label}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@app.task(name="old_errback")
def old_errback(failed="-", *, run, label):
    note("errback", run, label, f"{failed}:{_own_id()}")


@app.task(name="new_errback")
def new_errback(request=None, exc=None, traceback=None, *, run, label):
    note("errback", run, label, f"{getattr(request, 'id', '-')}:{_own_id()}")


def _own_id():
    """The id of the call that runs here: a message that came twice is told from one that was sent twice."""
    task = app.current_worker_task
    return task.request.id if task is not None else "-"


# -- from descriptions to signatures ------------------------------------------------------------------------


def build(tree, run, using=app, pause=0.0):
    """The canvas that `tree` describes. `run`: marks its lines in the journal."""

    def go(node):
        if isinstance(node, Leaf):
            made = _call(node)
        elif isinstance(node, Chain):
            steps = [go(step) for step in node.steps]
            made = _piped(steps) if node.piped else chain(*steps)
        elif isinstance(node, Group):
            made = group([go(member) for member in node.members])
        else:
            header, body = [go(member) for member in node.header], go(node.body)
            made = group(header) | body if node.piped else chord(header, body)
        for link in () if isinstance(node, Group) else node.links:
            made.link(go(link))
        for errback in node.errbacks:
            made.link_error(
                using.signature(f"{errback.style}_errback", kwargs={"run": run, "label": errback.label})
            )
        return made

    def _call(node):
        kwargs = {"run": run, "label": node.label, "how": node.how}
        if pause:
            kwargs["pause"] = pause
        if node.becomes is not None:
            kwargs["becomes"] = dump(node.becomes)
        name = "nobody.knows" if node.how == "unknown" else "leaf"
        made = using.signature(name, args=("x",) if node.own else (), kwargs=kwargs, immutable=node.immutable)
        if node.how == "expire":
            made.set(expires=-1)
        elif node.how == "revoke":
            made.set(task_id=revoked_id(run, node.label))
        return made

    return go(tree)


def revoked_id(run, label):
    """The id of a call that is revoked before it is sent."""
    return f"revoked-{run}-{label}"


def _piped(steps):
    made = steps[0]
    for step in steps[1:]:
        made = made | step
    return made
