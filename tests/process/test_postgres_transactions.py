"""`apply_async(connection=…)`: sent when the caller's transaction commits, and never if it does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
import sqlalchemy
import sqlalchemy.orm
from tests.servers import PostgresServer

from celeriac import Celeriac, chain, group
from celeriac.brokers.base import ConsumerSpec
from celeriac.conformance.kit import ids, until
from celeriac.exceptions import ImproperlyConfigured


@pytest.fixture(scope="module")
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.database()


@pytest.fixture
def app(url: str) -> Iterator[Celeriac]:
    app = Celeriac("shop", broker=url, set_as_current=False)
    app.broker.purge("celery")

    @app.task(name="shop.add")
    def add(x: int, y: int) -> int:
        return x + y

    yield app
    app.close()


def depth(app: Celeriac) -> int:
    return app.broker.depth("celery")


class Way:
    """A kind of connection: opens it, says what to hand over, commits or rolls back."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, work: Callable[[Any], None], *, commit: bool) -> None:
        raise NotImplementedError


class ByPsycopg(Way):
    def run(self, work: Callable[[Any], None], *, commit: bool) -> None:
        with closing(psycopg.connect(self.url)) as connection:
            work(connection)
            connection.commit() if commit else connection.rollback()


class ByEngine(Way):
    def run(self, work: Callable[[Any], None], *, commit: bool) -> None:
        engine = sqlalchemy.create_engine(self.url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect() as connection:
            work(connection)
            connection.commit() if commit else connection.rollback()
        engine.dispose()


class BySession(Way):
    def run(self, work: Callable[[Any], None], *, commit: bool) -> None:
        engine = sqlalchemy.create_engine(self.url.replace("postgresql://", "postgresql+psycopg://"))
        with sqlalchemy.orm.Session(engine) as session:
            work(session)
            session.commit() if commit else session.rollback()
        engine.dispose()


@pytest.mark.parametrize("way", [ByPsycopg, ByEngine, BySession])
class TestEveryWay:
    def test_a_commit_sends_and_a_rollback_does_not(self, url: str, app: Celeriac, way: type[Way]) -> None:
        add = app.tasks["shop.add"]
        way(url).run(lambda connection: add.apply_async((1, 2), connection=connection), commit=False)
        assert depth(app) == 0
        way(url).run(lambda connection: add.apply_async((1, 2), connection=connection), commit=True)
        assert depth(app) == 1

    def test_nothing_is_seen_before_the_commit(self, url: str, app: Celeriac, way: type[Way]) -> None:
        def work(connection: Any) -> None:
            app.tasks["shop.add"].apply_async((1, 2), connection=connection)
            assert depth(app) == 0

        way(url).run(work, commit=True)
        assert depth(app) == 1

    def test_groups_chains_signatures_and_many(self, url: str, app: Celeriac, way: type[Way]) -> None:
        add = app.tasks["shop.add"]

        def work(connection: Any) -> None:
            group(add.s(n, n) for n in range(10)).apply_async(connection=connection)
            chain(add.s(1, 2), add.s(3)).apply_async(connection=connection)
            add.s(1, 2).apply_async(connection=connection, countdown=600)
            add.apply_many([(1, 2), (3, 4)], connection=connection)
            app.send_task("shop.add", (1, 2), connection=connection)
            assert depth(app) == 0

        way(url).run(work, commit=False)
        assert app.broker.stats(["celery"])[0][1:5] == (0, None, 0, 0)
        way(url).run(work, commit=True)
        stats = app.broker.stats(["celery"])[0]
        assert (stats.depth, stats.delayed) == (14, 1)


def test_a_sleeping_consumer_is_woken_by_the_commit(url: str, app: Celeriac) -> None:
    consumer = app.broker.consumer(ConsumerSpec("sleeper", ["celery"], 60.0))
    assert not consumer.exchange((), 1).deliveries
    with closing(psycopg.connect(url)) as connection:
        result = app.tasks["shop.add"].apply_async((1, 2), connection=connection)
        consumer.wait(0.3)
        assert not consumer.exchange((), 1).deliveries
        connection.commit()
    taken: list[str] = []

    def came() -> bool:
        consumer.wait(1)
        taken.extend(ids(consumer.exchange((), 1).deliveries))
        return bool(taken)

    until(came)
    assert taken == [result.id]
    consumer.close()


DJANGO = """
import sys
from urllib.parse import urlsplit

import django
from django.conf import settings

url = urlsplit(sys.argv[1])
settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username,
    "HOST": url.hostname, "PORT": url.port,
}})
django.setup()
from django.db import connection, transaction

from celeriac import Celeriac

app = Celeriac("shop", broker=sys.argv[1], set_as_current=False)
given = sys.argv[2] if sys.argv[2] == "default" else connection
try:
    with transaction.atomic():
        app.send_task("shop.add", (1, 2), connection=given)
        raise ZeroDivisionError
except ZeroDivisionError:
    print(app.broker.depth("celery"))
with transaction.atomic():
    app.send_task("shop.add", (1, 2), connection=given)
    print(app.broker.depth("celery"))
print(app.broker.depth("celery"))
app.send_task("shop.add", (1, 2), connection=given)
print(app.broker.depth("celery"))
"""


@pytest.mark.parametrize("given", ["default", "connection"])
def test_django_connections_and_their_aliases(url: str, app: Celeriac, given: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DJANGO, url, given], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["0", "0", "1", "2"], done.stderr


def test_a_long_transaction_keeps_nobody_waiting(url: str, app: Celeriac) -> None:
    """Neither other publishers of the same, new queue, nor its consumers."""
    add = app.tasks["shop.add"]
    with closing(psycopg.connect(url)) as connection:
        add.apply_async((1, 2), connection=connection, queue="fresh")
        add.apply_async((3, 4), queue="fresh", timeout=2)
        consumer = app.broker.consumer(ConsumerSpec("fresh-1", ["fresh"], 60.0))
        assert len(consumer.exchange((), 10).deliveries) == 1
        consumer.close()
        connection.rollback()


def test_none_and_the_connections_of_celerys_callers_change_nothing(app: Celeriac) -> None:
    class Connection:
        __module__ = "kombu.connection"

    for connection in (None, Connection()):
        app.tasks["shop.add"].apply_async((1, 2), connection=connection)
    assert depth(app) == 2


def test_what_is_no_connection_of_this_kind_is_refused(app: Celeriac) -> None:
    with pytest.raises(ImproperlyConfigured, match="psycopg, SQLAlchemy or Django"):
        app.tasks["shop.add"].apply_async((1, 2), connection=object())
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(ImproperlyConfigured, match="sqlite"):
        app.tasks["shop.add"].apply_async((1, 2), connection=connection)
    assert depth(app) == 0


def test_a_broker_that_cannot_says_so() -> None:
    app = Celeriac("other", broker="memory://", set_as_current=False)

    @app.task(name="other.add")
    def add(x: int, y: int) -> int:
        return x + y

    with pytest.raises(ImproperlyConfigured, match="after the commit"):
        add.apply_async((1, 2), connection=object())
    app.close()
