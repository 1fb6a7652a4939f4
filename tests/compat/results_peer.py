"""What Celery's scripts about result stores share: a call whose result is stored, and reading results.

Knows nothing of this repository; imported by scripts beside it, in Celery's own interpreter.
"""

from celery.result import AsyncResult, GroupResult


class Request:
    """What a worker knows of the call whose result it stores. `more`: what is to be otherwise."""

    def __init__(self, app, children=(), **more):
        self.id, self.task, self.args, self.kwargs = "id", "proj.add", [1, 2], {"a": 1}
        self.hostname, self.retries, self.delivery_info = "celery@w1", 2, {"routing_key": "fast"}
        self.children = [AsyncResult(each, app=app) for each in children]
        self.root_id = self.parent_id = self.group = self.errbacks = self.chord = self.stamps = None
        self.ignore_result = False
        vars(self).update(more)


def save_group(app):
    GroupResult("group", [AsyncResult("success", app=app), AsyncResult("failure", app=app)], app=app).save()


def read(app, ids):
    """What Celery makes of results that somebody else wrote, and of the group."""
    found = {}
    for task_id in ids:
        result = app.AsyncResult(task_id)
        found[task_id] = {
            "state": result.state,
            "result": repr(result.result),
            "traceback": result.traceback,
            "children": [child.id for child in result.children or []],
            "done": result.date_done and str(result.date_done)[:10],
            "call": [result.name, result.args, result.kwargs, result.worker, result.retries, result.queue],
        }
    group = app.GroupResult.restore("group")
    found["group"] = group and [each.id for each in getattr(group, "results", group)]
    return found
