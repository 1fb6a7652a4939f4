"""The raw loop on Redis: redis-py sends, a bare socket with hiredis receives (`python -m … PROCESSES`)."""

from __future__ import annotations

import base64
import socket
import uuid

import hiredis
import msgspec
import redis

from bench import pages, site
from bench.forks import fork

QUEUE, HELD = "bench", "bench:held"
RESULT_SECONDS = 86_400
BATCH = 100

TAKE = """
redis.call('DEL', KEYS[2])
for i = 1, #ARGV - 1, 2 do
    redis.call('SET', ARGV[i], ARGV[i + 1], 'EX', 86400)
    redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
end
local taken = redis.call('RPOP', KEYS[1], 100)
if not taken then return {} end
redis.call('RPUSH', KEYS[2], unpack(taken))
return taken
"""

BODY = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
MESSAGE = (
    """
{"body": "BODY", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang": "py",
"task": "bench.contenders.raw.app.noop", "id": "ID", "shadow": null, "eta": null, "expires": null,
"group": null, "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "ID",
"parent_id": null, "argsrepr": "()", "kwargsrepr": "{}", "origin": "gen1@bench", "ignore_result": true,
"replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}}, "properties": {"correlation_id": "ID",
"reply_to": "6c4b35b2-5d12-39d6-a3c3-5a0e8d0a7a3d", "delivery_mode": 2,
"delivery_info": {"exchange": "", "routing_key": "bench"}, "priority": 0, "body_encoding": "base64",
"delivery_tag": "e9c2a6ea-1f4d-4e3a-9f53-0f9e2c4a7b11"}}
""".strip()
    .replace("\n", " ")
    .replace("BODY", base64.b64encode(BODY).decode())
)
FIXED = MESSAGE.replace("ID", str(uuid.uuid4()))


class Headers(msgspec.Struct):
    """The fields of a task message that the loop reads."""

    task: str
    id: str


class Envelope(msgspec.Struct):
    """A message in the Redis list."""

    body: str
    headers: Headers


decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_body = msgspec.json.Decoder(tuple[list, dict, dict]).decode


class Wire:
    """One connection: a socket and hiredis, nothing else."""

    def __init__(self):
        host, port = site.BROKER.removeprefix("redis://").split("/")[0].split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader()

    def ask(self, *words):
        self.socket.sendall(hiredis.pack_command(words))
        return self.answer()

    def answer(self):
        while (reply := self.reader.gets()) is False:
            self.reader.feed(self.socket.recv(65_536))
        if isinstance(reply, Exception):
            raise reply
        return reply


def noop():
    pages.hit()
    return 1


TASKS = {"bench.contenders.raw.app.noop": noop}


def run(message):
    """Decode one message and call its task; the pair of words that stores its result."""
    envelope = decode_envelope(message)
    args, kwargs, _ = decode_body(base64.b64decode(envelope.body))
    value = TASKS[envelope.headers.task](*args, **kwargs)
    return f"result:{envelope.headers.id}", b'{"status": "SUCCESS", "result": %d, "traceback": null}' % value


def work(number):
    """Take, run, store, for ever."""
    wire = Wire()
    take = wire.ask("SCRIPT", "LOAD", TAKE)
    held = f"{HELD}:{number}"
    results = []
    while True:
        taken = wire.ask("EVALSHA", take, "2", QUEUE, held, *results)
        results = []
        if not taken:
            message = wire.ask("BLMOVE", QUEUE, held, "RIGHT", "LEFT", "0")
            taken = [message]
        for message in taken:
            result = run(message)
            if site.RESULTS:
                results += result


client = redis.Redis.from_url(site.BROKER)
_sender = _listener = None


def send_one():
    client.lpush(QUEUE, FIXED)


def send_bulk(count):
    pipeline = client.pipeline(transaction=False)
    for number in range(count):
        pipeline.lpush(QUEUE, FIXED)
        if number % BATCH == BATCH - 1:
            pipeline.execute()
    pipeline.execute()


def send_tasks(kind, count):
    for begin in range(0, count, BATCH):
        names = (str(uuid.uuid4()) for _ in range(begin, min(count, begin + BATCH)))
        client.lpush(QUEUE, *(MESSAGE.replace("ID", name) for name in names))


def round_trip():
    global _sender, _listener
    if _sender is None:
        _sender, _listener = Wire(), Wire()
        _listener.ask("PSUBSCRIBE", "result:*")
    _sender.ask("LPUSH", QUEUE, MESSAGE.replace("ID", str(uuid.uuid4())))
    _listener.answer()


if __name__ == "__main__":
    fork(work)
