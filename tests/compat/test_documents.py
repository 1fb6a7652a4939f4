"""Documents of MongoDB, DynamoDB and Elasticsearch, shared with Celery 5.7: theirs read here, ours there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import pytest
from bench.environments import python_with
from tests.compat.asking import ask

from celeriac import Celeriac
from celeriac.backends.base import StoredResult
from celeriac.wire.results import encode_result

for _library in ("pymongo", "boto3", "elasticsearch"):
    pytest.importorskip(_library)

CALL = ["proj.add", [1, 2], {"a": 1}, "celery@w1", 2, "fast"]


@pytest.fixture(scope="session")
def document_python() -> str:
    """The interpreter of a virtual environment with Celery 5.7 and these stores, made on first use.

    Its Elasticsearch store does not run with version 9 of the client.
    """
    requirements = ("celery==5.7.0", "pymongo>=4.9", "boto3>=1.34", "elasticsearch>=8.12,<9")
    return str(python_with("compat-celery-documents", requirements))


class Place(NamedTuple):
    """A store that both sides use: its URL for Celery, for us, and what both are told."""

    theirs: str
    ours: str
    conf: dict[str, Any]


@pytest.fixture(
    params=[
        "mongodb",
        "mongodb-pickle",
        "mongodb-gzip",
        "dynamodb",
        "dynamodb-gzip",
        "elastic",
        "elastic-object",
    ]
)
def place(request: pytest.FixtureRequest) -> Place:
    kind, _, form = request.param.partition("-")
    conf: dict[str, Any] = {"result_extended": True}
    conf |= {
        "": {},
        "pickle": {"result_serializer": "pickle", "accept_content": ["json", "pickle"]},
        "gzip": {"result_compression": "gzip"},
        "object": {"elasticsearch_save_meta_as_text": False},
    }[form]
    if kind == "mongodb":
        url = request.getfixturevalue("mongo_server").database()
    elif kind == "dynamodb":
        url = request.getfixturevalue("dynamo_server").table()
    else:
        url = request.getfixturevalue("elastic_server").index()
    return Place(url, url, conf)


@pytest.fixture
def peer(document_python: str, place: Place) -> Callable[..., Any]:
    """Runs one scenario of Celery's and returns what it saw."""
    return partial(
        ask, document_python, "document_peer.py", place.theirs, json.dumps(place.conf), timeout=110
    )


@pytest.fixture
def app(place: Place) -> Iterator[Celeriac]:
    app = Celeriac("ours", broker="memory://", backend=place.ours, set_as_current=False)
    app.conf.update(place.conf)
    yield app
    app.close()


def test_their_documents_are_read(peer: Callable[..., Any], app: Celeriac) -> None:
    peer("write")
    success, none, failure, started = (
        app.AsyncResult(name) for name in ("success", "none", "failure", "started")
    )
    assert success.get(timeout=20) == {"x": [1, "ü"]}
    assert [child.id for child in success.children or []] == ["child-1", "child-2"]
    assert [success.name, list(success.args), success.kwargs, success.worker] == CALL[:4]
    assert success.date_done is not None
    assert abs((success.date_done - datetime.now(UTC)).total_seconds()) < 120
    assert none.get(timeout=20) is None
    assert none.state == "SUCCESS"
    with pytest.raises(ValueError, match="bad"):
        failure.get(timeout=20)
    assert failure.traceback == "the traceback"
    assert (started.state, started.info["pid"]) == ("STARTED", 1)
    assert [each.id for each in app.GroupResult.restore("group").results] == ["success", "failure"]


def test_ours_are_read_by_them(peer: Callable[..., Any], app: Celeriac) -> None:
    form = app.conf.result_serializer
    more: dict[str, Any] = {"name": "proj.add", "args": [1, 2], "kwargs": {"a": 1}, "worker": "celery@w1"}
    more |= {"retries": 2, "queue": "fast", "serializer": form}
    children = [(("child-1", None), None)]
    documents = [
        encode_result("success", "SUCCESS", {"x": 1}, children=children, **more),
        encode_result("none", "SUCCESS", None, serializer=form),
        encode_result("failure", "FAILURE", ValueError("bad", 3), traceback="t", **more),
        encode_result("started", "STARTED", {"pid": 1}, serializer=form),
    ]
    names = ("success", "none", "failure", "started")
    app.backend.store([StoredResult(name, each, 60) for name, each in zip(names, documents, strict=True)])
    app.GroupResult("group", [app.AsyncResult("success"), app.AsyncResult("failure")]).save()
    found = peer("read", *names)
    assert (found["success"]["state"], found["success"]["result"]) == ("SUCCESS", "{'x': 1}")
    assert found["success"]["call"] == CALL
    assert found["success"]["children"] == ["child-1"]
    assert found["success"]["done"][:4] == str(datetime.now(UTC).year)
    assert (found["none"]["state"], found["none"]["result"]) == ("SUCCESS", "None")
    assert (found["failure"]["result"], found["failure"]["traceback"]) == ("ValueError('bad', 3)", "t")
    assert (found["started"]["state"], found["started"]["result"]) == ("STARTED", "{'pid': 1}")
    assert found["group"] == ["success", "failure"]
