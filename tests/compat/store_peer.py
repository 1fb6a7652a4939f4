"""Celery's result stores, used by Celery's own interpreter: one scenario from argv, one JSON line out.

1. `write`, `read`: Celery's store at a URL.
2. `django`: django-celery-results, derived from Celery's classes, as a store of Celeriac (which has to be on
   the path; the others know nothing of it).
"""

import json
import sys
import tempfile

NAMES = ["success", "failure", "started"]


def _celery():
    from celery import Celery

    return Celery("peer", broker="memory://", backend=sys.argv[2])


def write():
    """Results as Celery stores them."""
    from celery.result import AsyncResult, GroupResult

    app = _celery()
    app.backend.store_result("success", {"x": [1, "ü"]}, "SUCCESS")
    app.backend.store_result("failure", ValueError("bad", 3), "FAILURE", traceback="text")
    app.backend.store_result("started", {"pid": 1}, "STARTED")
    for n in range(50):
        app.backend.store_result(f"many-{n}", n, "SUCCESS")
    GroupResult("group", [AsyncResult("success", app=app)], app=app).save()
    return True


def read():
    """What Celery makes of results that it finds."""
    from celery.result import AsyncResult, GroupResult

    app = _celery()
    found = {}
    for name in NAMES:
        result = AsyncResult(name, app=app)
        found[name] = [result.state, repr(result.result), result.traceback]
    many = [AsyncResult(f"many-{n}", app=app).result for n in range(50)]
    group = GroupResult.restore("group", app=app)
    return {"found": found, "many": many, "group": group and [each.id for each in group.results]}


def django():
    """Tasks, a failure, a group and a chord, by a worker of Celeriac; a row as the admin shows it."""
    import django as framework
    from django.conf import settings
    from django.core.management import call_command

    folder = tempfile.mkdtemp(dir=sys.argv[3])
    settings.configure(
        INSTALLED_APPS=["django_celery_results"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/db"}},
        CACHES={
            "default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": folder}
        },
        USE_TZ=True,
    )
    framework.setup()
    call_command("migrate", verbosity=0)
    from django_celery_results.models import TaskResult

    from celeriac import Celeriac, chord, group
    from celeriac.contrib.testing.worker import start_worker

    app = Celeriac("proj", broker="memory://", backend=sys.argv[2], set_as_current=False)
    app.conf.update(result_extended=True, cache_backend="default", result_chord_retry_interval=0.1)
    add = app.task(name="add")(lambda x, y: x + y)

    @app.task(name="fail")
    def fail():
        raise ValueError("bad", 3)

    total = app.signature("celery.accumulate")
    with start_worker(app, perform_ping_check=False):
        failed = fail.delay()
        several = group(add.s(n, n) for n in range(3)).apply_async()
        several.save()
        answers = {
            "add": add.delay(2, 3).get(timeout=30, interval=0.05),
            "failure": repr(failed.get(timeout=30, interval=0.05, propagate=False)),
            "traceback": "ValueError" in failed.traceback,
            "group": app.GroupResult.restore(several.id).get(timeout=30, interval=0.05),
            "chord": chord([add.s(1, 1), add.s(2, 2)], total).delay().get(timeout=30),
        }
    rows = TaskResult.objects.filter(task_name="add", result="5").values_list("status", "task_args")
    return {**answers, "rows": [list(row) for row in rows], "cleanup": app.backend.expire()}


print(json.dumps({"write": write, "read": read, "django": django}[sys.argv[1]]()))
