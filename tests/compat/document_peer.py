"""Celery's document stores, used by Celery's own interpreter: one scenario from argv, one JSON line out.

Knows nothing of this repository. ``document_peer.py SCENARIO URL CONF [ids…]``; CONF is JSON.
"""

import json
import logging
import sys

from celery import Celery, states
from celery.result import AsyncResult, GroupResult

url, conf = sys.argv[2], json.loads(sys.argv[3])
app = Celery("peer", broker="memory://", backend=url)
app.conf.update(conf)
logging.disable(logging.WARNING)


class Request:
    """What a worker knows of the call whose result it stores."""

    def __init__(self):
        self.id, self.task, self.args, self.kwargs = "id", "proj.add", [1, 2], {"a": 1}
        self.hostname, self.retries, self.delivery_info = "celery@w1", 2, {"routing_key": "fast"}
        self.children = [AsyncResult(each, app=app) for each in ("child-1", "child-2")]
        self.group, self.parent_id = "group-1", "parent-1"
        self.root_id = self.errbacks = self.chord = self.stamps = None
        self.ignore_result = False


def write():
    """Results of several states, as this version writes them."""
    store = app.backend.store_result
    store("success", {"x": [1, "ü"]}, states.SUCCESS, request=Request())
    store("none", None, states.SUCCESS)
    store("failure", ValueError("bad", 3), states.FAILURE, traceback="the traceback", request=Request())
    store("started", {"pid": 1, "hostname": "w1"}, states.STARTED, request=Request())
    GroupResult("group", [AsyncResult("success", app=app), AsyncResult("failure", app=app)], app=app).save()
    return True


def read():
    """What Celery makes of documents that somebody else wrote, after its own nightly task."""
    app.backend.cleanup()
    found = {}
    for task_id in sys.argv[4:]:
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


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
