"""Results in Elasticsearch, in Celery's index, through its client. The only module that imports it.

1. `ElasticBackend`: the seam, over `keyvalue.py`.
2. `ElasticDocuments`: names and bytes as documents of the index.

URL: ``elasticsearch://[user:password@]host[:9200][/index]``; ``elasticsearch+https://…`` encrypts. A document
is ``{"result": text, "@timestamp": date}``, as Celery's, and ``expires``, when it does. Bytes that are no
text are in ``encoded``. The service deletes nothing by itself: `expire` does, and readers look at
``expires``.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import elasticsearch
from elastic_transport import TransportError

from celeriac.backends.base import BackendCapabilities
from celeriac.backends.keyvalue import Item, KeyValueBackend
from celeriac.backends.values import dumps, open_document, value_of
from celeriac.exceptions import DecodeError, ImproperlyConfigured, OperationalError
from celeriac.utils.batches import batches, sized_batches
from celeriac.utils.perprocess import PerProcess

__all__ = ["ElasticBackend", "ElasticDocuments", "Place", "place_of"]

#: Documents in one request, and bytes; the service takes 100 MB.
MANY: Final = 1000
BYTES: Final = 30_000_000
#: Seconds for an answer; tries of one request.
PATIENCE: Final = 10.0
TRIES: Final = 3
_BUSY: Final = frozenset({429, 500, 502, 503, 504})
_INSIDE: Final = ("result", "traceback")


class Place(NamedTuple):
    """An index and its `name`; `node`: URL of the service; `login`: user and password."""

    node: str
    name: str = "celery"
    login: tuple[str, str] | None = None


def place_of(url: str) -> Place:
    """Read a URL.

    Raises:
        ImproperlyConfigured: its scheme or port is unknown.

    Example:
        >>> place_of("elasticsearch+https://me:secret@search/jobs")
        Place(node='https://search:9200', name='jobs', login=('me', 'secret'))
    """
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[2] or "http"
    try:
        port = parts.port or 9200
    except ValueError as exc:
        raise ImproperlyConfigured(f"elasticsearch://: {exc}") from exc
    if scheme not in ("http", "https"):
        raise ImproperlyConfigured(f"elasticsearch+{scheme}:// is not known: say http or https.")
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    # What follows the index was its type; Elasticsearch has had none since version 8.
    index = unquote(parts.path.strip("/").partition("/")[0])
    return Place(f"{scheme}://{parts.hostname or 'localhost'}:{port}", index or "celery", login)


class ElasticBackend(KeyValueBackend):
    """See `celeriac.backends.base.ResultBackend`.

    Options: the settings `elasticsearch_*`, `result_serializer` and `result_expires` under their names;
    `global_keyprefix`.

    Example:
        >>> ElasticBackend("elasticsearch://search/jobs", {}).describe()
        'elasticsearch+http://search:9200/jobs'
    """

    capabilities = BackendCapabilities(push=False, expiry=False, native_chord=True)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(ElasticDocuments(place_of(url), options), options)
        if not options.get("elasticsearch_save_meta_as_text", True):
            self.capabilities = self.capabilities._replace(verbatim=False)


class ElasticDocuments:
    """See `celeriac.backends.keyvalue.Names`."""

    def __init__(self, place: Place, options: Mapping[str, Any]) -> None:
        self._place = place
        timeout, tries = options.get("elasticsearch_timeout"), options.get("elasticsearch_max_retries")
        settings: dict[str, Any] = {
            "request_timeout": PATIENCE if timeout is None else float(timeout),
            "max_retries": TRIES if tries is None else int(tries),
            "retry_on_timeout": bool(options.get("elasticsearch_retry_on_timeout")),
        }
        self._serializer = str(options.get("result_serializer") or "json")
        self._as_text = bool(options.get("elasticsearch_save_meta_as_text", True))
        self._expires: float | None = options.get("result_expires")
        make = partial(elasticsearch.Elasticsearch, place.node, basic_auth=place.login, **settings)
        self._client = PerProcess(make, lambda client: client.close())

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        now = _date(time.time())
        values = {}
        for some in batches(keys, MANY):
            answer = self._call("mget", index=self._place.name, ids=list(some))
            for found in answer["docs"]:
                source = found.get("_source")
                if found.get("found") and isinstance(source, dict) and source.get("expires", "9") > now:
                    value = self._value(source)
                    if value is not None:
                        values[found["_id"]] = value
        return values

    def put_many(self, items: Sequence[Item]) -> Mapping[str, str]:
        refused: dict[str, str] = {}
        latest = {item.key: item for item in items}.values()
        for some in sized_batches(latest, lambda item: len(item.value), most=MANY, most_bytes=BYTES):
            operations: list[Mapping[str, Any]] = []
            for item in some:
                operations += [{"index": {"_id": item.key}}, self._source(item.value, item.ttl)]
            answer = self._call("bulk", index=self._place.name, operations=operations)
            for done in answer["items"]:
                ((_, told),) = done.items()
                if told["status"] in _BUSY:
                    raise OperationalError(f"{self.describe()} is busy: {told.get('error')}")
                if told["status"] >= 400:
                    refused[told["_id"]] = str(told.get("error"))[:500]
        return refused

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        for _ in range(TRIES):
            try:
                self._call("create", index=self._place.name, id=key, document=self._source(value, ttl))
            except _Conflict:
                if not self._drop_expired(key):
                    return False
            else:
                return True
        return False

    def _drop_expired(self, key: str) -> bool:
        """Make room for what takes the place of something that has expired; False: it has not."""
        (found,) = self._call("mget", index=self._place.name, ids=[key])["docs"]
        expires = (found.get("_source") or {}).get("expires")
        if found.get("found") and (expires is None or expires > _date(time.time())):
            return False
        if found.get("found"):
            same = {"if_seq_no": found["_seq_no"], "if_primary_term": found["_primary_term"]}
            self._bulk_delete([{"_id": key, **same}])
        return True

    def delete(self, keys: Sequence[str]) -> None:
        for some in batches(keys, MANY):
            self._bulk_delete([{"_id": key} for key in some])

    def _bulk_delete(self, which: Sequence[Mapping[str, Any]]) -> None:
        self._call("bulk", index=self._place.name, operations=[{"delete": each} for each in which])

    def expire(self, prefixes: Sequence[str]) -> int:
        """Delete what has expired: ours by its own date, Celery's when it is older than `result_expires`."""
        now = time.time()
        old: list[Mapping[str, Any]] = [{"range": {"expires": {"lt": _date(now)}}}]
        if self._expires:
            stale = {"range": {"@timestamp": {"lt": _date(now - self._expires)}}}
            old.append({"bool": {"filter": [stale], "must_not": [{"exists": {"field": "expires"}}]}})
        try:
            answer = self._call(
                "delete_by_query",
                index=self._place.name,
                query={"bool": {"should": old}},
                conflicts="proceed",
            )
        except _Missing:
            return 0
        return int(answer["deleted"])

    def describe(self) -> str:
        return f"elasticsearch+{self._place.node}/{self._place.name}"

    def close(self) -> None:
        self._client.close()

    # -- documents -----------------------------------------------------------------------------------------

    def _source(self, value: bytes, ttl: float | None) -> dict[str, Any]:
        now = time.time()
        source: dict[str, Any] = {"@timestamp": _date(now)}
        if ttl is not None:
            source["expires"] = _date(now + ttl)
        try:
            source["result"] = value.decode()
        except UnicodeDecodeError:
            return {**source, "encoded": base64.b64encode(value).decode()}
        if not self._as_text:
            source["result"] = self._fields(value, source["result"])
        return source

    def _fields(self, value: bytes, text: str) -> Any:
        """A result document as an object whose value and traceback are text, as Celery has it."""
        try:
            read = open_document(value, self._serializer)
        except DecodeError:
            return text
        if not isinstance(read, dict) or "status" not in read:
            return text
        inside = {key: dumps(read[key], self._serializer).decode() for key in _INSIDE if read.get(key)}
        return {**read, **inside}

    def _value(self, source: Mapping[str, Any]) -> bytes | None:
        if "encoded" in source:
            return base64.b64decode(source["encoded"])
        kept = source.get("result")
        if isinstance(kept, str):
            return kept.encode()
        if not isinstance(kept, dict):
            return None
        try:
            inside = {key: value_of(kept[key], self._serializer) for key in _INSIDE if kept.get(key)}
        except DecodeError as exc:
            return dumps({"unreadable": f"The result cannot be read: {exc}"}, self._serializer)
        return dumps({**kept, **inside}, self._serializer)

    # -- the client ----------------------------------------------------------------------------------------

    def _call(self, name: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client(), name)(**arguments)
        except elasticsearch.ConflictError as exc:
            raise _Conflict from exc
        except elasticsearch.NotFoundError as exc:
            raise _Missing from exc
        except (elasticsearch.ApiError, TransportError, OSError) as exc:
            said = " ".join(str(exc).split())[:300]
            raise OperationalError(f"{self.describe()} does not do its work: {said}") from exc


class _Conflict(Exception):
    """There is such a document."""


class _Missing(Exception):
    """There is no such index."""


def _date(seconds: float) -> str:
    """As Celery writes it: to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:23] + "Z"
