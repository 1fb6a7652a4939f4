"""What PostgreSQL needs beyond the contracts: names, plans, repetitions, migrations, waking."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from tests.servers import PgBouncer, PostgresServer

from celeriac import Celeriac
from celeriac.bin.main import celeriac
from celeriac.brokers.base import DEAD, Broker, Consumer, ConsumerSpec, Outgoing
from celeriac.brokers.postgres import PostgresBroker
from celeriac.brokers.postgres.publisher import PART
from celeriac.conformance.kit import ack, ids, message, out, until
from celeriac.exceptions import ImproperlyConfigured, OperationalError, QueueNotFound
from celeriac.transport.postgres.link import Disconnected, Link, Rows
from celeriac.transport.postgres.pool import pool
from celeriac.transport.postgres.values import bytea, byteas, int8, name_key

NAMES = [
    'it\'s "quoted"; DROP TABLE',
    "nul\0inside",
    "emoji 🐇",
    "lone \udc80",
    "x" * 10_000,
    "back\\slash",
    "%s {s}",
]


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.database()


@pytest.fixture
def broker(url: str) -> Iterator[PostgresBroker]:
    broker = PostgresBroker(url, {})
    yield broker
    broker.close()


def consumer(broker: Broker, *queues: str, name: str = "c1") -> Consumer:
    return broker.consumer(ConsumerSpec(name, queues or ("celery",), 60.0))


@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(broker: PostgresBroker, name: str) -> None:
    broker.publish([out("a", name), out("b", name, countdown=600)])
    one = consumer(broker, name, name=name)
    received = one.exchange((), 10)
    assert ids(received.deliveries) == ["a"]
    assert received.deliveries[0].queue == name
    assert broker.beat({name: [name]}, ttl=60) == []
    assert [held.queue for held in broker.held(name, [name])] == [name]
    one.exchange(ack(*received.deliveries, verdict=DEAD, reason=name), 0)
    assert [letter.reason for letter in broker.dead(name)] == [name]
    assert list(broker.queues()) == [name]
    broker.revoke([name], ttl=60)
    assert list(broker.revoked()) == [name]
    assert broker.purge(name) == 1
    one.close()


@pytest.mark.parametrize("lost", ["first", "third", "last", "commit"])
def test_a_long_batch_is_stored_whole_and_once_whichever_answer_is_lost(
    broker: PostgresBroker, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    broker.publish([out("before", "other")])
    answers = ["first", "second", "third", "last"]
    receive, script = Link.receive, Link.script

    def receive_or_lose(link: Link, *, deadline: float) -> Rows:
        rows = receive(link, deadline=deadline)
        if answers and answers.pop(0) == lost:
            link.close()
            raise Disconnected(lost)
        return rows

    def script_or_lose(link: Link, sql: bytes, *, deadline: float) -> None:
        script(link, sql, deadline=deadline)
        if lost == "commit" and sql == b"COMMIT" and not broken:
            broken.append(sql)
            link.close()
            raise Disconnected(lost)

    broken: list[bytes] = []
    monkeypatch.setattr(Link, "receive", receive_or_lose)
    monkeypatch.setattr(Link, "script", script_or_lose)
    names = [f"{n}" for n in range(3 * PART + 1)]
    # one part of several kinds: another statement, in the same transaction
    broker.publish([out(name, priority=int(n == PART + 5)) for n, name in enumerate(names)])
    monkeypatch.undo()
    assert lost == "commit" or lost not in answers
    stored = [each.headers["id"] for each in broker.browse("celery", 5000)]
    assert stored[-1] == names.pop(PART + 5)  # the one that is less urgent
    assert stored[:-1] == names


def test_a_long_batch_with_a_fault_is_not_stored_at_all(broker: PostgresBroker) -> None:
    good = [out(f"{n}") for n in range(2 * PART)]
    with pytest.raises(QueueNotFound):
        broker.publish([*good, Outgoing(message("bad"), exchange="nowhere", routing_key="x")])
    assert broker.depth("celery") == 0
    broker.publish(good)
    assert broker.depth("celery") == 2 * PART


def test_no_table_is_ever_read_from_end_to_end(broker: PostgresBroker, url: str) -> None:
    """Plans hold without statistics, and with those of other times."""
    tables = pool(url, {})
    seen = b"""
        SELECT relname::text::bytea, seq_scan FROM pg_stat_user_tables
        WHERE relname IN ('message', 'line', 'claim', 'producer') AND seq_scan > 0"""
    broker.publish([out("warm")])  # the tables are made, and read once for their indexes
    time.sleep(1.1)  # the server's counters are brought up to date once a second
    tables.query(b"SELECT 1")
    tables.query(b"SELECT pg_stat_reset()")
    one = consumer(broker)
    for analyse in (False, True):
        for start in range(0, 3000, 500):
            broker.publish([out(f"{start + n}") for n in range(500)])
            broker.publish([out("single"), out("later", countdown=900, priority=3)])
        if analyse:
            tables.query(b"ANALYZE")
        last: Any = ()
        for _ in range(30):
            last = one.exchange(ack(*last), 100).deliveries
        one.exchange(ack(*last), 0)
    time.sleep(1.1)
    assert tables.query(seen) == []
    one.close()


def test_a_publish_that_is_repeated_is_stored_once(broker: PostgresBroker, url: str) -> None:
    broker.publish([out("first")])
    tables = pool(url, {})
    sql = tables.server.sql("SELECT {s}publish($1, $2, $3, $4, $5, $6)").encode()
    for turn in (7, 7, 6, 8):
        name = bytea(name_key("celery"))
        tables.query(sql, (bytea(b"channel"), int8(turn), name, name, int8(0), byteas([b"{}"])))
    assert broker.depth("celery") == 1 + 2


def test_an_exchange_that_comes_late_has_no_effect(broker: PostgresBroker) -> None:
    """As when its request was held up in the network and the consumer has long gone on over another link."""
    broker.publish([out(f"{n}") for n in range(10)])
    one = consumer(broker)
    assert len(one.exchange((), 2).deliveries) == 2
    one._turn -= 1  # type: ignore[attr-defined]
    assert one.exchange((), 5).lost
    assert broker.depth("celery") == 8


def test_a_consumer_survives_the_end_of_its_session(broker: PostgresBroker, postgres_server: Any) -> None:
    broker.publish([out(f"{n}") for n in range(10)])
    one = consumer(broker)
    taken = list(one.exchange((), 4).deliveries)
    for _ in range(3):
        postgres_server.close_all_connections()
        received = one.exchange(ack(*taken[:1]), 2)
        assert not received.lost
        assert not received.stale
        taken = [*taken[1:], *received.deliveries]
    received = one.exchange(ack(*taken), 10)
    assert not received.stale
    one.exchange(ack(*received.deliveries), 0)
    assert broker.stats(["celery"])[0][1:4] == (0, None, 0)
    one.close()


def test_dropped_tables_are_made_anew(broker: PostgresBroker, url: str, postgres_server: Any) -> None:
    broker.publish([out("a")])
    one = consumer(broker)
    postgres_server.sql("DROP SCHEMA celeriac CASCADE", url.rpartition("/")[2])
    broker.publish([out("b")])
    assert broker.depth("celery") == 1
    assert one.exchange((), 1).lost


def test_several_make_the_tables_at_once(url: str) -> None:
    failures: list[BaseException] = []

    def publish(number: int) -> None:
        mine = PostgresBroker(url, {"timeout": 20 + number})  # a pool of its own
        try:
            mine.publish([out(f"{number}")])
        except BaseException as exc:
            failures.append(exc)
        mine.close()

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    assert PostgresBroker(url, {}).depth("celery") == 6


def test_newer_tables_are_refused(broker: PostgresBroker, url: str, postgres_server: Any) -> None:
    broker.publish([out("a")])
    postgres_server.sql("INSERT INTO celeriac.migration VALUES (99)", url.rpartition("/")[2])
    with pytest.raises(ImproperlyConfigured, match=r"version 99.*Upgrade celeriac"):
        PostgresBroker(url, {"timeout": 9}).publish([out("b")])


def test_without_auto_migrate_nothing_is_made(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="celeriac db migrate"):
        PostgresBroker(f"{url}?auto_migrate=false", {}).publish([out("a")])


def test_who_may_not_make_tables_is_told_what_to_do(url: str, postgres_server: Any) -> None:
    postgres_server.sql("CREATE ROLE clerk LOGIN")
    with pytest.raises(ImproperlyConfigured, match="celeriac db sql"):
        PostgresBroker(url.replace("postgres@", "clerk@"), {}).publish([out("a")])


def test_the_command_line_shows_makes_and_prints(
    url: str, postgres_server: Any, monkeypatch: pytest.MonkeyPatch, own_state: None
) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(celeriac, ["-b", url, "db", *words])
        return done.exit_code, done.output

    monkeypatch.setenv("CELERIAC_BROKER_URL", url)
    code, said = run("status")
    assert (code, "no tables yet" in said) == (1, True)
    code, sql = run("sql")
    assert code == 0
    assert run("migrate")[0] == 0
    assert run("status")[0] == 0
    assert "as wanted" in run("migrate")[1]
    other = postgres_server.database()
    postgres_server.sql(sql, other.rpartition("/")[2])
    PostgresBroker(other + "?auto_migrate=off", {}).publish([out("a")])


@pytest.mark.parametrize("way", ["listen", "poll", "pooler"])
def test_a_sleeper_wakes_soon(url: str, postgres_server: PostgresServer, way: str) -> None:
    bouncer = PgBouncer(postgres_server) if way == "pooler" else None
    place = bouncer.to(url) if bouncer else url
    broker = PostgresBroker(place, {"listen": "off" if way == "poll" else "auto"})
    one = consumer(broker)
    assert not one.exchange((), 1).deliveries
    one.wait(0.5)  # the proof that notifications arrive comes meanwhile
    late: list[float] = []
    for n in range(5):
        sender = threading.Timer(0.1, broker.publish, [[out(f"{n}")]])
        sender.start()
        begun = time.monotonic()
        taken: list[str] = []
        while not taken:
            one.wait(5)
            deliveries = one.exchange((), 1).deliveries
            taken = ids(deliveries)
        late.append(time.monotonic() - begun - 0.1)
        one.exchange(ack(*deliveries), 1)
        sender.join()
    assert min(late) < 0.5
    assert one._ear.hears == (way == "listen")  # type: ignore[attr-defined]
    one.close()
    broker.close()
    if bouncer:
        bouncer.stop()


def test_a_child_has_one_connection(url: str, postgres_server: Any) -> None:
    broker = PostgresBroker(url, {})
    one = consumer(broker)
    one.exchange((), 1)
    one.wait(0.2)
    ours = f"datname = '{url.rpartition('/')[2]}' AND application_name = 'celeriac'"
    count = f"SELECT count(*) FROM pg_stat_activity WHERE {ours}"
    until(lambda: postgres_server.sql(count) == "1", what="one connection")
    one.close()


def test_a_server_that_is_not_there_is_an_error_in_time() -> None:
    begun = time.monotonic()
    broker = PostgresBroker("postgresql://nobody@127.0.0.1:1/none", {})
    with pytest.raises(OperationalError, match=r"127\.0\.0\.1"):
        broker.publish([out("a")], timeout=1)
    assert time.monotonic() - begun < 10


def test_passwords_are_in_no_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    broker = PostgresBroker("postgresql://u:sesame@127.0.0.1:1/none", {})
    with pytest.raises(OperationalError) as caught:
        broker.publish([out("a")], timeout=0.3)
    assert "sesame" not in str(caught.value) + caplog.text


def test_settings_that_cannot_keep_the_promise_are_named(url: str, postgres_server: Any) -> None:
    assert PostgresBroker(url, {}).warnings() == []
    database = url.rpartition("/")[2]
    postgres_server.sql(f'ALTER DATABASE "{database}" SET synchronous_commit = off')
    (warned,) = PostgresBroker(url, {"timeout": 9}).warnings()
    assert "synchronous_commit=off" in warned


def test_large_batches_with_everything_in_them(broker: PostgresBroker) -> None:
    batch = [Outgoing(message(f"{n}"), queue=f"q{n % 3}", priority=n % 4) for n in range(3000)]
    broker.publish(batch, timeout=30)
    assert [broker.depth(f"q{n}") for n in range(3)] == [1000, 1000, 1000]


def test_an_app_works_with_it(url: str) -> None:
    app = Celeriac("plain", broker=url, backend=url, set_as_current=False)
    assert app.broker.describe().startswith("PostgreSQL ")
    target = app.backend.target()
    assert target is not None
    assert app.broker.carries(target)
    app.close()
