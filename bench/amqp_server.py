"""What a publish costs RabbitMQ: `python -m bench.amqp_server [--count N] [--rounds N]`.

Messages go to a private RabbitMQ, persistent, mandatory and confirmed, 1,000 at a time, over our own bare
connection (the raw loop's), and by `apply_many`. For each kind of queue and message, per message:

- messages per second, the client's and the server's own processor time (µs), kB written to the disk;
- how long the queue's process in the server collects garbage (µs by the clock, so worth something only when
  nothing else runs; from a round of its own, since tracing it costs).

The best of the rounds each, since other programs can only make it worse. Not here: clients side by side
(`amqp_clients.py`), contenders (`python -m bench`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench import machine, pages

#: Adds up the garbage collections of all processes that are queues, until it is asked for the sum (µs).
WATCH = """
register(bench_gc, spawn(fun() ->
  erlang:trace(all, true, [garbage_collection, monotonic_timestamp]),
  Loop = fun Loop(Open, Sum) -> receive
    {trace_ts, P, K, _, T} when K =:= gc_minor_start; K =:= gc_major_start -> Loop(Open#{P => T}, Sum);
    {trace_ts, P, K, _, T} when K =:= gc_minor_end; K =:= gc_major_end ->
      Loop(Open, maps:update_with(P, fun(S) -> S + T - maps:get(P, Open, T) end, 0, Sum));
    {sum, From} -> erlang:trace(all, false, [garbage_collection]), From ! {gc, Sum} end end,
  Loop(#{}, #{}) end))
"""
COLLECTED = """
bench_gc ! {sum, self()}, receive {gc, Sum} -> lists:sum([T || {P, T} <- maps:to_list(Sum),
  proc_lib:translate_initial_call(P) =:= {rabbit_prequeue, init, 1}]) div 1000 end
"""


class Case(NamedTuple):
    """A kind of queue and of message. `policy`: what a policy of the server's says of the queue."""

    name: str
    policy: str = ""
    quorum: bool = False
    ours: bool = False
    headers: bool = True
    persistent: bool = True


CASES = (
    Case("classic queue, `apply_many`", ours=True),
    Case("classic queue, bare connection"),
    Case("… the same, messages without headers", headers=False),
    Case("… the same, messages not persistent", persistent=False),
    Case("classic, policy `queue-mode: lazy`, `apply_many`", '[{<<"queue-mode">>, <<"lazy">>}]', ours=True),
    Case("classic, policy `queue-version: 2`, `apply_many`", '[{<<"queue-version">>, 2}]', ours=True),
    Case("quorum queue, `apply_many`", quorum=True, ours=True),
    Case("quorum queue, bare connection", quorum=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from tests.servers import RabbitServer

    server = RabbitServer()
    try:
        print("| per message | messages/s | client µs | server µs | GC µs | written kB |")
        print("|---|---|---|---|---|---|")
        for number, case in enumerate(CASES):
            rate, client, spent, collected, written = measured(server, number, case, options)
            figures = f"{rate:,.0f} | {client:.1f} | {spent:.1f} | {collected:.0f} | {written:.1f}"
            print(f"| {case.name} | {figures} |", flush=True)
    finally:
        server.stop()


def measured(server: Any, number: int, case: Case, options: argparse.Namespace) -> list[float]:
    """The best of the rounds: rate, client's µs, server's µs, µs of collecting, kB written."""
    url = server.vhost(f"case{number}")
    if case.policy:
        server.eval(
            f'rabbit_policy:set(<<"case{number}">>, <<"p">>, <<".*">>, {case.policy}, 0, <<"queues">>, '
            '<<"bench">>)'
        )
    send, purge = sender(url, case)
    send(200)
    purge()
    rows = [one_round(server, send, purge, options.count) for _ in range(options.rounds)]
    server.eval(WATCH.strip())
    send(options.count)
    collected = int(server.eval(COLLECTED.strip())) / options.count
    server.drop_vhost(url)
    rate = max(row[0] for row in rows)
    client, spent, written = (min(row[place] for row in rows) for place in (1, 2, 3))
    return [rate, client, spent, collected, written]


def one_round(
    server: Any, send: Callable[[int], object], purge: Callable[[], object], count: int
) -> tuple[float, float, float, float]:
    pids = machine.tree(server.process.pid)
    begun, own, theirs, written = (
        time.perf_counter(), time.process_time(), machine.own_cpu_seconds(pids), _written(pids),
    )  # fmt: skip
    send(count)
    seconds, own = time.perf_counter() - begun, time.process_time() - own
    time.sleep(0.5)  # what the server still has to do for these messages is theirs
    theirs, written = machine.own_cpu_seconds(pids) - theirs, _written(pids) - written
    purge()
    return count / seconds, 1e6 * own / count, 1e6 * theirs / count, written / 1000 / count


def _written(pids: list[int]) -> int:
    """Bytes that these processes have handed to the file system."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/io").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def sender(url: str, case: Case) -> tuple[Callable[[int], object], Callable[[], object]]:
    """A function that stores so many messages, and one that throws them away."""
    from celeriac import Celeriac
    from celeriac.transport.amqp.link import Link
    from celeriac.transport.amqp.url import parse

    channel = Link.dial(parse(url), deadline=time.monotonic() + 10, heartbeat=0).channel()
    if case.ours:
        app = Celeriac("bench", broker=url, set_as_current=False)
        app.conf.update(
            task_ignore_result=True, task_default_queue_type="quorum" if case.quorum else "classic"
        )
        noop = app.task(name="bench.noop")(pages.hit)
        return lambda count: noop.apply_many([()] * count), lambda: channel.queue_purge("celery")
    from bench.contenders.raw_rabbitmq import link as raw

    message = raw.message()
    message = message._replace(
        headers=message.headers if case.headers else {},
        properties={**message.properties, "delivery_mode": 2 if case.persistent else 1},
    )
    channel.queue_declare(raw.QUEUE, arguments={"x-queue-type": "quorum"} if case.quorum else None)
    channel.confirm_select()

    def send(count: int) -> None:
        for number in range(1, count + 1):
            channel.publish("", raw.QUEUE, message, mandatory=True)
            if number % raw.WINDOW == 0 or number == count:
                channel.await_confirms(time.monotonic() + 30)

    return send, lambda: channel.queue_purge(raw.QUEUE)


if __name__ == "__main__":
    main()
