"""The contract of result stores: `ResultBackend` and `Watch`."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from celeriac.backends.base import ResultBackend, StoredResult, Watch
from celeriac.backends.interim import store_interim
from celeriac.conformance.kit import StoreKit, until
from celeriac.exceptions import ImproperlyConfigured
from celeriac.wire.results import decode_result, encode_result

__all__ = ["ResultBackendContract"]


def collect(watch: Watch, wanted: int, *, timeout: float = 20.0) -> Mapping[str, bytes]:
    """Wait until `wanted` documents have come."""
    found: dict[str, bytes] = {}
    deadline = time.monotonic() + timeout
    while len(found) < wanted:
        left = deadline - time.monotonic()
        assert left > 0, f"only {sorted(found)} came"
        found.update(watch.wait(left))
    return found


def home(reader: ResultBackend) -> str:
    """What a result carries so that `reader` can load it: an address, where results are not shared."""
    if reader.capabilities.shared:
        return ""
    mailbox: Any = reader
    return str(mailbox.listen())


class ResultBackendContract(StoreKit):
    """Everything a result store promises. Subclass it; see the head of this package."""

    # -- store, load, forget ---------------------------------------------------------------------------------

    def test_load_returns_what_was_stored_and_unknown_ids_are_absent(
        self, backend: ResultBackend, connect_backend: Callable[[], ResultBackend]
    ) -> None:
        document = b'{"status": "SUCCESS", "result": "\xc3\xbc"}'
        backend.store([StoredResult("a", document, 60), StoredResult("b", b"{}", None)])
        reader = connect_backend() if backend.capabilities.shared else backend
        found = dict(reader.load(["a", "b", "c"]))
        if not backend.capabilities.verbatim:
            meta = decode_result(found["a"])
            assert (meta.status, meta.result) == ("SUCCESS", "\xfc")
            found["a"] = document
        assert found == {"a": document, "b": b"{}"}
        assert backend.load([]) == {}

    def test_the_last_document_of_an_id_counts(self, backend: ResultBackend) -> None:
        backend.store([StoredResult("a", b"1", 60)])
        backend.store([StoredResult("a", b"2", 60), StoredResult("b", b"3", 60), StoredResult("b", b"4", 60)])
        assert backend.load(["a", "b"]) == {"a": b"2", "b": b"4"}

    def test_storing_nothing_is_allowed(self, backend: ResultBackend) -> None:
        backend.store([])

    def test_a_large_document_is_kept(self, backend: ResultBackend) -> None:
        backend.store([StoredResult("a", b"x" * 3_000_000, 60)])
        assert len(backend.load(["a"])["a"]) == 3_000_000

    def test_many_documents_are_loaded_at_once(self, backend: ResultBackend) -> None:
        names = [f"id-{n}" for n in range(self.many)]
        backend.store([StoredResult(name, name.encode(), 60) for name in names])
        assert backend.load(names) == {name: name.encode() for name in names}

    def test_forget_deletes(self, backend: ResultBackend) -> None:
        backend.store([StoredResult("a", b"1", 60), StoredResult("b", b"2", 60)])
        backend.forget(["a", "unknown"])
        assert backend.load(["a", "b"]) == {"b": b"2"}

    def test_a_document_expires_after_its_ttl(self, backend: ResultBackend) -> None:
        if not backend.capabilities.expiry:
            return
        backend.store(
            [StoredResult("short", b"1", 1), StoredResult("long", b"2", 60), StoredResult("ever", b"3")]
        )
        until(lambda: "short" not in backend.load(["short"]))
        backend.expire()
        assert backend.load(["short", "long", "ever"]) == {"long": b"2", "ever": b"3"}

    def test_expire_says_how_many_it_deleted(self, backend: ResultBackend) -> None:
        assert backend.expire() == 0

    def test_a_backend_is_usable_again_in_a_forked_child(self, backend: ResultBackend) -> None:
        target = backend.target()
        if not backend.capabilities.shared or (target is not None and target.location[0] == "memory"):
            return  # a child has a memory of its own
        backend.store([StoredResult("parent", b"1", 60)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                backend.store([StoredResult("child", b"2", 60)])
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert backend.load(["parent", "child"]) == {"parent": b"1", "child": b"2"}

    def test_a_closed_backend_can_be_used_again(self, backend: ResultBackend) -> None:
        backend.store([StoredResult("a", b"1", 60)])
        backend.close()
        backend.close()
        assert backend.load(["a"]) == {"a": b"1"}

    # -- states on the way -----------------------------------------------------------------------------------

    def test_a_state_on_the_way_takes_the_place_of_another_and_is_told(self, backend: ResultBackend) -> None:
        to = home(backend)
        watch = backend.watch(["a"])
        for state in ("STARTED", "PROGRESS", "CUSTOM"):
            store_interim(backend, [StoredResult("a", encode_result("a", state, 1), 60, to)], "json")
            assert decode_result(collect(watch, 1)["a"]).status == state
        assert decode_result(backend.load(["a"])["a"]).status == "CUSTOM"
        watch.close()

    def test_a_state_on_the_way_does_not_hide_an_end(self, backend: ResultBackend) -> None:
        to = home(backend)
        watch = backend.watch(["a", "b"])
        end, late = encode_result("a", "SUCCESS", 1), encode_result("a", "PROGRESS", 1)
        backend.store([StoredResult("a", end, 60, to)])
        assert set(collect(watch, 1)) == {"a"}
        other = encode_result("b", "STARTED", 1)
        store_interim(backend, [StoredResult("a", late, 60, to), StoredResult("b", other, 60, to)], "json")
        assert set(collect(watch, 1)) == {"b"}
        assert decode_result(backend.load(["a"])["a"]).status == "SUCCESS"
        watch.close()

    def test_what_has_changed_since_it_was_seen_is_left_alone(self, backend: ResultBackend) -> None:
        if not backend.capabilities.compares:
            return
        store: Any = backend
        backend.store([StoredResult("a", b"1", 60), StoredResult("b", b"1", 60)])
        seen = backend.load(["a", "b", "c", "d"])
        backend.store([StoredResult("a", b"2", 60), StoredResult("c", b"2", 60)])
        store.store_if(
            [StoredResult(name, b"3", ttl) for name, ttl in zip("abcd", (60, None, 60, None), strict=True)],
            seen,
        )
        assert backend.load(["a", "b", "c", "d"]) == {"a": b"2", "b": b"3", "c": b"2", "d": b"3"}

    # -- groups ----------------------------------------------------------------------------------------------

    def test_groups_are_saved_loaded_and_deleted(self, backend: ResultBackend) -> None:
        if not backend.capabilities.shared:
            with pytest.raises(NotImplementedError, match="groups"):
                backend.save_group("g", b"[1]", 60)
            with pytest.raises(NotImplementedError, match="groups"):
                backend.load_group("g")
            return
        assert backend.load_group("g") is None
        backend.save_group("g", b"[1]", 60)
        backend.save_group("g", b"[1, 2]", None)
        backend.save_group("h", b"[3]", 60)
        assert backend.load_group("g") == b"[1, 2]"
        backend.delete_group("g")
        backend.delete_group("g")
        assert backend.load_group("g") is None
        assert backend.load_group("h") == b"[3]"

    def test_groups_and_tasks_of_one_id_do_not_meet(self, backend: ResultBackend) -> None:
        if not backend.capabilities.shared:
            return
        backend.store([StoredResult("x", b"task", 60)])
        backend.save_group("x", b"group", 60)
        backend.delete_group("x")
        assert backend.load(["x"]) == {"x": b"task"}

    # -- watch -----------------------------------------------------------------------------------------------

    def test_wait_returns_documents_of_watched_ids(
        self, backend: ResultBackend, connect_backend: Callable[[], ResultBackend]
    ) -> None:
        to = home(backend)
        watch = backend.watch(["a", "b"])
        connect_backend().store(
            [
                StoredResult("a", b"1", 60, to),
                StoredResult("b", b"2", 60, to),
                StoredResult("stranger", b"3", 60, to),
            ]
        )
        assert collect(watch, 2) == {"a": b"1", "b": b"2"}
        assert watch.wait(0.05) == {}
        watch.close()

    def test_wait_blocks_until_another_process_stores(
        self, backend: ResultBackend, connect_backend: Callable[[], ResultBackend]
    ) -> None:
        to = home(backend)
        watch = backend.watch(["a"])
        found: list[Mapping[str, bytes]] = []
        thread = threading.Thread(target=lambda: found.append(collect(watch, 1, timeout=20)))
        thread.start()
        connect_backend().store([StoredResult("a", b"1", 60, to)])
        thread.join(30)
        assert found == [{"a": b"1"}]
        watch.close()

    def test_no_wake_up_is_missed_between_add_load_and_wait(
        self, backend: ResultBackend, connect_backend: Callable[[], ResultBackend]
    ) -> None:
        writer = connect_backend()
        to = home(backend)
        watch = backend.watch()
        for n in range(30):
            name = f"id-{n}"
            thread = threading.Thread(target=writer.store, args=([StoredResult(name, b"1", 60, to)],))
            thread.start()
            watch.add([name])
            if not backend.load([name]):
                assert collect(watch, 1) == {name: b"1"}
            thread.join()
            watch.discard([name])
        watch.close()

    def test_every_state_is_reported(self, backend: ResultBackend) -> None:
        home(backend)
        watch = backend.watch(["a"])
        for document in (b"STARTED", b"RETRY", b"SUCCESS"):
            backend.store([StoredResult("a", document, 60)])
            assert collect(watch, 1) == {"a": document}
        watch.close()

    def test_discarded_ids_are_not_reported(self, backend: ResultBackend) -> None:
        home(backend)
        watch = backend.watch(["a", "b"])
        watch.discard(["a"])
        backend.store([StoredResult("a", b"1", 60), StoredResult("b", b"2", 60)])
        assert collect(watch, 1) == {"b": b"2"}
        assert watch.wait(0.05) == {}
        watch.close()

    def test_several_watches_of_one_id_all_hear(self, connect_backend: Callable[[], ResultBackend]) -> None:
        backend = connect_backend()
        to = home(backend)
        other = connect_backend() if backend.capabilities.shared else backend
        watches = [backend.watch(["a"]), backend.watch(["a"]), other.watch(["a"])]
        connect_backend().store([StoredResult("a", b"1", 60, to)])
        for watch in watches:
            assert collect(watch, 1) == {"a": b"1"}
            watch.close()

    def test_closing_one_watch_leaves_the_others(self, connect_backend: Callable[[], ResultBackend]) -> None:
        backend = connect_backend()
        to = home(backend)
        one, two = backend.watch(["a"]), backend.watch(["a"])
        one.close()
        connect_backend().store([StoredResult("a", b"1", 60, to)])
        assert collect(two, 1) == {"a": b"1"}
        two.close()

    def test_wait_returns_empty_after_its_timeout(self, backend: ResultBackend) -> None:
        home(backend)
        watch = backend.watch(["a"])
        assert watch.wait(0.02) == {}
        assert watch.wait(0) == {}
        watch.close()

    @pytest.mark.parametrize("before", [True, False])
    def test_wake_ends_a_wait(self, backend: ResultBackend, before: bool) -> None:
        home(backend)
        watch = backend.watch(["a"])
        found: list[Mapping[str, bytes]] = []
        thread = threading.Thread(target=lambda: found.append(watch.wait(20)))
        if before:
            watch.wake()
        thread.start()
        if not before:
            watch.wake()
        thread.join(30)
        assert found == [{}]
        watch.close()

    def test_ids_may_be_added_while_another_thread_waits(
        self, backend: ResultBackend, connect_backend: Callable[[], ResultBackend]
    ) -> None:
        to = home(backend)
        watch = backend.watch()
        found: list[Mapping[str, bytes]] = []
        thread = threading.Thread(target=lambda: found.append(collect(watch, 1, timeout=20)))
        thread.start()
        watch.add(["a"])
        connect_backend().store([StoredResult("a", b"1", 60, to)])
        thread.join(30)
        assert found == [{"a": b"1"}]
        watch.close()

    def test_results_that_are_not_shared_reach_the_caller_alone(
        self, backend: ResultBackend, connect_backend: Callable[[], ResultBackend]
    ) -> None:
        if backend.capabilities.shared:
            return
        stranger, to = connect_backend(), home(backend)
        with pytest.raises(ImproperlyConfigured, match="made none"):
            stranger.watch(["a"])
        watch = backend.watch(["a"])
        stranger.store([StoredResult("a", b"1", 60, to), StoredResult("b", b"2", 60, "nobody-is-there")])
        assert collect(watch, 1) == {"a": b"1"}
        assert stranger.load(["a", "b"]) == {}
        assert backend.load(["a"]) == {"a": b"1"}
        watch.close()

    # -- the rest --------------------------------------------------------------------------------------------

    def test_describe_fits_in_one_line(self, backend: ResultBackend) -> None:
        assert backend.describe()
        assert "\n" not in backend.describe()
