"""Messages and documents recorded from Celery 5.7 (folder `golden`), with the placeholders filled in.

`size` is the length of the body as Celery wrote it, before base64 and compression; `body` is what it holds.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

__all__ = ["ACCEPT", "celery_body", "celery_envelope", "control", "envelopes", "fill", "raw", "results"]

FOLDER = Path(__file__).parent / "golden"
ACCEPT = frozenset({"application/json", "application/x-msgpack", "application/x-yaml"})

_UUID = re.compile(r"<uuid-(\d+)>")


def fill(value: Any) -> Any:
    """Replace the recorder's placeholders: equal ones become equal values of the real length."""
    if isinstance(value, dict):
        return {fill(key): fill(item) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item) for item in value]
    if isinstance(value, str):
        value = _UUID.sub(lambda match: f"{int(match[1]):08x}-0000-4000-8000-000000000000", value)
        return value.replace("<hex32>", "0" * 31 + "1").replace("<pid>", "1234").replace("<host>", "host")
    return value


def _load(name: str) -> Any:
    return fill(json.loads((FOLDER / name).read_text()))


def raw(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def envelopes() -> dict[str, list[dict[str, Any]]]:
    return _load("envelopes.json")


def results() -> dict[str, dict[str, Any]]:
    return _load("results.json")


def control() -> dict[str, Any]:
    return _load("control.json")


def celery_body(item: dict[str, Any]) -> bytes:
    """The JSON body as kombu writes it: the standard library's encoder, as it comes."""
    return json.dumps(item["body"]).encode()


def celery_envelope(item: dict[str, Any], body: bytes | None = None) -> bytes:
    """The envelope as kombu writes it."""
    body = celery_body(item) if body is None else body
    keys = ("content-encoding", "content-type", "headers", "properties")
    return json.dumps({"body": base64.b64encode(body).decode(), **{key: item[key] for key in keys}}).encode()
