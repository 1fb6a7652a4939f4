"""Result documents, remote control and events: bytes and values as Celery's."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from tests.wire import samples

from celeriac import exceptions
from celeriac.wire import control, results, virtual
from celeriac.wire.message import Message, Unreadable

RESULTS = samples.results()
CONTROL = samples.control()
EXTENDED = ("name", "args", "kwargs", "worker", "retries", "queue")


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_result_documents_are_celerys_byte_for_byte(name: str) -> None:
    sample = RESULTS[name]
    done = sample["date_done"]
    document = results.encode_result(
        sample["task_id"],
        sample["status"],
        sample["result"],
        traceback=sample["traceback"],
        children=sample["children"],
        parent_id=sample.get("parent_id"),
        group_id=sample.get("group_id"),
        date_done=datetime.fromisoformat(done) if done else None,
        **{key: sample[key] for key in EXTENDED if key in sample},
    )
    assert document == json.dumps(sample).encode()


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_result_documents_of_celery_are_read(name: str) -> None:
    sample = RESULTS[name]
    meta = results.decode_result(json.dumps(sample).encode())
    for field, value in meta._asdict().items():
        assert value == sample.get(field), field


@pytest.mark.parametrize(
    ("exc", "recorded"),
    [
        (exceptions.SoftTimeLimitExceeded(), "failure_soft_time_limit"),
        (exceptions.TimeLimitExceeded(1), "failure_hard_time_limit"),
        (exceptions.TaskRevokedError("revoked"), "revoked_while_eta"),
        (exceptions.Reject("no reason", False), "rejected"),
        (exceptions.NotRegistered("no.such.task"), "unregistered"),
        (ValueError("x", 3), "direct_f1"),
        (exceptions.Retry("again", ValueError("x")), "direct_r1"),
    ],
)
def test_exceptions_are_stored_under_celerys_names(exc: Exception, recorded: str) -> None:
    sample = RESULTS[recorded]
    document = results.decode_result(results.encode_result("i", sample["status"], exc))
    assert document.result == sample["result"]


@pytest.mark.parametrize("recorded", sorted(name for name in RESULTS if "exc_type" in str(RESULTS[name])))
def test_failures_of_celery_come_back_as_ours(recorded: str) -> None:
    stored = RESULTS[recorded]["result"]
    exc = results.rebuild_exception(stored)
    if stored["exc_module"] == "proj":  # not loaded here
        assert isinstance(exc, exceptions.RemoteError)
        assert exc.exc_type == stored["exc_type"]
        assert list(exc.exc_args) == stored["exc_message"]
    else:
        assert type(exc).__name__ == stored["exc_type"]
        assert type(exc).__module__ in ("celeriac.exceptions", "builtins")


def test_a_saved_group_is_celerys() -> None:
    (sample,) = CONTROL["group"]
    document = json.dumps(sample).encode()
    assert results.encode_group(results.decode_group(document)) == document


def decoded(item: dict[str, Any]) -> Message:
    message = virtual.decode(samples.celery_envelope(item))
    assert not isinstance(message, Unreadable)
    return message


def assert_same(message: Message, item: dict[str, Any]) -> None:
    assert message.body == samples.celery_body(item)
    assert message.headers == item["headers"]
    assert {**message.properties, "delivery_tag": ""} == {**item["properties"], "delivery_tag": ""}


@pytest.mark.parametrize("item", CONTROL["requests"], ids=range(len(CONTROL["requests"])))
def test_control_requests_are_celerys(item: dict[str, Any]) -> None:
    assert len(samples.celery_body(item)) == item["size"] + _node_growth(item)
    request = control.read_request(decoded(item))
    assert request.method == item["body"]["method"]
    assert_same(control.request_message(request), item)


def _node_growth(item: dict[str, Any]) -> int:
    """By how much the placeholder's host name is longer than the one that was recorded (``vm``)."""
    return json.dumps(item["body"]).count("@host") * (len("host") - len("vm"))


@pytest.mark.parametrize("item", CONTROL["replies"], ids=range(len(CONTROL["replies"])))
def test_control_replies_are_celerys(item: dict[str, Any]) -> None:
    reply = control.read_reply(decoded(item))
    ((node, value),) = reply.replies.items()
    key = item["properties"]["delivery_info"]["routing_key"]
    request = control.Request("ping", {}, ticket=reply.ticket, reply_key=key)
    assert_same(control.reply_message(node, value, request, clock=reply.clock), item)


@pytest.mark.parametrize("item", CONTROL["events"], ids=lambda item: str(item["properties"]["delivery_info"]))
def test_events_are_celerys(item: dict[str, Any]) -> None:
    message = decoded(item)
    events = control.read_events(message)
    body = events if isinstance(item["body"], list) else events[0]
    assert_same(control.event_message(body, hostname=message.headers["hostname"]), item)
