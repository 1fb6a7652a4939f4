"""Celery's two collections in MongoDB. The only module that imports pymongo.

1. `Options`: what the URL and `mongodb_backend_settings` say, in Celery's order of precedence.
2. `Collections`: batches of rows written, read and deleted. It is made anew in every process.
3. Errors: a server that cannot be reached is `OperationalError`; rows that the server does not take are
   returned with the reason.

Rows that expire have a date in `rows.EXPIRES`; an index deletes them. It is not on `date_done`, where Celery
makes an index of its own, which the server would refuse beside ours.

Not here: what a row means (`rows.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import bson
import pymongo
from bson.raw_bson import RawBSONDocument
from pymongo import errors, uri_parser
from pymongo.collection import Collection

from celeriac.backends.mongodb.rows import EXPIRES, plainer
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.utils.batches import batches, sized_batches

__all__ = ["Collections", "Options", "options_of"]

R = TypeVar("R")
Row = dict[str, Any]

#: Bytes of one row; the server's limit, less what surrounds it.
LARGEST: Final = 16 * 1024 * 1024 - 16_384
#: Ids in one query.
CHUNK: Final = 1000
#: Used when nobody says otherwise. Milliseconds, of which the driver's own defaults are minutes.
PATIENCE: Final[Mapping[str, Any]] = {
    "maxPoolSize": 10,
    "serverSelectionTimeoutMS": 5000,
    "connectTimeoutMS": 5000,
    "socketTimeoutMS": 20_000,
}
_UNWRITABLE: Final = (
    bson.errors.InvalidDocument,
    bson.errors.InvalidStringData,
    OverflowError,
    UnicodeError,
)
_DUPLICATE: Final = 11000


class Options(NamedTuple):
    """How to reach the collections.

    Attributes:
        client: arguments of `pymongo.MongoClient`; `host` is a URL. They win over what is in that.
        database, tasks, groups, chords: names.
        place: for people, without a password.
    """

    client: Mapping[str, Any]
    database: str
    tasks: str
    groups: str
    chords: str
    place: str


def options_of(url: str, settings: Mapping[str, Any] | None) -> Options:
    """Options of a URL and of `mongodb_backend_settings`, which wins.

    Raises:
        ImproperlyConfigured: one of them is wrong.

    Example:
        >>> options_of("mongodb://db-1,db-2/jobs", {"taskmeta_collection": "done"})[1:]
        ('jobs', 'done', 'celery_groupmeta', 'celeriac_chords', 'mongodb://db-1,db-2/jobs')
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise ImproperlyConfigured("mongodb_backend_settings must be a dict.")
    given = dict(settings or {})
    parts = _split("mongodb://localhost" if url.rstrip("/") in ("mongodb:", "mongodb") else url)
    said = {name.lower() for name in parse_qs(parts.query)}
    client = {name: value for name, value in PATIENCE.items() if name.lower() not in said}
    place = parts.netloc
    if "host" in given or "port" in given:
        host, port = given.pop("host", "localhost"), int(given.pop("port", 27017))
        login, at, _ = place.rpartition("@")
        hosts = [host] if isinstance(host, str) else host
        place = login + at + ",".join(each if ":" in each else f"{each}:{port}" for each in hosts)
    if named := given.pop("mongo_host", None):
        place = ",".join([named] if isinstance(named, str) else named)
    # Without its path: the driver would look there for the user, and Celery's looks in `admin`.
    client["host"] = place if "://" in place else f"{parts.scheme}://{place}/?{parts.query}"
    user, password = given.pop("user", None), given.pop("password", None)
    client |= {key: value for key, value in (("username", user), ("password", password)) if value}
    database = given.pop("database", None) or unquote(parts.path.strip("/")) or "celery"
    tasks = given.pop("taskmeta_collection", "celery_taskmeta")
    groups = given.pop("groupmeta_collection", "celery_groupmeta")
    chords = given.pop("chords_collection", "celeriac_chords")
    client |= given.pop("options", None) or {}
    client |= given
    shown = f"mongodb://{place.rpartition('@')[2].rpartition('://')[2]}/{database}"
    return Options(client, database, tasks, groups, chords, shown)


def _split(url: str) -> SplitResult:
    try:
        if not url.startswith("mongodb+srv://"):  # that asks a name server; it is the driver's to do
            uri_parser.parse_uri(url)
        return urlsplit(url)
    except (errors.PyMongoError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"The result backend {_without_password(url)} is not understood: {exc}. The URL is "
            "MongoDB's own: mongodb://user:password@host:27017/database?option=value"
        ) from exc


def _without_password(url: str) -> str:
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


class Collections:
    """Thread-safe; of one process. Nothing is connected yet."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._client: pymongo.MongoClient[Row] | None = None
        self._lock = threading.Lock()
        self._indexed: set[str] = set()

    # -- rows ----------------------------------------------------------------------------------------------

    def put(self, name: str, rows: Sequence[Row]) -> Mapping[str, str]:
        """Write rows in place of those with their ids; ids of those that are refused, and why."""
        refused: dict[str, str] = {}
        written: dict[str, RawBSONDocument] = {}
        for row in rows:
            try:
                written[row["_id"]] = _encoded(row)
            except ValueError as exc:
                refused[row["_id"]] = str(exc)
        for some in sized_batches(written, lambda id_: len(written[id_].raw), most=CHUNK, most_bytes=LARGEST):
            refused |= self._replace(name, {id_: written[id_] for id_ in some}, tries=3)
        return refused

    def _replace(self, name: str, rows: Mapping[str, RawBSONDocument], tries: int) -> Mapping[str, str]:
        """Two who insert the same id at once: one of them is told, and replaces what the other wrote."""
        ids = list(rows)
        requests: list[Any] = [
            pymongo.ReplaceOne({"_id": id_}, row, upsert=True) for id_, row in rows.items()
        ]

        def write(collection: Collection[Row]) -> Mapping[str, str]:
            try:
                collection.bulk_write(requests, ordered=False)
            except errors.BulkWriteError as exc:
                return self._errors(exc, ids, name, rows, tries)
            return {}

        return self._with(name, write)

    def _errors(
        self,
        exc: errors.BulkWriteError,
        ids: Sequence[str],
        name: str,
        rows: Mapping[str, RawBSONDocument],
        tries: int,
    ) -> Mapping[str, str]:
        again, refused = {}, {}
        for error in exc.details.get("writeErrors", []):
            id_ = ids[error["index"]]
            if error.get("code") == _DUPLICATE and tries > 1:
                again[id_] = rows[id_]
            else:
                refused[id_] = str(error.get("errmsg"))[:500]
        if exc.details.get("writeConcernErrors"):
            raise OperationalError(f"{self._options.place} did not confirm results: {exc}") from exc
        return refused | (dict(self._replace(name, again, tries - 1)) if again else {})

    def get(self, name: str, ids: Sequence[str]) -> list[Row]:
        """Rows that are there and have not expired."""
        found = self._with(
            name,
            lambda collection: [
                row for some in batches(ids, CHUNK) for row in collection.find({"_id": {"$in": list(some)}})
            ],
        )
        now = datetime.now(UTC)
        return [row for row in found if not _is_past(row.get(EXPIRES), now)]

    def add(self, name: str, row: Row) -> bool:
        """Insert; False when there is such an id."""

        def insert(collection: Collection[Row]) -> bool:
            collection.delete_one({"_id": row["_id"], EXPIRES: {"$lt": datetime.now(UTC)}})
            try:
                collection.insert_one(row)
            except errors.DuplicateKeyError:
                return False
            return True

        return self._with(name, insert)

    def delete(self, name: str, ids: Sequence[str]) -> None:
        self._with(
            name,
            lambda collection: [
                collection.delete_many({"_id": {"$in": list(some)}}) for some in batches(ids, CHUNK)
            ],
        )

    def expire(self, name: str, done_before: datetime | None) -> int:
        """Delete what has expired: ours by its own date, and what has none when it was done long ago."""

        def delete(collection: Collection[Row]) -> int:
            count = collection.delete_many({EXPIRES: {"$lt": datetime.now(UTC)}}).deleted_count
            if done_before is not None:
                old = {"date_done": {"$lt": done_before}, EXPIRES: {"$exists": False}}
                count += collection.delete_many(old).deleted_count
            return count

        return self._with(name, delete)

    # -- the client ----------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None

    def _with(self, name: str, act: Callable[[Collection[Row]], R]) -> R:
        try:
            return act(self._collection(name))
        except errors.ConfigurationError as exc:
            raise ImproperlyConfigured(f"The result backend {self._options.place}: {exc}") from exc
        except (errors.PyMongoError, OSError) as exc:
            said = " ".join(str(exc).split())[:300]
            raise OperationalError(
                f"The result store {self._options.place} does not do its work: {said}"
            ) from exc

    def _collection(self, name: str) -> Collection[Row]:
        client = self._client or self._connect()
        collection = client[self._options.database][name]
        if name not in self._indexed:
            collection.create_index(EXPIRES, expireAfterSeconds=0)
            if name != self._options.chords:
                collection.create_index("date_done")  # as Celery's, which asks for it as well
            self._indexed.add(name)
        return collection

    def _connect(self) -> pymongo.MongoClient[Row]:
        with self._lock:
            if self._client is None:
                try:
                    self._client = pymongo.MongoClient(**self._options.client)
                except (TypeError, ValueError) as exc:
                    raise ImproperlyConfigured(
                        f"The result backend {self._options.place} is not understood: {exc}"
                    ) from exc
            return self._client


def _encoded(row: Row) -> RawBSONDocument:
    """Raises ValueError: no way to write it."""
    try:
        data = bson.encode(row)
    except _UNWRITABLE:
        try:
            data = bson.encode(plainer(row))
        except _UNWRITABLE as exc:
            raise ValueError(str(exc)) from exc
    if len(data) > LARGEST:
        raise ValueError(f"it has {len(data):,} bytes; MongoDB takes {LARGEST:,} (see result_large_backend)")
    return RawBSONDocument(data)


def _is_past(when: Any, now: datetime) -> bool:
    return isinstance(when, datetime) and (when if when.tzinfo else when.replace(tzinfo=UTC)) <= now
