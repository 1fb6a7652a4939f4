"""Stores around stores: compression, encryption, big results in a second store."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.backends.base import StoredResult
from celeriac.backends.large import Large
from celeriac.backends.memory import MemoryBackend
from celeriac.backends.sealed import Sealed
from celeriac.backends.sqlite import SqliteBackend
from celeriac.conformance import ChordContract, ResultBackendContract
from celeriac.exceptions import DecodeError, ImproperlyConfigured
from celeriac.wire import serialization
from celeriac.wire.packing import MARK, packed
from celeriac.wire.results import decode_result, encode_result, is_final


class Mirror:
    """Encrypts as children do: bytes backwards. What does not end in a full stop was not ours."""

    def encode(self, data: bytes) -> bytes:
        return b"." + data[::-1]

    def decode(self, data: bytes) -> bytes:
        if not data.startswith(b"."):
            raise ValueError("a wrong key")
        return data[:0:-1]


mirror = Mirror()


def fresh() -> str:
    return f"memory://{uuid.uuid4().hex}"


# -- the contracts hold through them -----------------------------------------------------------------------


class TestCompressed(ResultBackendContract):
    backend_class = staticmethod(lambda url, options: Sealed(SqliteBackend(url, options), "gzip"))

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/results.db"


class TestEncrypted(ResultBackendContract):
    backend_class = staticmethod(lambda url, options: Sealed(SqliteBackend(url, options), "gzip", mirror))

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/results.db"


class TestByReference(ResultBackendContract):
    """Everything that is a result document goes to the second store."""

    backend_class = staticmethod(
        lambda url, options: Large(SqliteBackend(url, options), SqliteBackend(url + "2", options), size=10)
    )

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/results.db"


class TestChords(ChordContract):
    """What they keep is encrypted, too."""

    backend_class = staticmethod(
        lambda url, options: Large(
            Sealed(MemoryBackend(url, options), "gzip", mirror), MemoryBackend(url + "2", options), size=10
        )
    )

    @pytest.fixture
    def url(self) -> str:
        return fresh()


# -- what is stored ----------------------------------------------------------------------------------------


def test_what_is_compressed_is_read_without_the_setting() -> None:
    url = fresh()
    Sealed(MemoryBackend(url, {}), "gzip").store(
        [StoredResult("a", encode_result("a", "SUCCESS", "x" * 1000)), StoredResult("b", b"{}")]
    )
    stored = MemoryBackend(url, {}).load(["a", "b"])
    assert stored["a"].startswith(MARK)
    assert len(stored["a"]) < 200
    assert decode_result(stored["a"]).result == "x" * 1000
    assert stored["b"] == b"{}"  # compressed it would be longer


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma", "zstd", "brotli"])
def test_every_method_is_recognised(method: str) -> None:
    document = encode_result("a", "SUCCESS", ["spam"] * 100)
    assert decode_result(packed(document, method)).result == ["spam"] * 100


def test_damaged_bytes_are_said_to_be_damaged() -> None:
    store = Sealed(MemoryBackend(fresh(), {}), "gzip")
    store.inner.store([StoredResult("a", MARK + b"application/x-gzip\0nonsense"), StoredResult("b", MARK)])
    for document in store.load(["a", "b"]).values():
        with pytest.raises(DecodeError, match="The result cannot be read"):
            decode_result(document)


def test_what_is_encrypted_is_hidden_and_what_is_not_is_read() -> None:
    store = Sealed(MemoryBackend(fresh(), {}), None, mirror)
    plain = encode_result("plain", "SUCCESS", "of a Celery worker")
    store.inner.store([StoredResult("plain", plain)])
    store.store([StoredResult("secret", encode_result("secret", "SUCCESS", "of ours"))])
    assert b"of ours" not in store.inner.load(["secret"])["secret"]
    found = store.load(["plain", "secret"])
    assert decode_result(found["plain"]).result == "of a Celery worker"
    assert decode_result(found["secret"]).result == "of ours"


def test_that_a_task_has_ended_can_be_seen() -> None:
    store = Sealed(MemoryBackend(fresh(), {}), "gzip", mirror)
    for state in ("STARTED", "SUCCESS"):
        store.store([StoredResult("a", encode_result("a", state, "x" * 500))])
        assert is_final(store.inner.load(["a"])["a"]) == (state == "SUCCESS")
        assert decode_result(store.load(["a"])["a"]).status == state


def test_bytes_of_another_key_are_no_result(caplog: pytest.LogCaptureFixture) -> None:
    store = Sealed(MemoryBackend(fresh(), {}), None, mirror)
    store.inner.store([StoredResult("a", b"\0celeriac-encrypted\0what")])
    with pytest.raises(DecodeError, match="cannot be decrypted"):
        decode_result(store.load(["a"])["a"])
    assert "a wrong key" in caplog.text


@pytest.mark.parametrize("serializer", ["json", "pickle", "msgpack", "yaml"])
def test_a_reference_says_where_the_result_is(serializer: str) -> None:
    first, second = MemoryBackend(fresh(), {}), MemoryBackend(fresh(), {})
    store = Large(first, second, 1000, serializer)
    small = encode_result("small", "SUCCESS", 1, serializer=serializer)
    big = encode_result(
        "big", "SUCCESS", "x" * 5000, serializer=serializer, name="proj.add", args=["y" * 5000], parent_id="p"
    )
    store.store([StoredResult("small", small, 60), StoredResult("big", big, 60)])
    assert second.load(["small", "big"]) == {"big": big}
    assert len(first.load(["big"])["big"]) < 2000
    seen = decode_result(first.load(["big"])["big"], serializer)
    assert (seen.status, seen.parent_id, seen.name) == ("SUCCESS", "p", "proj.add")
    assert seen.result == {"celeriac_large": len(big), "kept_in": second.describe()}
    assert store.load(["small", "big"]) == {"small": small, "big": big}


def test_a_big_failure_is_a_failure_for_everybody() -> None:
    first, second = MemoryBackend(fresh(), {}), MemoryBackend(fresh(), {})
    store = Large(first, second, 1000)
    store.store([StoredResult("a", encode_result("a", "FAILURE", ValueError("x" * 5000)))])
    seen = decode_result(first.load(["a"])["a"])
    assert (seen.status, seen.result["exc_type"], seen.result["exc_module"]) == (
        "FAILURE", "ValueError", "builtins",
    )  # fmt: skip
    assert decode_result(store.load(["a"])["a"]).result["exc_message"] == ["x" * 5000]


def test_a_result_that_is_gone_is_said_to_be_gone() -> None:
    first, second = MemoryBackend(fresh(), {}), MemoryBackend(fresh(), {})
    store = Large(first, second, 100)
    store.store([StoredResult("a", encode_result("a", "SUCCESS", "x" * 500))])
    second.forget(["a"])
    with pytest.raises(DecodeError, match="is not there"):
        decode_result(store.load(["a"])["a"])


def test_forgetting_a_reference_forgets_both() -> None:
    first, second = MemoryBackend(fresh(), {}), MemoryBackend(fresh(), {})
    store = Large(first, second, 100)
    store.store([StoredResult("a", encode_result("a", "SUCCESS", "x" * 500))])
    store.forget(["a", "unknown"])
    assert first.load(["a"]) == second.load(["a"]) == {}


# -- by settings -------------------------------------------------------------------------------------------


@pytest.fixture
def app() -> Any:
    app = Celeriac("hooked", broker=fresh(), backend=fresh(), set_as_current=False)
    yield app
    app.close()


def test_without_the_settings_the_store_is_the_store(app: Celeriac) -> None:
    assert isinstance(app.backend, MemoryBackend)


def test_all_of_them_together(app: Celeriac) -> None:
    big = fresh()
    app.conf.update(
        result_compression="gzip",
        result_encryption=mirror,
        result_large_backend=big,
        result_large_size=1000,
    )
    waiting: list[Any] = []
    thread = threading.Thread(target=lambda: waiting.append(app.AsyncResult("a").get(timeout=20)))
    thread.start()
    app.backend.store([StoredResult("a", encode_result("a", "SUCCESS", "x" * 5000), 60)])
    thread.join(20)
    assert waiting == ["x" * 5000]
    kept = MemoryBackend(big, {}).load(["a"])["a"]
    assert kept.startswith(b"\0celeriac-encrypted\0")
    assert len(kept) < 300
    assert app.backend.target() is None


def test_big_results_may_be_files(app: Celeriac, tmp_path: Path) -> None:
    app.conf.update(result_large_backend=f"file://{tmp_path}/big", result_large_size=1000)
    app.backend.store([StoredResult("a", encode_result("a", "SUCCESS", "x" * 5000), 60)])
    assert app.AsyncResult("a").get(timeout=20) == "x" * 5000
    assert (tmp_path / "big" / "celery-task-meta-a").stat().st_size > 5000
    app.AsyncResult("a").forget()
    assert not (tmp_path / "big" / "celery-task-meta-a").exists()


def test_a_codec_is_named_by_its_path(app: Celeriac) -> None:
    app.conf.result_encryption = f"{__name__}:Mirror"
    assert isinstance(app.backend, Sealed)
    app.conf.result_encryption = f"{__name__}:mirror"
    assert isinstance(app.backend, Sealed)


@pytest.mark.parametrize("wrong", [f"{__name__}:nothing", "no.such.module:x", 5, object()])
def test_a_codec_that_is_none_is_refused(app: Celeriac, wrong: object) -> None:
    app.conf.result_encryption = wrong
    with pytest.raises(ImproperlyConfigured, match="result_encryption"):
        app.backend  # noqa: B018


def test_an_unknown_compression_is_refused(app: Celeriac) -> None:
    app.conf.result_compression = "squeeze"
    with pytest.raises(ImproperlyConfigured, match="squeeze"):
        app.backend  # noqa: B018


def test_compression_is_ignored_where_values_have_columns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("sqlalchemy")
    app = Celeriac("sql", broker=fresh(), backend=f"db+sqlite:///{tmp_path}/r.db", set_as_current=False)
    app.conf.result_compression = "gzip"
    assert not isinstance(app.backend, Sealed)
    assert "result_compression is ignored" in caplog.text
    app.close()


def test_a_group_is_saved_through_them(app: Celeriac) -> None:
    app.conf.update(result_encryption=mirror, result_large_backend=fresh())
    app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")]).save()
    assert [each.id for each in app.GroupResult.restore("g").results] == ["a", "b"]


def test_other_serializers_say_what_cannot_be_read_too() -> None:
    store = Sealed(MemoryBackend(fresh(), {}), None, mirror, "msgpack")
    store.inner.store([StoredResult("a", b"\0celeriac-encrypted\0what")])
    codec = serialization.find("msgpack")
    read = serialization.loads(
        store.load(["a"])["a"], codec.content_type, codec.content_encoding, frozenset({codec.content_type})
    )
    assert "cannot be decrypted" in read["unreadable"]
