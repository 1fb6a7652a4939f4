"""The application of `tests.faults.proj` with queues of its own, declared with kombu's objects."""

import os
import time

from kombu import Exchange, Queue
from kombu.common import Broadcast
from tests.faults.proj import app, note

QUORUM = {"x-queue-type": "quorum"} if app.conf.task_default_queue_type == "quorum" else None

media = Exchange("media", type="topic")
app.conf.task_queues = [
    Queue("videos", media, routing_key="media.video.#", queue_arguments=QUORUM),
    Queue("images", media, routing_key="*.image.*", queue_arguments=QUORUM),
    Queue("second", Exchange("pairs", type="direct"), routing_key="two", queue_arguments=QUORUM),
]
if "FAULTS_BROADCAST" in os.environ:
    app.conf.task_queues = [*app.conf.task_queues, Broadcast("everyone")]


@app.task(name="where", bind=True)
def where(self, key):
    """Notes the routing key by which it came."""
    came_by = self.request.delivery_info["routing_key"]
    note("end", f"{key}:{came_by}", os.getpid(), time.time())
    return came_by
