"""Results in DynamoDB, in Celery's table, through boto3. The only module that imports boto3.

1. `DynamoBackend`: the seam, over `keyvalue.py`.
2. `DynamoItems`: names and bytes as items of the table, which is made when it does not exist.

URL: ``dynamodb://[key:secret@]region[:port][/table][?read=1&write=1&ttl_seconds=86400]``; the region may be
``localhost`` or an address, of a DynamoDB that runs there. Names are those that Celery writes, with its
``b'…'`` around them. An item holds 400 KB; what is longer is in further items, which the first one names
(Celery cannot store such a result at all).

Items expire by the table's time to live, on the attribute ``ttl``. It is up to two days late, so readers look
at ``ttl`` themselves.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from celeriac.backends.keyvalue import Item, KeyValueBackend
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.utils.batches import batches, sized_batches
from celeriac.utils.perprocess import PerProcess

__all__ = ["DynamoBackend", "DynamoItems", "Place", "place_of"]

logger = logging.getLogger("celeriac.backend")

#: Bytes of a document in one item, of which 409,600 are the limit, names included.
PIECE: Final = 390_000
#: Items that one call writes, reads; bytes that one call carries.
WRITES: Final = 25
READS: Final = 100
BYTES: Final = 15_000_000
#: Calls until what the service throttles is given up, with these pauses in seconds.
TRIES: Final = 8
PAUSE: Final = 0.05
#: Seconds: to connect, to wait for an answer, for a table to be made.
PATIENCE: Final = (5, 15, 120)

Stored = dict[str, Any]

#: Held while a client is made: boto3's session is not for several threads.
_turn = PerProcess(threading.Lock)


class Place(NamedTuple):
    """Where the table is, and how it is made.

    Attributes:
        table: its name.
        region, endpoint: of the service; an endpoint is of a server that is not AWS's own.
        key, secret: of an access key; without them boto3 looks where it always does.
        read, write: capacity of a new table; 0: on demand.
        ttl: seconds; None: as results are to be kept; negative: for ever, and the table has no time to live.
    """

    table: str = "celery"
    region: str | None = None
    endpoint: str | None = None
    key: str | None = None
    secret: str | None = None
    read: int = 1
    write: int = 1
    ttl: int | None = None


def place_of(url: str, endpoint: str | None = None) -> Place:
    """Read a URL. `endpoint`: the setting `dynamodb_endpoint_url`, which wins.

    Raises:
        ImproperlyConfigured: half an access key, or a number that is none.

    Example:
        >>> place_of("dynamodb://@eu-west-1/jobs?read=5&write=5&ttl_seconds=60")[:3]
        ('jobs', 'eu-west-1', None)
        >>> place_of("dynamodb://localhost:8000").endpoint
        'http://localhost:8000'
    """
    parts = urlsplit(url)
    if bool(parts.username) != bool(parts.password):
        raise ImproperlyConfigured("dynamodb:// needs both the access key id and the secret, or neither.")
    region = parts.hostname
    if region and (region == "localhost" or _is_address(region)):
        endpoint = endpoint or f"http://{region}:{parts.port or 8000}"
        region = "us-east-1"
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        ttl = query.get("ttl_seconds")
        return Place(
            unquote(parts.path.strip("/")) or "celery",
            region or None,
            endpoint,
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            int(query.get("read", 1)),
            int(query.get("write", 1)),
            int(ttl) if ttl else None,
        )
    except ValueError as exc:
        raise ImproperlyConfigured(f"dynamodb://: read, write and ttl_seconds are numbers: {exc}") from exc


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class DynamoBackend(KeyValueBackend):
    """See `celeriac.backends.base.ResultBackend`.

    Options: the settings `dynamodb_endpoint_url` and `result_serializer` under their names;
    `global_keyprefix`.

    Example:
        >>> DynamoBackend("dynamodb://@eu-west-1/jobs", {}).describe()
        'dynamodb://eu-west-1/jobs'
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        place = place_of(url, options.get("dynamodb_endpoint_url"))
        super().__init__(DynamoItems(place), options)


class DynamoItems:
    """See `celeriac.backends.keyvalue.Names`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._client = PerProcess(partial(_connect, place), lambda client: client.close())

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        now = time.time()
        found = {
            name: item
            for name, item in self._read([_celery_name(key) for key in keys]).items()
            if float(item.get("ttl", {}).get("N", now + 1)) > now
        }
        pieces = {name: _piece_names(item) for name, item in found.items() if "pieces" in item}
        more = self._read([each for names in pieces.values() for each in names])
        values = {}
        for name, item in found.items():
            parts = [item] if name not in pieces else [more.get(each) for each in pieces[name]]
            if all(part is not None and "result" in part for part in parts):  # else: replaced meanwhile
                values[name[2:-1]] = b"".join(bytes(part["result"]["B"]) for part in parts if part)
        return values

    def put_many(self, items: Sequence[Item]) -> Mapping[str, str]:
        written: dict[str, Stored] = {}
        for key, value, ttl in items:
            first, *more = self._stored(key, value, ttl)
            written |= {each["id"]["S"]: each for each in (*more, first)}
        for some in sized_batches(written.values(), _size, most=WRITES, most_bytes=BYTES):
            self._write([{"PutRequest": {"Item": item}} for item in some])
        return {}

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        first, *pieces = self._stored(key, value, ttl)
        if pieces:
            self._write([{"PutRequest": {"Item": each}} for each in pieces])
        wanted = "attribute_not_exists(id) OR (attribute_exists(#ttl) AND #ttl < :now)"
        request = {
            "TableName": self._place.table, "Item": first, "ConditionExpression": wanted,
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "ExpressionAttributeValues": {":now": {"N": str(int(time.time()))}},
        }  # fmt: skip
        try:
            self._call("put_item", **request)
        except _Refused:
            return False
        return True

    def delete(self, keys: Sequence[str]) -> None:
        """Pieces of long values stay until they expire: to find them they would have to be read."""
        names = dict.fromkeys(_celery_name(key) for key in keys)
        for some in batches([{"DeleteRequest": {"Key": {"id": {"S": name}}}} for name in names], WRITES):
            self._write(some)

    def expire(self, prefixes: Sequence[str]) -> int:
        """Nothing to do: it is the table's time to live that deletes."""
        return 0

    def describe(self) -> str:
        where = (self._place.endpoint or "").partition("://")[2] or self._place.region or "default region"
        return f"dynamodb://{where}/{self._place.table}"

    def close(self) -> None:
        self._client.close()

    # -- items ---------------------------------------------------------------------------------------------

    def _stored(self, key: str, value: bytes, ttl: float | None) -> list[Stored]:
        """The item, and those with the pieces of a long value, under names of their own for every writing."""
        name, now = _celery_name(key), time.time()
        seconds = ttl if self._place.ttl is None else float(self._place.ttl)
        marks: Stored = {"timestamp": {"N": str(now)}}
        if seconds is not None and seconds >= 0:
            marks["ttl"] = {"N": str(int(now + max(1.0, seconds)))}
        if len(value) <= PIECE:
            return [{"id": {"S": name}, "result": {"B": value}, **marks}]
        own = uuid.uuid4().hex
        pieces = [
            {"id": {"S": f"{name}.{own}.{at // PIECE}"}, "result": {"B": value[at : at + PIECE]}, **marks}
            for at in range(0, len(value), PIECE)
        ]
        return [{"id": {"S": name}, "pieces": {"S": f"{own}.{len(pieces)}"}, **marks}, *pieces]

    def _read(self, names: Sequence[str]) -> Mapping[str, Stored]:
        found: dict[str, Stored] = {}
        for some in batches(list(dict.fromkeys(names)), READS):
            keys = [{"id": {"S": name}} for name in some]
            for _ in self._until_taken():
                asked = {self._place.table: {"Keys": keys, "ConsistentRead": True}}
                answer = self._call("batch_get_item", RequestItems=asked)
                for item in answer["Responses"].get(self._place.table, ()):
                    found[item["id"]["S"]] = item
                keys = answer.get("UnprocessedKeys", {}).get(self._place.table, {}).get("Keys", [])
                if not keys:
                    break
        return found

    def _write(self, requests: Sequence[Mapping[str, Any]]) -> None:
        for _ in self._until_taken():
            answer = self._call("batch_write_item", RequestItems={self._place.table: requests})
            requests = answer.get("UnprocessedItems", {}).get(self._place.table, [])
            if not requests:
                return

    def _until_taken(self) -> Iterator[None]:
        """What the service did not take is asked again, ever more slowly."""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE * 2**attempt)
            yield
        raise OperationalError(
            f"{self.describe()} takes no more: its capacity is used up. Raise it, or bill on demand."
        )

    # -- the client ----------------------------------------------------------------------------------------

    def _call(self, name: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client(), name)(**arguments)
        except ClientError as exc:
            code = exc.response.get("Error", {}).get("Code", "")
            if code == "ConditionalCheckFailedException":
                raise _Refused from exc
            raise OperationalError(f"{self.describe()} does not do its work: {exc}") from exc
        except (BotoCoreError, OSError) as exc:
            raise OperationalError(f"{self.describe()} cannot be reached: {exc}") from exc


class _Refused(Exception):
    """The condition of a write is not met."""


@cache
def _session() -> boto3.session.Session:
    """One for all clients: what it has read (20 MB of descriptions) later ones need not."""
    return boto3.session.Session()


def _connect(place: Place) -> Any:
    """A client whose table is there."""
    config = Config(
        connect_timeout=PATIENCE[0], read_timeout=PATIENCE[1], retries={"mode": "standard"},
        max_pool_connections=10,
    )  # fmt: skip
    given = {
        "region_name": place.region, "endpoint_url": place.endpoint,
        "aws_access_key_id": place.key, "aws_secret_access_key": place.secret,
    }  # fmt: skip
    with _turn():
        client = _session().client("dynamodb", config=config, **{k: one for k, one in given.items() if one})
    _make_table(client, place)
    return client


def _make_table(client: Any, place: Place) -> None:
    try:
        status = client.describe_table(TableName=place.table)["Table"]["TableStatus"]
    except ClientError as exc:
        if exc.response.get("Error", {}).get("Code") != "ResourceNotFoundException":
            raise
        _create(client, place)
        status = "CREATING"
    if status != "ACTIVE":
        client.get_waiter("table_exists").wait(
            TableName=place.table, WaiterConfig={"Delay": 1, "MaxAttempts": PATIENCE[2]}
        )
    _set_ttl(client, place)


def _create(client: Any, place: Place) -> None:
    units = {"ReadCapacityUnits": place.read, "WriteCapacityUnits": place.write}
    billing: dict[str, Any] = (
        {"ProvisionedThroughput": units} if place.read and place.write else {"BillingMode": "PAY_PER_REQUEST"}
    )
    with contextlib.suppress(client.exceptions.ResourceInUseException):  # another process was faster
        client.create_table(
            TableName=place.table,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            **billing,
        )


def _set_ttl(client: Any, place: Place) -> None:
    """Turn the table's time to live on; off when `ttl_seconds` is negative. Results are stored anyway."""
    wanted = place.ttl is None or place.ttl >= 0
    try:
        now = client.describe_time_to_live(TableName=place.table)["TimeToLiveDescription"]
        if (now["TimeToLiveStatus"] in ("ENABLED", "ENABLING")) == wanted:
            return
        client.update_time_to_live(
            TableName=place.table,
            TimeToLiveSpecification={"Enabled": wanted, "AttributeName": now.get("AttributeName", "ttl")},
        )
    except ClientError as exc:
        logger.warning(
            "The time to live of the DynamoDB table %s cannot be turned %s, so results in it %s: %s",
            place.table, "on" if wanted else "off", "stay for ever" if wanted else "may expire", exc,
        )  # fmt: skip


def _celery_name(key: str) -> str:
    return f"b'{key}'"


def _piece_names(item: Stored) -> list[str]:
    own, _, count = item["pieces"]["S"].partition(".")
    return [f"{item['id']['S']}.{own}.{n}" for n in range(int(count))]


def _size(item: Stored) -> int:
    return len(item["result"]["B"]) + 1000 if "result" in item else 1000
