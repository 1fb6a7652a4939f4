"""`apply` of canvases: they come to what they would come to in workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.canvas import Signature, chain, chord, group, signature
from celeriac.exceptions import ChordError, ImproperlyConfigured
from celeriac.result import EagerResult, GroupResult

Log = list[Any]


@pytest.fixture
def log() -> Log:
    return []


@pytest.fixture
def app(log: Log) -> Iterator[Celeriac]:
    made = Celeriac("here", broker="memory://here", backend="memory://here", set_as_current=False)

    @made.task(name="add")
    def add(x: int, y: int = 0) -> int:
        log.append(x + y)
        return x + y

    @made.task(name="items")
    def items(*args: Any) -> list[Any]:
        log.append(list(args))
        return list(args)

    @made.task(name="fail")
    def fail(*args: Any) -> None:
        raise ValueError("boom")

    @made.task(name="by_id")
    def by_id(failed: str) -> None:
        log.append(("by id", failed))

    @made.task(name="with_failure")
    def with_failure(request: Any, exc: Exception, traceback: Any) -> None:
        log.append((request.id, request.task, exc))

    @made.task(name="third_time", bind=True, max_retries=2, default_retry_delay=0)
    def third_time(self: Any, x: int) -> int:
        if self.request.retries < 2:
            raise self.retry()
        return x

    @made.task(name="never", bind=True, max_retries=1, default_retry_delay=0)
    def never(self: Any) -> None:
        raise self.retry(exc=KeyError("given up"))

    @made.task(name="instead", bind=True)
    def instead(self: Any, *args: Any) -> Any:
        return self.replace(signature(args[-1], app=made))

    @made.task(name="also", bind=True)
    def also(self: Any, x: int, more: Any) -> int:
        self.add_to_chord(signature(more, app=made))
        return x

    @made.task(name="who", bind=True)
    def who(self: Any, *_: Any) -> dict[str, Any]:
        names = ("id", "root_id", "parent_id", "group", "group_index", "stamps", "replaced_task_nesting")
        log.append({name: getattr(self.request, name) for name in names})
        return {}

    made.finalize()
    yield made
    made.close()


@pytest.fixture
def t(app: Celeriac) -> Callable[..., Signature[Any]]:
    return lambda name, *args: app.tasks[name].s(*args)


S = Callable[..., Signature[Any]]


def linked(sig: Any, *links: Any, errbacks: tuple[Any, ...] = ()) -> Any:
    for link in links:
        sig.link(link)
    for errback in errbacks:
        sig.link_error(errback)
    return sig


class TestValues:
    def test_shapes(self, t: S) -> None:
        one, two = t("add", 1), t("add", 2)
        for canvas, value in (
            (one | two, 3),
            (group(one, group(two, one)), [1, 2, 1]),
            (chord([one, two], t("items", 9)), [[1, 2], 9]),
            (chord([group(one, two), one], t("items")), [[1, 2, 1]]),
            (chord([chord([one], t("items")), one], t("items")), [[[[1]], 1]]),
            (chord([one | group(one, two), one], t("items")), [[[2, 3], 1]]),
            (chord([one], t("items") | t("items")), [[[1]]]),
            (chord([one], group(t("items"), t("items"))), [[[1]], [[1]]]),
            (chord([one], chord([t("items")], t("items"))), [[[[1]]]]),
            (chord([], t("items")), [[]]),
            (group() | t("items"), [[]]),
            (group(one) | t("items"), [[1]]),
            (chain(one, group(), t("items")), [1]),
            (chain(one, group(one), t("items")), [2]),
            (chain(one, group(one, two), group(t("items"), t("items"))), [[[2, 3]], [[2, 3]]]),
            (chain(one, group(one, two), group(t("items"), t("items")), t("items")), [[[[2, 3]], [[2, 3]]]]),
            (chain(one, group(one, two), t("items"), t("items")), [[[2, 3]]]),
            (chain(one, t("add").type.map([5, 6]), t("items")), [[5, 6]]),
            (chain(one, t("add").type.chunks([(1, 2), (3, 4), (5, 6)], 2), t("items")), [[[3, 7], [11]]]),
            (group(t("add").type.chunks([(1, 2)], 1), one), [[3], 1]),
        ):
            assert canvas.apply().get() == value, canvas
            assert canvas.clone().apply().get() == value, canvas

    def test_arguments_go_where_they_would(self, t: S) -> None:
        assert (t("add", 1) | t("add", 2)).apply((5,)).get() == 8
        assert group(t("add", 1), t("add", 2)).apply((5,)).get() == [6, 7]
        assert chord([t("add", 1), t("add", 2)], t("items", 9)).apply((5,)).get() == [[6, 7], 9]
        assert chord([t("add", 1)]).apply(body=t("items")).get() == [[1]]

    def test_results_know_their_parents(self, t: S) -> None:
        result = chain(t("add", 0), group(t("add", 1), t("add", 2)), t("items"), t("items")).apply()
        assert result.get() == [[[1, 2]]]
        assert result.parent.get() == [[1, 2]]
        assert isinstance(result.parent.parent, GroupResult)
        assert result.parent.parent.parent.get() == 0

    def test_requests_are_those_of_workers(self, t: S, log: Log) -> None:
        chain(t("who"), group(t("who"), t("who")), t("who")).apply()
        first, one, other, body = log
        assert (first["root_id"], first["parent_id"]) == (first["id"], None)
        assert {request["root_id"] for request in log} == {first["id"]}
        assert (one["parent_id"], one["group_index"], other["group_index"]) == (first["id"], 0, 1)
        assert one["group"] == other["group"] is not None
        assert body["group"] is None

    def test_a_chord_without_a_body(self, t: S) -> None:
        with pytest.raises(ValueError, match="needs a body"):
            chord([t("add", 1)]).apply()

    def test_always_eager(self, app: Celeriac, t: S) -> None:
        app.conf.task_always_eager = True
        assert chain(t("add", 1), group(t("add", 1), t("add", 2)), t("items")).delay().get() == [[2, 3]]
        assert chord([t("add", 1)])(t("items")).get() == [[1]]
        assert chain(t("instead", group(t("add", 1))), t("items")).delay().get() == [[1]]
        app.conf.task_eager_propagates = True
        for canvas in (t("fail") | t("items"), chord([t("fail")], t("items")), group(t("fail"))):
            with pytest.raises(ValueError, match="boom"):
                canvas.delay()


class TestFailures:
    def test_the_rest_of_a_chain_has_failed(self, t: S, log: Log) -> None:
        result = chain(t("add", 1), t("fail"), t("add", 1), t("items")).apply()
        assert (result.state, repr(result.result)) == ("FAILURE", "ValueError('boom')")
        assert result.parent.state == "FAILURE"
        assert result.parent.parent.get() == 1
        assert log == [1]
        with pytest.raises(ValueError, match="boom"):
            result.get()

    def test_a_member_fails_its_chord(self, t: S, log: Log) -> None:
        body = linked(t("items"), errbacks=(t("with_failure"), t("by_id")))
        result = chord([t("add", 1), linked(t("fail"), errbacks=(t("by_id"),))], body).apply()
        assert result.state == "FAILURE"
        assert isinstance(result.result, ChordError)
        failed = result.parent[1]
        assert str(result.result) == f"Dependency {failed.id} raised ValueError('boom')"
        assert log[1:] == [("by id", failed.id), (result.id, "items", result.result), ("by id", result.id)]

    def test_a_failed_chord_fails_what_is_around_it(self, t: S) -> None:
        inner = chord([t("fail")], t("items"))
        for canvas in (
            inner | t("items"),
            chord([inner], t("items")),
            chain(t("add", 1), group(t("fail"), t("items")), t("items"), t("items")),
        ):
            result = canvas.apply()
            assert result.state == "FAILURE"
            assert isinstance(result.result, ChordError)
        result = chain(t("fail"), group(t("items"), t("items"))).apply()
        assert isinstance(result, GroupResult)
        assert [one.state for one in result] == ["FAILURE", "FAILURE"]

    def test_members_of_a_group_fail_alone(self, t: S) -> None:
        result = group(t("add", 1), t("fail"), t("add", 2)).apply()
        assert [one.state for one in result] == ["SUCCESS", "FAILURE", "SUCCESS"]

    def test_errbacks(self, t: S, log: Log) -> None:
        for errback, told in (
            (t("by_id"), lambda result: [("by id", result.id)]),
            (t("with_failure"), lambda result: [(result.id, "fail", result.result)]),
            (t("items").set(immutable=True), lambda result: [[]]),
            (t("by_id") | t("items").set(immutable=True), lambda result: [("by id", result.id), []]),
            (
                group(t("by_id"), t("with_failure")),
                lambda result: [("by id", result.id), (result.id, "fail", result.result)],
            ),
        ):
            log.clear()
            result = linked(t("fail"), errbacks=(errback,)).apply()
            assert log == told(result), errback

    def test_errbacks_of_a_chain_are_called_once(self, t: S, log: Log) -> None:
        linked(t("add", 1) | t("fail") | t("items"), errbacks=(t("with_failure"),)).apply()
        assert [entry[1] for entry in log[1:]] == ["fail"]


class TestLinks:
    def test_links_are_called_with_the_value(self, t: S, log: Log) -> None:
        chords = chord([t("items"), t("items")], t("items"))
        result = linked(t("add", 4), t("add", 1), group(t("items"), t("items")), chords).apply()
        assert result.get() == 4
        assert log[:4] == [4, 5, [4], [4]]
        assert log[-1] == [[[4], [4]]]

    def test_links_of_a_chain_and_of_a_chord(self, t: S, log: Log) -> None:
        linked(t("add", 1) | t("add", 2), t("items")).apply()
        linked(chord([t("add", 1)], t("items")), t("items", "linked")).apply()
        assert log == [1, 3, [3], 1, [[1]], [[[1]], "linked"]]


class TestRetries:
    def test_what_follows_waits_for_the_last_try(self, t: S, log: Log) -> None:
        assert (t("third_time", 5) | t("add", 1)).apply().get() == 6
        assert chord([t("third_time", 5)], t("items")).apply().get() == [[5]]
        log.clear()
        linked(t("third_time", 7), t("items")).apply()
        assert log == [[7]]

    def test_given_up(self, t: S, log: Log) -> None:
        result = linked(t("never"), errbacks=(t("by_id"),)).apply()
        assert (result.state, log) == ("FAILURE", [("by id", result.id)])
        assert isinstance(chord([t("never")], t("items")).apply().result, ChordError)


class TestReplacing:
    def test_by_anything(self, t: S) -> None:
        one, two = t("add", 1), t("add", 2)
        for by, value in (
            (one, 1),
            (one | two, 3),
            (group(one, two), [1, 2]),
            (group(one), [1]),
            (group(), []),
            (chord([one, two], t("items")), [[1, 2]]),
            (chord([one], group(t("items"), t("items"))), [[[1]], [[1]]]),
            (one | group(one, two), [2, 3]),
            (t("instead", one), 1),
        ):
            assert t("instead", by).apply(task_id="a").id == "a"
            assert t("instead", by).apply().get() == value, by
            assert (t("instead", by) | t("items")).apply().get() == [value], by
            assert chord([t("instead", by), two], t("items")).apply().get() == [[value, 2]], by
            assert chord([one], t("instead", by)).apply().get() == value, by
            assert group(t("instead", by), two).apply().get() == [value, 2], by

    def test_links_go_on_and_are_called_once(self, t: S, log: Log) -> None:
        linked(t("instead", group(t("add", 1))), t("items")).apply()
        assert log == [1, [[1]]]
        log.clear()
        result = linked(t("instead", t("fail")), errbacks=(t("by_id"),)).apply(task_id="a")
        assert (result.state, log) == ("FAILURE", [("by id", "a")])

    def test_stamps_and_depth_go_on(self, t: S, log: Log) -> None:
        own = t("who").stamp(tenant=9, extra=1)
        t("instead", t("instead", group(t("who"), own))).stamp(tenant=7).apply()
        assert [request["stamps"] for request in log] == [{"tenant": 7}, {"tenant": 9, "extra": 1}]
        assert [request["replaced_task_nesting"] for request in log] == [2, 2]

    def test_by_nothing(self, t: S) -> None:
        for by in (chain(), chord([t("add", 1)])):
            result = t("instead", by).apply()
            assert isinstance(result.result, ImproperlyConfigured)

    def test_a_body_that_replaces_does_not_go_on(self, app: Celeriac, t: S) -> None:
        ends: list[str] = []

        @app.task(name="goes on", bind=True)
        def goes_on(self: Any) -> None:
            self.replace(t("add", 1))
            ends.append("reached")

        assert goes_on.apply().get() == 1
        assert ends == []


class TestAddToChord:
    def test_it_joins_behind_who_added_it(self, t: S) -> None:
        made = chord([t("also", 1, t("add", 50)), t("also", 2, group(t("add", 60))), t("add", 3)], t("items"))
        assert made.apply().get() == [[1, 50, 2, [60], 3]]

    def test_a_failed_one_fails_the_chord(self, t: S) -> None:
        assert isinstance(chord([t("also", 1, t("fail"))], t("items")).apply().result, ChordError)

    def test_outside_of_a_chord(self, t: S) -> None:
        result = t("also", 1, t("add", 1)).apply()
        assert isinstance(result, EagerResult)
        assert isinstance(result.result, ValueError)
