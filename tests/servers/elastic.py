"""A stand-in for Elasticsearch: the handful of its REST calls that the result store makes.

1. `ElasticServer`: a server of its own; fresh indices.
2. As a script (``elastic.py PORT``): that server. Documents with versions, in memory; `_doc`, `_create`,
   `_bulk`, `_mget`, `_update`, `_delete_by_query` of a range of dates.

It says that it is Elasticsearch, as clients want to hear. It is no proof of what the real one does.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["ElasticServer"]

Answer = tuple[int, Any]

_lock = threading.Lock()
_indices: dict[str, dict[str, dict[str, Any]]] = {}
_MEDIA = "application/vnd.elasticsearch+json;compatible-with="


def _meta(index: str, id_: str, document: Mapping[str, Any] | None) -> dict[str, Any]:
    found = {"_index": index, "_id": id_}
    if document is None:
        return {**found, "found": False}
    return {**found, **document, "found": True}


def _write(index: str, id_: str, source: Any, create: bool = False) -> Answer:
    documents = _indices.setdefault(index, {})
    old = documents.get(id_)
    if old is not None and create:
        error = {"type": "version_conflict_engine_exception", "reason": f"[{id_}]: version conflict"}
        return 409, {"error": error, "status": 409}
    number = 0 if old is None else old["_seq_no"] + 1
    documents[id_] = {"_source": source, "_seq_no": number, "_primary_term": 1, "_version": number + 1}
    result = "created" if old is None else "updated"
    return 201 if old is None else 200, {"_index": index, "_id": id_, "result": result, "_seq_no": number,
                                         "_primary_term": 1, "_version": number + 1}  # fmt: skip


def _delete(index: str, id_: str) -> Answer:
    old = _indices.get(index, {}).pop(id_, None)
    body = {"_index": index, "_id": id_, "result": "not_found" if old is None else "deleted"}
    return 404 if old is None else 200, body


def _update(index: str, id_: str, body: Any, query: Mapping[str, str]) -> Answer:
    old = _indices.get(index, {}).get(id_)
    if old is None:
        return 404, {"error": {"type": "document_missing_exception", "reason": id_}, "status": 404}
    if "if_seq_no" in query and int(query["if_seq_no"]) != old["_seq_no"]:
        return 409, {"error": {"type": "version_conflict_engine_exception", "reason": id_}, "status": 409}
    return _write(index, id_, {**old["_source"], **body["doc"]})


def _bulk(index: str, lines: list[Any]) -> Answer:
    items, todo = [], iter(lines)
    for action in todo:
        (name, where), *_ = action.items()
        place, id_ = where.get("_index", index), where["_id"]
        if name == "delete":
            status, body = _delete(place, id_)
        else:
            status, body = _write(place, id_, next(todo), create=name == "create")
        items.append({name: {"status": status, **body}})
    return 200, {"took": 1, "errors": any(each[k]["status"] >= 400 for each in items for k in each),
                 "items": items}  # fmt: skip


def _matches(source: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    (kind, detail), *_ = query.items()
    if kind == "range":
        (field, bounds), *_ = detail.items()
        return field in source and source[field] < bounds["lt"]
    if kind == "exists":
        return detail["field"] in source
    if kind == "bool":
        should = detail.get("should", [])
        return (
            all(_matches(source, each) for each in detail.get("filter", []))
            and not any(_matches(source, each) for each in detail.get("must_not", []))
            and (not should or any(_matches(source, each) for each in should))
        )
    raise ValueError(f"this stand-in knows no query {kind!r}")


def _delete_by_query(index: str, query: Mapping[str, Any]) -> Answer:
    documents = _indices.get(index)
    if documents is None:
        return 404, {"error": {"type": "index_not_found_exception", "reason": index}, "status": 404}
    gone = [id_ for id_, each in documents.items() if _matches(each["_source"], query)]
    for id_ in gone:
        del documents[id_]
    return 200, {"deleted": len(gone), "failures": [], "version_conflicts": 0}


def _answer(method: str, url: str, data: bytes) -> Answer:
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    words = [unquote(word) for word in parts.path.strip("/").split("/") if word]
    if not words:
        return 200, {
            "version": {"number": "8.19.0", "build_flavor": "default"},
            "tagline": "You Know, for Search",
        }
    *place, last = words if len(words) < 3 else words[:2]
    index = place[0] if place else ""
    if last == "_bulk":
        return _bulk(index, [json.loads(line) for line in data.splitlines() if line.strip()])
    body = json.loads(data) if data else {}
    if last == "_mget":
        found = _indices.get(index, {})
        return 200, {"docs": [_meta(index, id_, found.get(id_)) for id_ in body["ids"]]}
    if last == "_delete_by_query":
        return _delete_by_query(index, body["query"])
    id_ = words[2]
    if last == "_update":
        return _update(index, id_, body, query)
    if method in ("PUT", "POST"):
        return _write(index, id_, body, create=last == "_create" or query.get("op_type") == "create")
    if method == "DELETE":
        return _delete(index, id_)
    document = _indices.get(index, {}).get(id_)
    return 404 if document is None else 200, _meta(index, id_, document)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with _lock:
            status, body = _answer(self.command, self.path, data)
        reply = json.dumps(body).encode()
        accepted = self.headers.get("Accept") or ""
        self.send_response(status)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", accepted if accepted.startswith(_MEDIA) else "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    _Threads(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
else:
    from tests.servers.process import Server

    class ElasticServer(Server):
        """Its data are in memory."""

        patience = 60.0

        def __init__(self) -> None:
            super().__init__("elastic")
            self._count = 0
            try:
                self.start()
            except BaseException:
                self.stop()
                raise

        def command(self) -> list[str]:
            return [sys.executable, __file__, str(self.port)]

        def answers(self) -> bool:
            return self.ask(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/")

        def index(self) -> str:
            """URL of an index that does not exist yet."""
            self._count += 1
            return f"elasticsearch+http://127.0.0.1:{self.port}/index{self._count}"
