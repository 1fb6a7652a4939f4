"""Results as files and objects: what URLs and settings mean.

`ObjectBackend`: the seam, by `keyvalue.py` over `local.py` (no library is needed) or `remote.py` (fsspec).

- ``file:///folder``
- ``s3://bucket/folder`` or ``s3://`` with the settings `s3_bucket` and `s3_base_path`
- ``gs://bucket/folder`` or ``gs://`` with `gcs_bucket` and `gcs_base_path`
- ``azureblockblob://<connection string>`` with `azureblockblob_container_name` and `…_base_path`;
  ``az://container/folder``
- ``fsspec+<protocol>://…``: whatever fsspec has a driver for
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from celeriac.backends.base import BackendCapabilities
from celeriac.backends.keyvalue import EXPIRES, KeyValueBackend, Names
from celeriac.backends.objects.local import LocalFiles
from celeriac.exceptions import ImproperlyConfigured

__all__ = ["ObjectBackend", "Place"]

#: Seconds between a waiting client's first look into a remote storage and its second.
_FIRST: Final = 0.1


class Place(NamedTuple):
    """Where in which storage: fsspec's protocol, what all names begin with, the filesystem's options, and the
    extra that installs the driver."""

    protocol: str
    root: str
    options: Mapping[str, Any] = {}
    extra: str = "fsspec"


class ObjectBackend(KeyValueBackend):
    """See `celeriac.backends.base.ResultBackend`.

    Options: the settings of the storage under their names, `result_expires`, `result_serializer`;
    `global_keyprefix`; `storage_options`: arguments of fsspec's filesystem, which outrank all else.

    Example:
        >>> import tempfile
        >>> backend = ObjectBackend(f"file://{tempfile.mkdtemp()}", {})
        >>> backend.save_group("g", b"[]", None)
        >>> backend.load_group("g")
        b'[]'
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        expires = options.get("result_expires", EXPIRES)
        scheme, _, rest = url.partition("://")
        scheme = scheme.lower()
        if scheme == "file":
            if not rest:
                raise ImproperlyConfigured(
                    "The result backend 'file://' does not say where. Write the folder: 'file:///var/results'."
                )
            super().__init__(LocalFiles(rest, expires), options)
            return
        super().__init__(_remote(scheme, rest, options, expires), options, first=_FIRST)
        self.capabilities = BackendCapabilities(push=False, expiry=False, native_chord=True)


def _remote(scheme: str, rest: str, options: Mapping[str, Any], expires: float | None) -> Names:
    make = _PLACES.get(scheme)
    if make is not None:
        place = make(rest, options)
    else:
        place = Place(scheme.removeprefix("fsspec+"), _folder(rest))
    try:
        from celeriac.backends.objects.remote import Objects  # files need no library
    except ModuleNotFoundError as exc:
        raise ImproperlyConfigured(
            f"The result backend for '{scheme}://' needs the library {exc.name!r}, which is not installed. "
            f"Run: pip install 'celeriac[{place.extra}]'"
        ) from exc
    given = options.get("storage_options") or {}
    return Objects(place.protocol, place.root, {**place.options, **given}, expires, place.extra)


def _folder(path: str) -> str:
    path = path.strip("/")
    return f"{path}/" if path else ""


def _bucket(rest: str, named: str | None, base: str, setting: str) -> str:
    """What names begin with: of the URL's path, else of the settings."""
    path = rest.partition("?")[0].strip("/")
    if path:
        return f"{path}/"
    if not named:
        raise ImproperlyConfigured(
            f"The result backend does not say which bucket. Write it into the URL, or set `{setting}`."
        )
    return f"{named}/{base}"


def _s3(rest: str, options: Mapping[str, Any]) -> Place:
    base = str(options.get("s3_base_path") or "").lstrip("/")
    root = _bucket(rest, options.get("s3_bucket"), base, "s3_bucket")
    patience = {
        "connect_timeout": options.get("socket_connect_timeout") or 4.0,
        "read_timeout": options.get("socket_timeout") or 10.0,
        "retries": {"max_attempts": 2},
    }
    # One at a time, within one object: else s3fs asks for each object's size before it reads it.
    storage: dict[str, Any] = {"config_kwargs": patience, "max_concurrency": 1}
    for name, setting in (
        ("key", "s3_access_key_id"),
        ("secret", "s3_secret_access_key"),
        ("endpoint_url", "s3_endpoint_url"),
    ):
        if options.get(setting):
            storage[name] = options[setting]
    if options.get("s3_region"):
        storage["client_kwargs"] = {"region_name": options["s3_region"]}
    return Place("s3", root, storage, "s3")


def _gcs(rest: str, options: Mapping[str, Any]) -> Place:
    """Celery's URL may carry ``?gcs_project=…``."""
    query = dict(parse_qsl(rest.partition("?")[2]))
    base = _folder(str(options.get("gcs_base_path") or ""))
    root = _bucket(rest, options.get("gcs_bucket"), base, "gcs_bucket")
    project = query.get("gcs_project") or query.get("project") or options.get("gcs_project")
    return Place("gs", root, {"project": project} if project else {}, "gcs")


def _azure_celery(rest: str, options: Mapping[str, Any]) -> Place:
    """Celery's URL: a connection string, or ``DefaultAzureCredential@https://account.blob.core.windows.net``."""
    container = options.get("azureblockblob_container_name") or "celery"
    root = f"{container}/{_folder(str(options.get('azureblockblob_base_path') or ''))}"
    credential, at, account = rest.partition("@")
    if at and credential in ("DefaultAzureCredential", "ManagedIdentityCredential"):
        host = account.partition("://")[2] or account
        storage: dict[str, Any] = {"account_name": host.partition(".")[0], "anon": False}
    elif "=" in rest:
        storage = {"connection_string": rest}
    else:
        raise ImproperlyConfigured(
            "After 'azureblockblob://' comes the connection string of the storage account: "
            "'azureblockblob://DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…'."
        )
    return Place("abfs", root, {**storage, **_azure_patience(options)}, "azureblockblob")


def _azure(rest: str, options: Mapping[str, Any]) -> Place:
    return Place(
        "abfs",
        _bucket(rest, None, "", "result_backend"),
        {"anon": False, **_azure_patience(options)},
        "azureblockblob",
    )


def _azure_patience(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "connection_timeout": options.get("azureblockblob_connection_timeout") or 20,
        "read_timeout": options.get("azureblockblob_read_timeout") or 120,
    }


_PLACES: Final[Mapping[str, Callable[[str, Mapping[str, Any]], Place]]] = {
    "s3": _s3,
    "s3a": _s3,
    "gs": _gcs,
    "gcs": _gcs,
    "azureblockblob": _azure_celery,
    "az": _azure,
    "abfs": _azure,
}
