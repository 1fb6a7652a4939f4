"""The contract of stores that count chords: `ChordStore`."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from celeriac.backends.base import Chord, ChordStore, Opening, Part, ResultBackend
from celeriac.conformance.kit import StoreKit, until
from celeriac.wire.results import encode_part

__all__ = ["ChordContract"]


def part(
    task_id: str, position: float | None = None, *, chord: str = "c", value: Any = None, **more: Any
) -> Part:
    """The arrival of a member that succeeded with `value`, its own id unless given."""
    payload = encode_part(task_id, "SUCCESS", task_id if value is None else value)
    return Part(chord, task_id, position, payload, **{"ttl": 60.0, **more})


def payloads(*members: str) -> list[bytes]:
    return [encode_part(task_id, "SUCCESS", task_id) for task_id in members]


class ChordContract(StoreKit):
    """Everything a store of chords promises. Subclass it; bind `backend_class` and `url`."""

    @pytest.fixture
    def connect_store(self, connect_backend: Callable[[], ResultBackend]) -> Callable[[], ChordStore]:
        """Make another view of the same store."""

        def connect() -> ChordStore:
            backend: Any = connect_backend()
            return backend.chords  # type: ignore[no-any-return]

        return connect

    @pytest.fixture
    def chords(self, connect_store: Callable[[], ChordStore]) -> ChordStore:
        return connect_store()

    def test_a_store_that_counts_says_so(self, backend: ResultBackend) -> None:
        assert backend.capabilities.native_chord

    # -- counting --------------------------------------------------------------------------------------------

    def test_the_member_that_is_missing_last_completes_it(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 3, None, 60)])
        assert list(chords.arrive([part("a", 0)])) == [False]
        assert list(chords.arrive([part("b", 1)])) == [False]
        assert list(chords.arrive([part("d", 2)])) == [True]

    def test_a_member_that_comes_twice_counts_once(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 2, None, 60)])
        assert list(chords.arrive([part("a", 0), part("a", 0)])) == [False, False]
        assert list(chords.arrive([part("a", 0)])) == [False]
        assert list(chords.arrive([part("b", 1)])) == [True]

    def test_the_closer_is_told_so_again_and_nobody_else_ever(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 2, None, 60)])
        chords.arrive([part("a", 0)])
        for _ in range(2):
            assert list(chords.arrive([part("b", 1)])) == [True]
            assert list(chords.arrive([part("a", 0)])) == [False]
        chords.close_chord("c")
        for _ in range(2):
            assert list(chords.arrive([part("b", 1), part("a", 0)])) == [True, False]
        assert chords.load_chord("c") is None

    def test_a_chord_of_one(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 1, None, 60)])
        assert list(chords.arrive([part("a", 0)])) == [True]
        chord = chords.load_chord("c")
        assert chord is not None
        assert list(chord.payloads) == payloads("a")
        chords.close_chord("c")
        assert list(chords.arrive([part("a", 0, size=1)])) == [True]
        assert chords.load_chord("c") is None

    def test_members_of_several_chords_arrive_in_one_batch(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 2, None, 60), Opening("d", 1, None, 60), Opening("e", 3, None, 60)])
        batch = [part("a", 0), part("x", 0, chord="d"), part("b", 1), part("y", 0, chord="e")]
        assert list(chords.arrive(batch)) == [False, True, True, False]
        assert list(chords.arrive([])) == []

    def test_one_task_may_be_a_member_of_two_chords(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 1, None, 60), Opening("d", 1, None, 60)])
        assert list(chords.arrive([part("a", 0), part("a", 0, chord="d")])) == [True, True]

    def test_a_chord_that_was_never_opened_completes_nothing(self, chords: ChordStore) -> None:
        assert list(chords.arrive([part("a", 0)])) == [False]
        chords.close_chord("unknown")
        assert chords.load_chord("unknown") is None

    def test_a_member_that_knows_the_size_opens_it(self, chords: ChordStore) -> None:
        assert list(chords.arrive([part("a", 0, size=2)])) == [False]
        assert list(chords.arrive([part("b", 1, size=2)])) == [True]

    def test_opening_it_again_changes_nothing(self, chords: ChordStore) -> None:
        opening = Opening("c", 2, b"body", 60)
        chords.open_chords([opening])
        chords.arrive([part("a", 0)])
        chords.open_chords([opening, opening])
        assert list(chords.arrive([part("b", 1)])) == [True]
        chords.open_chords([opening])
        assert list(chords.arrive([part("a", 0), part("b", 1)])) == [False, True]

    # -- what it holds ---------------------------------------------------------------------------------------

    def test_payloads_come_in_order_of_the_header(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 13, None, 60)])
        names = [f"m{index}" for index in range(12)]
        for index in (11, 0, 3, 10, 2, 1, 4, 6, 5, 9, 8, 7):
            chords.arrive([part(names[index], index)])
            if index == 3:
                chords.arrive([part("last", None)])
        chord = chords.load_chord("c")
        assert chord is not None
        assert (chord.size, chord.body) == (13, None)
        assert list(chord.payloads) == payloads(*names, "last")

    def test_the_first_payload_of_a_member_stays(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 2, None, 60)])
        chords.arrive([part("a", 0, value="first")])
        chords.arrive([part("a", 0, value="second"), part("b", 1)])
        chord = chords.load_chord("c")
        assert chord is not None
        assert list(chord.payloads) == [encode_part("a", "SUCCESS", "first"), *payloads("b")]

    def test_members_with_equal_values_are_different(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 3, None, 60)])
        answers = chords.arrive([part(name, None, value=7) for name in ("a", "b", "d")])
        assert sorted(answers) == [False, False, True]
        chord = chords.load_chord("c")
        assert chord is not None
        assert len(chord.payloads) == 3

    def test_a_body_is_kept_with_it(self, chords: ChordStore) -> None:
        body = bytes(range(256)) * 2000
        chords.open_chords([Opening("c", 1, body, 60)])
        chords.arrive([part("a", 0)])
        assert chords.load_chord("c") == Chord(1, body, payloads("a"))
        chords.close_chord("c")
        chords.close_chord("c")
        assert chords.load_chord("c") is None

    def test_a_large_chord(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 3000, None, 60)])
        answers: list[bool] = []
        for start in range(0, 3000, 500):
            answers += chords.arrive([part(f"m{n}", n, size=3000) for n in range(start, start + 500)])
        assert answers == [False] * 2999 + [True]
        chord = chords.load_chord("c")
        assert chord is not None
        assert list(chord.payloads) == payloads(*(f"m{n}" for n in range(3000)))

    # -- streamed and growing --------------------------------------------------------------------------------

    def test_a_streamed_header_completes_when_it_was_sealed(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 0, None, 60)])
        assert list(chords.arrive([part("a", 0), part("b", 1)])) == [False, False]
        chords.seal_chord("c", 3)
        assert list(chords.arrive([part("b", 1)])) == [False]
        assert list(chords.arrive([part("d", 2)])) == [True]

    def test_it_waits_for_what_was_added(self, chords: ChordStore) -> None:
        chords.open_chords([Opening("c", 2, None, 60)])
        chords.grow_chord("c", ["x"])
        chords.grow_chord("c", ["x"])
        assert list(chords.arrive([part("a", 0), part("b", 1)])) == [False, False]
        assert list(chords.arrive([part("x", 0.5)])) == [True]
        chord = chords.load_chord("c")
        assert chord is not None
        assert list(chord.payloads) == payloads("a", "x", "b")

    def test_an_addition_that_is_faster_than_the_word_of_it_completes_nothing(
        self, chords: ChordStore
    ) -> None:
        chords.open_chords([Opening("c", 2, None, 60)])
        assert list(chords.arrive([part("x", None, extra=True), part("a", 0)])) == [False, False]
        chords.grow_chord("c", ["x", "y"])
        assert list(chords.arrive([part("b", 1)])) == [False]
        assert list(chords.arrive([part("y", None, extra=True)])) == [True]

    # -- several processes -----------------------------------------------------------------------------------

    def test_many_at_once_have_one_closer(self, connect_store: Callable[[], ChordStore]) -> None:
        stores = [connect_store() for _ in range(3)]
        numbers = itertools.count()
        for size in self.crowds:
            chord_id = f"race-{size}"
            stores[0].open_chords([Opening(chord_id, size, None, 60)])
            answers = self._race(stores, chord_id, size)
            closers = {task_id for task_id, closed in answers if closed}
            assert len(closers) == 1, f"{size} members, round {next(numbers)}: {closers}"
            (closer,) = closers
            again = stores[0].arrive([part(f"m{n}", n, chord=chord_id) for n in range(size)])
            assert [f"m{n}" for n, closed in enumerate(again) if closed] == [closer]
            chord = stores[0].load_chord(chord_id)
            assert chord is not None
            assert list(chord.payloads) == payloads(*(f"m{n}" for n in range(size)))

    def _race(self, stores: Sequence[ChordStore], chord_id: str, size: int) -> list[tuple[str, bool]]:
        """Every member arrives twice, from two threads; all start at once."""
        start = threading.Barrier(len(stores) * 2)
        answers: list[tuple[str, bool]] = []
        failures: list[BaseException] = []

        def go(store: ChordStore, mine: Sequence[int]) -> None:
            try:
                start.wait(30)
                for n in mine:
                    (closed,) = store.arrive([part(f"m{n}", n, chord=chord_id)])
                    answers.append((f"m{n}", closed))
            except BaseException as exc:
                failures.append(exc)

        threads = [
            threading.Thread(target=go, args=(store, range(which, size, len(stores))))
            for which, store in enumerate(stores)
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures, failures
        return answers

    # -- expiry ----------------------------------------------------------------------------------------------

    def test_it_is_forgotten_when_nothing_happens_to_it(
        self, chords: ChordStore, backend: ResultBackend
    ) -> None:
        if not backend.capabilities.expiry:
            return
        chords.open_chords([Opening("c", 2, b"body", 1.0), Opening("d", 1, b"body", None)])
        chords.arrive([part("a", 0, ttl=1.0)])

        def forgotten() -> bool:
            backend.expire()
            return chords.load_chord("c") is None

        until(forgotten)
        assert chords.load_chord("d") is not None
        assert list(chords.arrive([part("b", 1)])) == [False]
