"""Celery's document stores, used by Celery's own interpreter: one scenario from argv, one JSON line out.

Knows nothing of this repository. ``document_peer.py URL CONF SCENARIO [ids…]``; CONF is JSON.
"""

import json
import logging
import sys

from celery import Celery, states
from results_peer import Request, read, save_group

url, conf, scenario, *ids = sys.argv[1:]
app = Celery("peer", broker="memory://", backend=url)
app.conf.update(json.loads(conf))
logging.disable(logging.WARNING)


def write():
    """Results of several states, as this version writes them."""
    store = app.backend.store_result
    request = Request(app, ["child-1", "child-2"], group="group-1", parent_id="parent-1")
    store("success", {"x": [1, "ü"]}, states.SUCCESS, request=request)
    store("none", None, states.SUCCESS)
    store("failure", ValueError("bad", 3), states.FAILURE, traceback="the traceback", request=request)
    store("started", {"pid": 1, "hostname": "w1"}, states.STARTED, request=request)
    save_group(app)
    return True


def clean_and_read():
    """What Celery makes of documents that somebody else wrote, after its own nightly task."""
    app.backend.cleanup()
    return read(app, ids)


if __name__ == "__main__":
    print(json.dumps({"write": write, "read": clean_and_read}[scenario]()))
