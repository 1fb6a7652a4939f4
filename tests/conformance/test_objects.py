"""Object stores through fsspec keep the contract of result stores: its memory, and S3 (moto's server)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.conftest import provided
from tests.servers import S3Server

from celeriac import Celeriac
from celeriac.backends.base import Opening, StoredResult
from celeriac.conformance import ChordContract, ResultBackendContract
from celeriac.conformance.kit import StoreKit, until
from celeriac.exceptions import ImproperlyConfigured, OperationalError

pytest.importorskip("fsspec")

from celeriac.backends.objects import ObjectBackend


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    pytest.importorskip("s3fs")
    server = provided(S3Server)
    yield server
    server.stop()


class TestMemory(ResultBackendContract):
    backend_class = ObjectBackend

    def test_a_backend_is_usable_again_in_a_forked_child(self) -> None:  # type: ignore[override]
        """A child has a memory of its own."""

    @pytest.fixture
    def url(self) -> str:
        return f"fsspec+memory://{uuid.uuid4().hex}/results"


class TestMemoryChords(ChordContract):
    backend_class = ObjectBackend

    @pytest.fixture
    def url(self) -> str:
        return f"fsspec+memory://{uuid.uuid4().hex}"


class TestS3(ResultBackendContract):
    backend_class = ObjectBackend
    many = 60

    @pytest.fixture
    def url(self, s3_server: S3Server) -> str:
        return f"s3://{s3_server.bucket()}/results"

    @pytest.fixture
    def options(self, s3_server: S3Server) -> Mapping[str, Any]:
        return settings(s3_server)


class TestS3Chords(StoreKit):
    """The rest of the contract is kept by the same code on fsspec's memory; requests are slow here."""

    backend_class = ObjectBackend
    crowds = (3,)
    connect_store = ChordContract.connect_store
    _race = ChordContract._race
    test_many_at_once_have_one_closer = ChordContract.test_many_at_once_have_one_closer

    @pytest.fixture
    def url(self, s3_server: S3Server) -> str:
        return f"s3://{s3_server.bucket()}/results"

    @pytest.fixture
    def options(self, s3_server: S3Server) -> Mapping[str, Any]:
        return settings(s3_server)


def settings(server: S3Server) -> dict[str, Any]:
    return {
        "s3_access_key_id": "key",
        "s3_secret_access_key": "secret",
        "s3_endpoint_url": server.url,
        "s3_region": "us-east-1",
    }


def test_settings_name_the_place_as_celerys_do(s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    app = Celeriac("proj", broker="memory://", backend="s3://", set_as_current=False)
    app.conf.update(settings(s3_server), s3_bucket=bucket, s3_base_path="pre")
    app.backend.store([StoredResult("a", b'{"status": "SUCCESS", "result": 5}', 60)])
    assert app.AsyncResult("a").get(timeout=30) == 5
    import fsspec

    storage = fsspec.filesystem("s3", key="key", secret="secret", endpoint_url=s3_server.url)
    assert storage.ls(bucket) == [f"{bucket}/precelery-task-meta-a"]
    app.close()


def test_what_is_old_is_deleted_and_nothing_else(s3_server: S3Server) -> None:
    url = f"s3://{s3_server.bucket()}"
    young = ObjectBackend(url, {**settings(s3_server), "result_expires": 600})
    old = ObjectBackend(url, {**settings(s3_server), "result_expires": 0.001})
    young.store([StoredResult(f"id-{n}", b"{}", 60) for n in range(5)])
    young.save_group("g", b"[]", 60)
    assert young.expire() == 0
    until(lambda: old.expire() == 6, timeout=20, what="the passing of a moment")
    assert young.load(["id-1"]) == {}
    young.store([StoredResult("id-1", b"{}", 60)])
    shop = ObjectBackend(url, {**settings(s3_server), "result_expires": 0.001, "global_keyprefix": "shop"})
    assert shop.expire() == 0
    assert young.load(["id-1"]) == {"id-1": b"{}"}


def test_a_bucket_that_does_not_exist_is_said(s3_server: S3Server) -> None:
    missing = ObjectBackend("s3://no-such-bucket", settings(s3_server))
    with pytest.raises(OperationalError, match="bucket"):
        missing.store([StoredResult("a", b"{}", 60)])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://", "`s3_bucket`"),
        ("gs://", "`gcs_bucket`"),
        ("azureblockblob://account", "connection string"),
        ("fsspec+nonsense://x", "nonsense"),
    ],
)
def test_what_is_missing_is_said(url: str, says: str) -> None:
    app = Celeriac("proj", broker="memory://", backend=url, set_as_current=False)
    with pytest.raises(ImproperlyConfigured, match=says):
        _ = app.backend


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(protocol: str) -> None:
        raise ImportError(f"Install a driver for {protocol}")

    monkeypatch.setattr("fsspec.get_filesystem_class", refuse)
    url = "azureblockblob://AccountName=a;AccountKey=b"
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'celeriac\[azureblockblob\]'"):
        ObjectBackend(url, {})


def test_chords_are_refused_where_an_object_can_be_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def careless(self: Any, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        self.open(path, "wb", data=value)

    backend = ObjectBackend(f"fsspec+memory://{uuid.uuid4().hex}", {})
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", careless)
    with pytest.raises(ImproperlyConfigured, match="Chords cannot be counted in memory://"):
        backend.chords.open_chords([Opening("c", 2, None, 60)])
