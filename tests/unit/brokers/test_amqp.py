"""The pure parts of the RabbitMQ broker: journeys of delayed messages, names, marks, fates."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac.brokers.amqp import celery_delays, copies, delays, names, suspects
from celeriac.brokers.amqp.inquiry import Inquiry
from celeriac.brokers.amqp.lines import Desk
from celeriac.brokers.amqp.publisher import Post, sendable
from celeriac.brokers.amqp.replacing import replacement
from celeriac.brokers.amqp.suspects import COMPANY, RUNNING_PAUSES, Doubtful, verdict
from celeriac.brokers.amqp.topology import Topology
from celeriac.brokers.amqp.window import SILENT, Window
from celeriac.brokers.base import (
    COPIED,
    CRASHED,
    DONE,
    ENDED,
    INNOCENT,
    MOVED,
    RUNNING,
    TAG_BITS,
    UNSURE,
    Outgoing,
    Word,
)
from celeriac.transport.amqp.url import parse
from celeriac.transport.amqp.values import Arrival
from celeriac.utils.identity import delivery_tag
from celeriac.wire.amqp import AGAIN, BY_COPY, CRASHES, MARKS, PARKED, RAW, body_tag, strip, tag_of
from celeriac.wire.message import Message, Unreadable


def matches(pattern: list[str], words: list[str]) -> bool:
    """What a topic exchange does, spelled out."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return matches(pattern[1:], words) or (bool(words) and matches(pattern, words[1:]))
    return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])


def journey(exchange: str, key: str) -> float:
    """Seconds that a message spends in the delay queues, walking them as the server does: every binding of
    each exchange is tried."""
    declared = [wait for level in range(delays.LEVELS) for wait in delays.waits(level)]
    words, spent = key.split("."), 0.0
    while exchange != delays.DUE:
        behind, passes = next((behind, passes) for name, behind, passes in delays.ways() if name == exchange)
        into = [w for w in declared if w.exchange == exchange and matches(w.pattern.split("."), words)]
        assert len(into) + matches(passes.split("."), words) == 1
        for wait in into:
            spent += wait.arguments["x-message-ttl"] / 1000
            assert wait.arguments["x-dead-letter-exchange"] == behind
        exchange = behind
    return spent


@settings(max_examples=30, deadline=None)
@given(st.floats(min_value=0.001, max_value=delays.LONGEST))
def test_a_journey_is_never_too_short_and_hardly_too_long(seconds: float) -> None:
    spent = journey(*delays.route(seconds, "celery"))
    assert seconds - 1e-5 <= spent <= seconds + delays.step(seconds) + 1e-5


def hops(key: str) -> list[delays.Wait]:
    return [list(delays.waits(level))[int(key[2 * level], 16) - 1] for level in delays.levels(key)]


@given(st.floats(min_value=0.001, max_value=delays.LONGEST))
def test_a_journey_is_its_digits(seconds: float) -> None:
    """What the server does, in short; and the levels that are declared are those that it leads through."""
    exchange, key = delays.route(seconds, "celery")
    passed = hops(key)
    spent = sum(wait.arguments["x-message-ttl"] for wait in passed) / 1000
    assert seconds - 1e-5 <= spent <= seconds + delays.step(seconds) + 1e-5
    assert passed[-1].exchange == exchange  # entered at the highest digit


@given(st.floats(min_value=17, max_value=delays.LONGEST))
def test_a_long_delay_never_takes_the_finest_level(seconds: float) -> None:
    assert delays.route(seconds, "celery")[1].startswith("0.")


@pytest.mark.parametrize(("seconds", "most"), [(0.2, 1), (7, 3), (60, 2), (3600, 4), (86_400 * 365, 7)])
def test_a_journey_has_few_hops(seconds: float, most: int) -> None:
    assert len(hops(delays.route(seconds, "celery")[1])) <= most


def test_no_queue_keeps_messages_for_longer_than_rabbitmq_can() -> None:
    _, key = delays.route(delays.LONGEST, "celery")
    assert max(wait.arguments["x-message-ttl"] for wait in hops(key)) <= 10 * 365 * 86_400 * 1000


def test_nothing_goes_through_the_seal_of_a_level() -> None:
    seal = delays.seal(2)
    assert seal.queue not in [wait.queue for wait in delays.waits(2)]


def test_celerys_levels_are_declared_as_celery_declares_them() -> None:
    """Recorded from Celery 5.7: a difference would make one fleet fail to start."""
    levels = {leg.name: leg for leg in celery_delays.legs()}
    leg = levels["celery_delayed_2"]
    assert leg.arguments == {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-message-ttl": 4000,
        "x-dead-letter-exchange": "celery_delayed_1",
        "x-dead-letter-strategy": "at-least-once",
    }
    assert (leg.waits, leg.passes) == ("*." * 25 + "1.#", "*." * 25 + "0.#")
    assert levels["celery_delayed_27"].waits == "1.#"
    assert levels["celery_delayed_0"].behind == "celery_delayed_delivery"


@given(st.text(min_size=1, max_size=255), st.text(min_size=1, max_size=255))
def test_queues_have_keys_of_one_word_that_differ(one: str, other: str) -> None:
    for name in (one, other):
        key = delays.queue_key(name)
        assert "." not in key
        assert len(delays.route(1, key)[1].encode()) <= 255
    assert (delays.queue_key(one) == delays.queue_key(other)) == (one == other)


def test_a_pattern_catches_its_own_suffix_only() -> None:
    pattern = delays.pattern(delays.queue_key("a.b")).split(".")
    assert matches(pattern, delays.route(9.9, delays.queue_key("a.b"))[1].split("."))
    assert not matches(pattern, delays.route(9.9, delays.queue_key("b"))[1].split("."))
    assert not matches(pattern, delays.route(9.9, f"x.{delays.queue_key('a.b')}")[1].split("."))


@given(st.text())
def test_tags_fit_and_are_the_same_everywhere(name: str) -> None:
    name = name.encode("utf-8", "replace").decode()
    assert 0 <= tag_of(name) < 2**TAG_BITS
    assert tag_of(name) == tag_of(name)


def test_a_known_tag() -> None:
    """It may not change: nodes of two versions ask each other."""
    assert tag_of("a") == 1_170_416_445_458_845_835


def test_what_has_no_name_is_named_by_what_it_says() -> None:
    first = Message(b"[]", "application/json", "utf-8", {"id": "x", "retries": 0}, {})
    again = first._replace(properties={"priority": 0})
    retried = first._replace(headers={"id": "x", "retries": 1})
    assert body_tag(first) == body_tag(again) != body_tag(retried)
    assert body_tag(Unreadable("why", b"x")) != body_tag(Unreadable("why", b"y"))


def test_strip_leaves_the_tasks_own_headers() -> None:
    headers = {"task": "t", "x-death": [{"queue": "celery_delayed_0"}], CRASHES: 2}
    assert strip(headers) == {"x-death": [{"queue": "celery_delayed_0"}], CRASHES: 2}
    assert headers == {"task": "t"}
    assert MARKS.isdisjoint(headers)


def test_the_queues_beside_a_queue_know_whose_they_are() -> None:
    assert names.dead_of(names.dead_queue("a.b")) == "a.b"
    assert names.suspects_of(names.suspects_queue("a.b")) == "a.b"
    assert names.dead_of("a.b") == names.suspects_of("a.b") == ""


# -- copies -----------------------------------------------------------------------------------------------


def arrival(message: Message | Unreadable) -> Arrival:
    return Arrival("c1", 1, False, "", "celery", message)


def test_a_message_that_cannot_be_read_survives_the_dead_letters() -> None:
    post = copies.dead("celery", Unreadable("why", b"\x00raw"), "bad", 1)
    assert isinstance(post.message, Message)
    assert post.message.headers[RAW] == "why"
    letter = copies.letter_of("celery", arrival(post.message))
    assert (letter.message, letter.reason, letter.crashes) == (Unreadable("why", b"\x00raw"), "bad", 1)


def test_a_copy_that_goes_back_has_another_name_and_a_parked_one_the_same() -> None:
    message = Message(b"[]", "application/json", "utf-8", {"task": "t"}, {"delivery_tag": "one"})
    returned = copies.returned("celery", message).message
    assert isinstance(returned, Message)
    assert returned.properties["message_id"] != "one"
    parked = copies.parked("celery", message, 0, 1)
    assert parked.message.properties["message_id"] == "one"
    assert parked.message.headers[PARKED] == 1
    assert parked.countdown


def test_a_copy_that_may_be_there_has_the_name_of_that_one() -> None:
    message = task(delivery_tag())
    first = copies.returned("celery", message)
    again = replacement(Doubtful(1, "celery", 7, message, {}, 0, True), "copy")
    assert isinstance(again, Post)
    assert isinstance(first.message, Message)
    assert isinstance(again.message, Message)
    assert again.message.properties["message_id"] == first.message.properties["message_id"]
    assert (again.routing_key, again.message.headers[AGAIN]) == ("celery", BY_COPY)
    suspect = copies.suspect("celery", message, 1)
    again = replacement(Doubtful(1, "celery", 7, message, {}, 1, True, is_suspect=True), "copy")
    assert isinstance(again, Post)
    assert isinstance(suspect.message, Message)
    assert isinstance(again.message, Message)
    assert again.message.properties["message_id"] == suspect.message.properties["message_id"]
    assert (again.routing_key, again.message.headers[CRASHES]) == (suspect.routing_key, 1)


@pytest.mark.parametrize("crashes", [0, 1])
def test_a_suspect_that_may_be_there_has_the_name_of_that_one(crashes: int) -> None:
    known = Doubtful(1, "celery", 7, task(delivery_tag()), {}, crashes, True, words=[Word(CRASHED)])
    first, again = replacement(known, "crash"), replacement(known, "move")
    assert isinstance(first, Post)
    assert isinstance(again, Post)
    assert isinstance(first.message, Message)
    assert isinstance(again.message, Message)
    assert again.routing_key == first.routing_key == names.suspects_queue("celery")
    assert again.message.properties["message_id"] == first.message.properties["message_id"]
    assert again.message.headers[AGAIN] == BY_COPY
    assert AGAIN not in first.message.headers
    nameless = Doubtful(1, "celery", 7, task("somebody else's"), {}, 0, True)
    moved = replacement(nameless, "move")
    assert isinstance(moved, Post)
    assert moved.routing_key == names.suspects_queue("celery")  # as if it had not been moved


def test_where_the_copy_cannot_be_known_the_delivery_runs() -> None:
    for message in (task("somebody else's"), Unreadable("", b"")):
        assert replacement(Doubtful(1, "celery", 7, message, {}, 0, True), "copy") is None


def test_what_a_dead_process_gave_back_is_not_waited_for_long() -> None:
    for value, seconds in ((1, copies.PARKS[-1]), (BY_COPY, copies.PARKS[0])):
        one = Doubtful(1, "celery", 7, task(), {AGAIN: value}, 0, False, is_unread=True)
        assert verdict(one, 0.0) == ("crash", "")
        post = replacement(one, "crash")
        assert isinstance(post, Outgoing)
        assert post.countdown is not None
        assert 0.5 * seconds < post.countdown < 1.5 * seconds


# -- what is sent ahead -----------------------------------------------------------------------------------


class Answering:
    """A connection to a server where one queue is."""

    def __init__(self, consumers: int = 1) -> None:
        self.consumers = consumers

    def desk(self, deadline: float) -> Answering:
        return self

    def queue_declare(self, name: str, *, passive: bool, deadline: float) -> SimpleNamespace:
        return SimpleNamespace(messages=0, consumers=self.consumers)


@pytest.mark.parametrize(("kind", "expected"), [("quorum", True), ("classic", False)])
def test_a_quorum_queue_of_which_nothing_comes_is_consumed_over_another_channel(
    kind: str, expected: bool
) -> None:
    window = Window(["q"], Topology(lambda name: (), kind), 5.0)
    window.size = 4
    desk = cast(Desk, Answering())
    for _ in range(SILENT - 1):
        window.check(desk, has_open=False, now=100.0)
    assert not window.is_doubtful()
    window.check(desk, has_open=True, now=100.0)  # something is here: begin anew
    for _ in range(SILENT):
        assert not window.is_doubtful()
        window.check(desk, has_open=False, now=100.0)
    assert window.is_doubtful() is expected
    window.reset()
    assert not window.is_doubtful()


# -- fates ------------------------------------------------------------------------------------------------


def doubt(*words: Word, **options: object) -> Doubtful:
    return Doubtful(1, "celery", 7, Unreadable("", b""), {}, 0, True, words=list(words), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([Word(DONE, 9.0), Word(RUNNING, 1.0)], ("drop", "")),
        ([Word(f"{ENDED}terminated")], ("end", "terminated")),
        ([Word(INNOCENT, 2.0), Word(CRASHED, 1.0)], ("crash", "")),
        ([Word(INNOCENT, 1.0), Word(CRASHED, 2.0)], ("run", "")),
        ([Word(INNOCENT, 0.0), Word(RUNNING, 5.0)], ("ask", "")),
        ([Word(COPIED, 1.0), Word(CRASHED, 5.0)], ("copy", "")),
        ([Word(COPIED, 1.0), Word(DONE, 5.0)], ("drop", "")),
        ([Word(MOVED, 1.0), Word(CRASHED, 5.0)], ("move", "")),
    ],
)
def test_the_verdict_on_answers(words: list[Word], expected: tuple[str, str]) -> None:
    assert verdict(doubt(*words), 10.0) == expected


def test_the_first_answer_waits_for_company() -> None:
    one = doubt(Word(INNOCENT), first_word=10.0)
    assert verdict(one, 10.0) == ("wait", "")
    assert verdict(one, 10.0 + COMPANY) == ("run", "")


def test_what_runs_for_long_is_parked() -> None:
    assert verdict(doubt(Word(RUNNING), runs=len(RUNNING_PAUSES)), 0.0) == ("park", "")


def test_silence_is_a_crash_after_the_last_question() -> None:
    assert verdict(doubt(), 0.0) == ("ask", "")
    assert verdict(doubt(asks=1, ask_at=5.0, patience=1), 4.0) == ("wait", "")
    assert verdict(doubt(asks=1, ask_at=5.0, patience=1), 5.0) == ("crash", "")
    assert verdict(doubt(asks=1, ask_at=5.0, patience=3), 5.0) == ("ask", "")


def test_what_no_home_knows_was_read_by_nobody() -> None:
    assert verdict(doubt(asks=1, ask_at=5.0, is_unread=True), 4.0) == ("run", "")
    assert verdict(doubt(Word(RUNNING), is_unread=True), 4.0) == ("ask", "")


class Silent:
    """A trail that nobody reads."""

    def claim(self, tags: object) -> None:
        """As if it were written."""

    disclaim = claim


class Ears:
    """An inquiry in whose place the test speaks."""

    def __init__(self) -> None:
        self.number = 0
        self.deaf = False
        self.silence = ""
        self.given_up = 0
        self.everybody = False
        self.said: list[tuple[tuple[str, int], Word]] = []

    def ask(self, places: object) -> bool:
        self.number += 1
        return True

    def silent(self, number: int) -> str:
        return self.silence

    def all_homes(self, number: int) -> bool:
        return self.everybody

    def give_up(self, number: int) -> None:
        self.given_up = number

    def poll(self) -> list[tuple[int, tuple[str, int], Word]]:
        return [(self.number, *each) for each in self.said]


@pytest.mark.parametrize(
    ("silence", "has_node", "patience", "seconds"),
    [
        ("", True, suspects.ASKS, suspects.ASKS * suspects.PATIENCE),
        ("some", True, suspects.ASKS, suspects.AWAITED),
        ("some", False, suspects.ASKS_IN_TURMOIL, suspects.AWAITED_IN_TURMOIL),
        ("unheard", True, suspects.ASKS, suspects.AWAITED_UNHEARD),
    ],
)
def test_silence_of_those_who_may_come_back_is_borne(
    monkeypatch: pytest.MonkeyPatch, silence: str, has_node: bool, patience: int, seconds: float
) -> None:
    now = [100.0]
    monkeypatch.setattr(suspects.time, "monotonic", lambda: now[0])
    ears = Ears()
    ears.silence = silence
    doubts = suspects.Doubts(ears, Silent() if has_node else None)  # type: ignore[arg-type]
    doubts.add(doubt(patience=patience, since=100.0))
    decided: list[str] = []
    while not decided:
        decided = [what for _, what, _ in doubts.decide()]
        now[0] += 0.05
    assert decided == ["crash"]
    assert now[0] - 100.0 == pytest.approx(seconds, abs=0.6)
    assert bool(ears.given_up) == bool(silence)


def test_an_inquiry_knows_who_has_not_answered() -> None:
    inquiry = Inquiry(parse("amqp://localhost//"))
    inquiry.number = 1
    assert inquiry.silent(1) == "unheard"
    inquiry._answered["a"] = 1
    assert inquiry.silent(1) == ""
    inquiry.number = 2
    inquiry._answered["b"] = 2
    assert inquiry.silent(2) == "some"
    inquiry.give_up(2)
    assert inquiry.silent(2) == ""
    inquiry.close()  # whatever is said now is not heard
    assert inquiry.silent(2) == "unheard"


def test_an_inquiry_knows_which_homes_have_answered() -> None:
    inquiry = Inquiry(parse("amqp://localhost//"))
    inquiry.number = 2
    assert not inquiry.all_homes(1)
    inquiry._hear_of_homes(1, "a", None)  # it has not read yet which there are
    assert not inquiry.all_homes(1)
    inquiry._hear_of_homes(1, "a", ["a", "b"])
    inquiry._hear_of_homes(2, "b", ["a"])
    assert not inquiry.all_homes(1)
    assert not inquiry.all_homes(2)
    inquiry._hear_of_homes(2, "a", ["a", "b"])
    assert inquiry.all_homes(2)
    inquiry._hear_of_homes(1, "", ["a"])  # one that speaks for nobody else
    assert not inquiry.all_homes(1)


def test_the_word_of_all_homes_counts_unless_one_is_about_to_find_out() -> None:
    ears = Ears()
    doubts = suspects.Doubts(ears, Silent())  # type: ignore[arg-type]
    doubts.add(doubt())
    assert not list(doubts.decide())  # asked
    ears.everybody = True
    ears.said = [(("celery", 7), Word(UNSURE))]
    assert not list(doubts.decide())
    ears.said = []
    next(iter(doubts._open.values())).ask_at = 0.0
    assert not list(doubts.decide())  # asked again
    assert [what for _, what, _ in doubts.decide()] == ["run"]


def task(name: str = "n") -> Message:
    properties = {"delivery_tag": name}
    return Message(b"[[], {}, {}]", "application/json", "utf-8", {"task": "t", "id": "i"}, properties)


def test_the_server_does_not_drop_what_expires_and_the_time_of_the_publish_is_known() -> None:
    message = task()
    message.properties["expiration"] = "1000"
    begun = int(time.time())
    sent = sendable(message).properties
    assert "expiration" not in sent
    assert begun <= sent["timestamp"] <= time.time()
    message.properties["timestamp"] = 5
    assert sendable(message).properties["timestamp"] == 5  # a copy is as old as its first


def test_what_becomes_a_suspect_unmarked_has_another_name() -> None:
    """Another copy asks for the old one, and finds that it is done."""
    unknown = Doubtful(1, "celery", 7, task(), {}, 0, True)
    post = replacement(unknown, "crash")
    assert isinstance(post, Post)
    assert isinstance(post.message, Message)
    assert post.message.properties["message_id"] != "n"
    assert post.message.headers[CRASHES] == 1
    assert AGAIN not in post.message.headers  # suspects are not asked about one by one without need
    twice = replacement(Doubtful(1, "celery", 7, task(), {AGAIN: 1, PARKED: 2}, 0, True), "crash")
    assert isinstance(twice, Post)
    assert isinstance(twice.message, Message)
    assert twice.message.headers[AGAIN] == 1
    assert twice.message.properties["message_id"] == "n"
    fetched = Doubtful(1, "celery", 7, task(), {AGAIN: 1, CRASHES: 1}, 1, False, True)
    again = replacement(fetched, "crash")
    assert isinstance(again, Post)
    assert isinstance(again.message, Message)
    assert again.message.properties["message_id"] == "n"
    assert (
        again.message.headers[CRASHES] == again.message.headers[AGAIN] == again.message.headers[PARKED] == 1
    )
    fetched.marks = {**fetched.marks, PARKED: 1}  # once more, behind all that were there
    again = replacement(fetched, "crash")
    assert isinstance(again, Post)
    assert isinstance(again.message, Message)
    assert again.message.properties["message_id"] != "n"  # what asks for that name finds it done
    assert again.message.headers[CRASHES] == 1
    assert MARKS.intersection(again.message.headers) == {CRASHES}
    known = replacement(Doubtful(1, "celery", 7, task(), {}, 0, True, words=[Word(CRASHED)]), "crash")
    assert isinstance(known, Post)
    assert isinstance(known.message, Message)
    assert known.message.properties["message_id"] != "n"


def test_a_copy_in_doubt_lets_the_first_one_go_first() -> None:
    copy = Doubtful(1, "celery", 7, task(), {AGAIN: 1}, 0, False, words=[Word(INNOCENT)])
    out = replacement(copy, "run")
    assert isinstance(out, Outgoing)
    assert out.message.headers[AGAIN] == 1
    copy.marks = {AGAIN: 1, PARKED: 1}
    assert replacement(copy, "run") is None  # it runs
    assert isinstance(replacement(copy, "run", is_here=True), Outgoing)  # beside another copy: not both


def test_marks_are_told_apart_from_the_users_headers() -> None:
    assert all(mark.startswith("x-") for mark in MARKS)
    assert {AGAIN, CRASHES, PARKED} <= MARKS
