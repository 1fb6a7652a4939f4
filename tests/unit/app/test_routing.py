"""Which call goes to which queue; queues in our shape and in kombu's."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.unit.app.conftest import Sent

from celeriac import Celeriac, Exchange, Queue
from celeriac.app.queues import Broadcast, Queues, declarations
from celeriac.app.routes import glob_to_pattern
from celeriac.brokers.base import Queue as Declaration
from celeriac.exceptions import ImproperlyConfigured, QueueNotFound


def route_everything(name: str, args: Any, kwargs: Any, options: Any, task: Any = None) -> Any:
    return {"queue": f"by-function-{len(args)}"} if name.startswith("f.") else None


class RouterClass:
    def route_for_task(self, name: str, args: Any, kwargs: Any) -> Any:
        return "by-class" if name.startswith("c.") else None


def queue_of(app: Celeriac, name: str, *args: Any, **options: Any) -> str:
    return app.producer.prepare(name, args, {}, options, None).outgoing.queue


def test_a_dictionary_of_names_globs_and_patterns(app: Celeriac) -> None:
    app.conf.task_routes = {
        "exact": "q-exact",
        "feed.*": {"queue": "q-feed", "priority": 5},
        re.compile(r"(video|image)\."): {"queue": "q-media"},
    }
    assert queue_of(app, "exact") == "q-exact"
    assert queue_of(app, "feed.tasks.fetch") == "q-feed"
    assert queue_of(app, "image.resize") == "q-media"
    assert queue_of(app, "other") == "celery"
    prepared = app.producer.prepare("feed.x", (), {}, {}, None)
    assert prepared.outgoing.priority == prepared.outgoing.message.properties["priority"] == 5


@pytest.mark.parametrize(
    ("glob", "name", "matches"),
    [
        ("*.heavy", "x.heavy", True),
        ("*.heavy", "y.x.heavy", True),
        ("*.heavy", "x.heavy_task", False),
        ("a.*.b", "a.c.b", True),
        ("a.*.b", "za.c.b", False),
        ("a.*", "a.", False),
    ],
)
def test_globs_match_as_in_celery(glob: str, name: str, matches: bool) -> None:
    assert bool(glob_to_pattern(glob).match(name)) is matches


def test_routes_are_asked_in_order_whatever_their_form(app: Celeriac) -> None:
    app.conf.task_routes = [
        route_everything,
        f"{__name__}.RouterClass",
        [("listed.*", "q-first"), ("listed.n*", "q-second")],
    ]
    assert queue_of(app, "f.x", 1, 2) == "by-function-2"
    assert queue_of(app, "c.x") == "by-class"
    assert queue_of(app, "listed.never") == "q-first"


def test_a_function_is_asked_for_every_call(app: Celeriac) -> None:
    app.conf.task_routes = route_everything

    @app.task(name="f.probe")
    def probe(*args: int) -> None: ...

    probe.delay()
    probe.delay(1)
    assert Sent(app).one("by-function-0").args == []
    assert Sent(app).one("by-function-1").args == [1]


def test_what_is_no_route_is_refused(app: Celeriac) -> None:
    app.conf.task_routes = [3]
    with pytest.raises(ImproperlyConfigured, match="task_routes holds 3"):
        queue_of(app, "x")


def test_options_of_the_call_outrank_the_route_and_the_route_the_default(app: Celeriac) -> None:
    app.conf.update(task_routes={"x": "routed"}, task_default_queue="usual")
    assert queue_of(app, "x") == "routed"
    assert queue_of(app, "x", queue="chosen") == "chosen"
    assert queue_of(app, "x", queue=Queue("object")) == "object"
    assert queue_of(app, "y") == "usual"


def test_routes_that_change_count_for_the_next_call(app: Celeriac) -> None:
    @app.task(name="x")
    def probe() -> None: ...

    probe.delay()
    app.conf.task_routes = {"x": "moved"}
    probe.delay()
    assert len(Sent(app).calls("moved")) == 1


def test_missing_queues_can_be_refused(app: Celeriac) -> None:
    app.conf.update(
        task_queues=[Queue("known")], task_create_missing_queues=False, task_default_queue="known"
    )
    assert queue_of(app, "x", queue="known") == "known"
    with pytest.raises(QueueNotFound, match="task_create_missing_queues is off"):
        queue_of(app, "x", queue="unknown")


def test_direct_exchanges_are_short_cut_to_the_queue(app: Celeriac) -> None:
    app.conf.task_queues = {"q": {"exchange": "e", "routing_key": "k"}}
    destination = app.router.destination({"queue": "q"})
    assert destination[:5] == ("q", "", "", "", "q")
    destination = app.router.destination({"exchange": "e", "routing_key": "k"})
    assert destination[:5] == ("", "e", "k", "e", "k")


def test_topic_and_fanout_exchanges_reach_their_queues(app: Celeriac) -> None:
    logs = Exchange("logs", type="topic")
    news = Exchange("news", type="fanout")
    app.conf.task_queues = [
        Queue("errors", logs, routing_key="log.error.#"),
        Queue("all", logs, routing_key="log.#"),
        Queue("n1", news),
        Queue("n2", news),
        Queue("celery"),
    ]

    @app.task(name="x")
    def probe(n: int) -> None: ...

    probe.apply_async((1,), exchange="logs", routing_key="log.error.disk", exchange_type="topic")
    probe.apply_async((2,), exchange="logs", routing_key="log.info")
    probe.apply_async((3,), queue="n1")
    sent = Sent(app)
    assert [call.args for call in sent.calls("errors")] == [[1]]
    assert [call.args for call in sent.calls("all")] == [[1], [2]]
    assert [call.args for call in sent.calls("n1")] == [[3]] == [call.args for call in sent.calls("n2")]
    assert sent.calls("n1")[0].properties["delivery_info"] == {"exchange": "news", "routing_key": ""}
    with pytest.raises(QueueNotFound, match="No queue is bound"):
        probe.apply_async((4,), exchange="logs", routing_key="unrelated")


def test_a_broadcast_is_reached_by_its_name(app: Celeriac) -> None:
    broadcast = Broadcast("everyone")
    app.conf.task_queues = (broadcast, Queue("celery"))
    assert app.queues["everyone"] is broadcast
    assert broadcast.name in app.queues_to_consume()
    app.broker.declare(declarations(app.queues.values()))
    app.send_task("x", queue="everyone")
    assert len(Sent(app).calls(broadcast.name)) == 1
    assert Broadcast("everyone").name != broadcast.name


def test_what_a_worker_consumes(app: Celeriac) -> None:
    app.conf.task_queues = [Queue("a"), "b", Queue("c")]
    queue_of(app, "x", queue="on-demand")
    assert app.queues_to_consume() == ["a", "b", "c"]
    assert app.queues_to_consume(excluded=["b"]) == ["a", "c"]
    assert app.queues_to_consume(["c", "new", "c"]) == ["c", "new"]
    app.select_queues(["b", "c"])
    app.queues.deselect(["c"])
    assert app.amqp.queues.consumed == ["b"]
    assert Celeriac("other", broker="memory://").queues_to_consume() == ["celery"]


def test_queues_in_kombus_shape_do_as_well(app: Celeriac) -> None:
    class KombuExchange:
        name, type = "k-exchange", "topic"

    class KombuBinding:
        exchange, routing_key = KombuExchange(), "two.#"

    class KombuQueue:
        name, exchange, routing_key = "kq", KombuExchange(), "one.#"
        max_priority, alias, bindings = 9, None, (KombuBinding(),)

    app.conf.task_queues = [KombuQueue()]
    assert app.router.destination({"queue": "kq"})[:5] == ("", "k-exchange", "one.#", "k-exchange", "one.#")
    assert declarations(app.queues["kq"]) == [
        Declaration("kq", "k-exchange", "one.#", "topic", 9),
        Declaration("kq", "k-exchange", "two.#", "topic", 9),
    ]


def test_declarations_of_our_own() -> None:
    queue = Queue("q", "e", "k", bindings=[("e2", "k2"), (Exchange("e3", "fanout"), "")], max_priority=3)
    assert declarations([queue, Queue("plain")]) == [
        Declaration("q", "e", "k", "direct", 3),
        Declaration("q", "e2", "k2", "direct", 3),
        Declaration("q", "e3", "", "fanout", 3),
        Declaration("plain", "", "", "direct", None),
    ]
    assert Queue("q", "e", "k") == Queue("q", Exchange("e"), "k")
    assert len({Queue("q", "e"), Queue("q", "e")}) == 1


@pytest.mark.parametrize(
    ("queues", "reason"),
    [
        ([3], "holds 3, which is no queue"),
        ({"q": {"exchnge": "e"}}, "'q' in task_queues is described by keys"),
    ],
)
def test_what_is_no_queue_is_refused(app: Celeriac, queues: Any, reason: str) -> None:
    app.conf.task_queues = queues
    with pytest.raises(ImproperlyConfigured, match=reason):
        _ = app.queues


def test_queues_made_on_demand_may_be_topics(app: Celeriac) -> None:
    app.conf.task_create_missing_queue_exchange_type = "topic"
    assert app.queues["fresh"].exchange.type == "topic"


def test_the_highest_priority_of_the_settings_is_that_of_every_queue_that_names_none() -> None:
    quorum = {"x-queue-type": "quorum"}
    given = [
        Queue("plain"), Queue("own", max_priority=3), Queue("told", queue_arguments={"x-max-priority": 4}),
        Queue("quorum", queue_arguments=quorum),
    ]  # fmt: skip
    queues = Queues([*given, "named"], max_priority=10)
    limits = {each.name: each.max_priority for each in declarations(queues.values())}
    assert limits == {"plain": 10, "own": 3, "told": None, "quorum": None, "named": 10}
