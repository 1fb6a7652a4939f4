"""Ids and names of nodes."""

from __future__ import annotations

import os
from uuid import UUID, uuid4

import pytest

from celeriac.utils import get_full_cls_name, noop, uuid
from celeriac.utils.nodenames import (
    anon_nodename,
    default_nodename,
    gethostname,
    host_format,
    node_format,
    nodename,
    nodesplit,
    worker_direct,
)


def test_ids_are_random_uuids() -> None:
    ids = {uuid() for _ in range(1000)}
    assert len(ids) == 1000
    for id in ids:
        assert UUID(id).version == 4
        assert str(UUID(id)) == id
    fixed = uuid4()
    assert uuid(lambda: fixed) == str(fixed)


def test_small_things() -> None:
    assert get_full_cls_name(ValueError) == "builtins.ValueError"
    assert noop(1, a=2) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("given", "full"),
    [(None, "celery@{host}"), ("x", "celery@x"), ("x@", "x@{host}"), ("x@y", "x@y")],
)
def test_node_names_are_completed(given: str | None, full: str) -> None:
    assert default_nodename(given) == full.format(host=gethostname())


def test_splitting_and_joining() -> None:
    assert nodesplit("a@b@c") == ("a", "b@c")
    assert nodesplit("a") == (None, "a")
    assert nodename("a", "b") == "a@b"
    assert anon_nodename("h") == f"gen{os.getpid()}@h"


def test_placeholders() -> None:
    assert node_format("%h %n %d %p %i%I %%", "w1@box.example.org", i="3", I="-3") == (
        "box.example.org w1 example.org w1@box.example.org 3-3 %"
    )
    assert host_format("%h %n %d", "a.b.c") == "a.b.c a b.c"
    assert host_format("%x %", "a") == "%x %"


def test_the_queue_of_one_worker() -> None:
    queue = worker_direct("w1@box")
    assert (queue.name, queue.exchange, queue.routing_key) == ("w1@box.dq2", "C.dq2", "w1@box")
    assert worker_direct(queue) is queue
