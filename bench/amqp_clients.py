"""AMQP clients side by side: `python -m bench.amqp_clients [--count N] [--rounds N]`.

Each client moves the same Celery message (19 headers, persistent) through a durable classic queue of a
private RabbitMQ, in a process of its own. A round runs every client once for each measure; medians over the
rounds.

- `consume-1000`: prefetch 1,000, one cumulative acknowledgement per 100; `consume-64`: prefetch 64, each
  acknowledged.
- `publish`: without confirms. `confirmed-one`: one after the other. `confirmed-100`, `confirmed-1000`: so
many
  sent before their confirms are waited for.

Two figures: messages per second, and the client's own processor time per message (µs), which other programs
on the machine falsify least. A dash: the client has no such way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
QUEUE = "bench"
CLIENTS = ("celeriac", "py-amqp", "pika", "aiormq")
MEASURES = ("consume-1000", "consume-64", "publish", "confirmed-one", "confirmed-100", "confirmed-1000")
REQUIREMENTS = ("amqp", "pika", "aiormq", "msgspec")

BODY = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
HEADERS: dict[str, Any] = {
    "lang": "py", "task": "proj.noop", "id": "0428bc94-5775-4608-af7f-b38333e70c70", "shadow": None,
    "eta": None, "expires": None, "group": None, "group_index": None, "retries": 0, "timelimit": [None, None],
    "root_id": "0428bc94-5775-4608-af7f-b38333e70c70", "parent_id": None, "argsrepr": "()",
    "kwargsrepr": "{}", "origin": "gen6294@host", "ignore_result": False, "replaced_task_nesting": 0,
    "stamped_headers": None, "stamps": {},
}  # fmt: skip
PROPERTIES: dict[str, Any] = {
    "delivery_mode": 2,
    "priority": 0,
    "correlation_id": HEADERS["id"],
    "reply_to": "1b9e7f6c-6d0c-3c56-87e2-38fa47254849",
}


# -- one client, one measure: runs in a process of its own --------------------------------------------------


def celeriac(measure: str, url: str, count: int) -> Callable[[], None]:
    from celeriac.transport.amqp.link import Link
    from celeriac.transport.amqp.url import parse
    from celeriac.wire.message import Message

    link = Link.dial(parse(url), deadline=time.monotonic() + 10)
    channel = link.channel()
    message = Message(BODY, "application/json", "utf-8", HEADERS, PROPERTIES)

    def consume(prefetch: int, every: int) -> None:
        channel.qos(prefetch)
        channel.consume(QUEUE)
        done = 0
        arrivals = channel.arrivals
        while done < count:
            if not arrivals:
                link.read(10)
            while arrivals:
                arrival = arrivals.popleft()
                assert arrival.message.headers["task"]
                done += 1
                if done % every == 0:
                    channel.ack(arrival.delivery_tag, multiple=every > 1)
            link.flush()

    def publish(window: int) -> None:
        for number in range(1, count + 1):
            channel.publish("", QUEUE, message)
            if number % (window or 100) == 0:
                if window:
                    channel.await_confirms(time.monotonic() + 30)
                else:
                    link.flush(time.monotonic() + 30)
        channel.queue_declare(QUEUE, passive=True, deadline=time.monotonic() + 30)

    if measure.startswith("consume"):
        return lambda: consume(*CONSUME[measure])
    if WINDOW[measure]:
        channel.confirm_select()
    return lambda: publish(WINDOW[measure])


CONSUME = {"consume-1000": (1000, 100), "consume-64": (64, 1)}
WINDOW = {"publish": 0, "confirmed-one": 1, "confirmed-100": 100, "confirmed-1000": 1000}


def py_amqp(measure: str, url: str, count: int) -> Callable[[], None]:
    import amqp

    connection = amqp.Connection(url.split("@")[1].rstrip("/"), confirm_publish=measure == "confirmed-one")
    connection.connect()
    channel = connection.channel()

    def consume(prefetch: int, every: int) -> None:
        done = 0

        def take(message: Any) -> None:
            nonlocal done
            assert message.headers["task"]
            done += 1
            if done % every == 0:
                channel.basic_ack(message.delivery_tag, multiple=every > 1)

        channel.basic_qos(0, prefetch, False)
        channel.basic_consume(QUEUE, callback=take)
        while done < count:
            connection.drain_events(timeout=10)

    def publish(window: int) -> None:
        confirmed = 0

        def on_ack(tag: int, multiple: bool) -> None:
            nonlocal confirmed
            confirmed = max(confirmed, tag)

        if window > 1:
            channel.confirm_select()
            channel.events["basic_ack"].add(on_ack)
        for number in range(1, count + 1):
            message = amqp.Message(
                BODY, content_type="application/json", content_encoding="utf-8", application_headers=HEADERS,
                **PROPERTIES,
            )  # fmt: skip
            channel.basic_publish(message, "", QUEUE)
            if window > 1 and number % window == 0:
                while confirmed < number:
                    connection.drain_events(timeout=10)
        channel.queue_declare(QUEUE, passive=True)

    if measure.startswith("consume"):
        return lambda: consume(*CONSUME[measure])
    return lambda: publish(WINDOW[measure])


def pika(measure: str, url: str, count: int) -> Callable[[], None] | None:
    import pika as library

    if measure.startswith("confirmed-1") and measure != "confirmed-one":
        return None  # its blocking connection waits for each
    connection = library.BlockingConnection(library.URLParameters(url.rstrip("/") + "/%2F"))
    channel = connection.channel()
    if measure == "confirmed-one":
        channel.confirm_delivery()

    def consume(prefetch: int, every: int) -> None:
        done = 0

        def take(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            nonlocal done
            assert properties.headers["task"]
            done += 1
            if done % every == 0:
                channel.basic_ack(method.delivery_tag, multiple=every > 1)
            if done == count:
                channel.stop_consuming()

        channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume(QUEUE, take)
        channel.start_consuming()

    def publish() -> None:
        for _ in range(count):
            properties = library.BasicProperties(
                content_type="application/json", content_encoding="utf-8", headers=HEADERS, **PROPERTIES
            )
            channel.basic_publish("", QUEUE, BODY, properties)
        channel.queue_declare(QUEUE, passive=True)

    if measure.startswith("consume"):
        return lambda: consume(*CONSUME[measure])
    return publish


def aiormq(measure: str, url: str, count: int) -> Callable[[], None]:
    import aiormq as library
    from aiormq import spec

    def properties() -> Any:
        return spec.Basic.Properties(
            content_type="application/json", content_encoding="utf-8", headers=HEADERS,
            **{**PROPERTIES, "correlation_id": str(HEADERS["id"])},
        )  # fmt: skip

    async def consume(prefetch: int, every: int) -> None:
        connection = await library.connect(url)
        channel = await connection.channel(publisher_confirms=False)
        done, ended = 0, asyncio.Event()

        async def take(message: Any) -> None:
            nonlocal done
            assert message.header.properties.headers["task"]
            done += 1
            if done % every == 0:
                await channel.basic_ack(message.delivery.delivery_tag, multiple=every > 1, wait=False)
            if done == count:
                ended.set()

        await channel.basic_qos(prefetch_count=prefetch)
        await channel.basic_consume(QUEUE, take)
        await ended.wait()
        await connection.close()

    async def publish(window: int) -> None:
        connection = await library.connect(url)
        channel = await connection.channel(publisher_confirms=bool(window))
        for start in range(0, count, window or 1):
            sent = [
                channel.basic_publish(BODY, routing_key=QUEUE, properties=properties())
                for _ in range(min(window or 1, count - start))
            ]
            await asyncio.gather(*sent) if window > 1 else await sent[0]
        await channel.queue_declare(QUEUE, passive=True)
        await connection.close()

    if measure.startswith("consume"):
        return lambda: asyncio.run(consume(*CONSUME[measure]))
    return lambda: asyncio.run(publish(WINDOW[measure]))


MAKERS = {"celeriac": celeriac, "py-amqp": py_amqp, "pika": pika, "aiormq": aiormq}


def measure_one(client: str, measure: str, url: str, count: int) -> None:
    """Print the rate and the processor time of one client, as JSON."""
    run = MAKERS[client](measure, url, count)
    if run is None:
        print("null")
        return
    begun, used = time.perf_counter(), time.process_time()
    run()
    seconds, processor = time.perf_counter() - begun, time.process_time() - used
    print(json.dumps([count / seconds, 1e6 * processor / count]))


# -- all of them -------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("CLIENT", "MEASURE", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure_one(*options.one, options.count)
        return
    from tests.servers import RabbitServer

    from bench.environments import python_with

    python = python_with("amqp-clients", REQUIREMENTS)
    server = RabbitServer()
    try:
        report(compare(python, server.url, options.count, options.rounds), options.rounds)
    finally:
        server.stop()


def compare(python: Path, url: str, count: int, rounds: int) -> dict[tuple[str, str], list[list[float]]]:
    found: dict[tuple[str, str], list[list[float]]] = {}
    for _ in range(rounds):
        for measure in MEASURES:
            for client in CLIENTS:
                some = count // 10 if measure == "confirmed-one" else count
                prepare(url, some if measure.startswith("consume") else 0)
                command = [str(python), "-m", "bench.amqp_clients", "--count", str(some)]
                done = subprocess.run(
                    [*command, "--one", client, measure, url], capture_output=True, text=True, timeout=300,
                    cwd=ROOT, env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": ""}, check=False,
                )  # fmt: skip
                if done.returncode:
                    raise RuntimeError(f"{client} {measure}:\n{done.stderr}")
                if (figures := json.loads(done.stdout)) is not None:
                    found.setdefault((measure, client), []).append(figures)
                print(measure, client, figures, file=sys.stderr, flush=True)
    return found


def prepare(url: str, count: int) -> None:
    """A queue with `count` messages, and nothing else in it."""
    from celeriac.transport.amqp.link import Link
    from celeriac.transport.amqp.url import parse
    from celeriac.wire.message import Message

    link = Link.dial(parse(url), deadline=time.monotonic() + 10)
    channel = link.channel()
    channel.queue_declare(QUEUE)
    channel.queue_purge(QUEUE)
    channel.confirm_select()
    message = Message(BODY, "application/json", "utf-8", HEADERS, PROPERTIES)
    for number in range(1, count + 1):
        channel.publish("", QUEUE, message)
        if number % 2000 == 0:
            channel.await_confirms(time.monotonic() + 30)
    channel.await_confirms(time.monotonic() + 30)
    link.close(farewell=1)


def report(found: dict[tuple[str, str], list[list[float]]], rounds: int) -> None:
    print(f"messages/s (µs of the client's processor time per message), medians of {rounds} rounds\n")
    print("| |" + "".join(f" {client} |" for client in CLIENTS))
    print("|---|" + "---|" * len(CLIENTS))
    for measure in MEASURES:
        cells = []
        for client in CLIENTS:
            figures = found.get((measure, client))
            if figures is None:
                cells.append("-")
                continue
            rate, used = (statistics.median(column) for column in zip(*figures, strict=True))
            cells.append(f"{rate:,.0f} ({used:.1f})")
        print(f"| {measure} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
