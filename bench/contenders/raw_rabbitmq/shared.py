"""What both raw loops have in common: the message and the sizes."""

from __future__ import annotations

import os

import msgspec

QUEUE, REPLIES = "bench", "bench.replies"
QUORUM = os.environ.get("BENCH_QUEUE_TYPE") == "quorum"
PREFETCH, BATCH, WINDOW = 1_000, 100, 1_000

BODY = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
TASK = "bench.contenders.raw_rabbitmq.app.noop"
#: In the order in which ours and Celery write them, by which our own connection knows them.
HEADERS = {
    "lang": "py",
    "task": TASK,
    "id": "",
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "root_id": "",
    "parent_id": None,
    "argsrepr": "()",
    "kwargsrepr": "{}",
    "origin": "gen1@bench",
    "ignore_result": True,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
decode_body = msgspec.json.Decoder(tuple[list, dict, dict]).decode
