"""The rules of persistence/contract.py as tests that every store must pass.

A store joins by a `World`: how to open one, how to open it again after it was closed, and how to take it over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from store_samples import commit, fill, full_step, result, said, step

from persistence.contract import (
    AppendRefused,
    Committed,
    DeadLetterRow,
    EntryRow,
    InboxRow,
    Loaded,
    MemoryRow,
    MetricRow,
    OwnershipLost,
    Store,
    StoreError,
    operation_row,
)

ODD_TEXTS = ("", " ", "naïve — 東京 🎈 \u200b\u202e", "'; DROP TABLE x; --", "line\r\nline\ttab\x7f", "\ufeffbom\uffff")
NEVER = {"keep_journal_ms": 2**60, "keep_logs_ms": 2**60, "keep_inbox_ms": 2**60}


@dataclass(frozen=True, slots=True)
class World:
    """One kind of store in one place."""

    make: Callable[[], Store]
    """A store object on this place, not open yet; each call another object on the same data."""
    take_over: Callable[[Store], None]
    """Let somebody else have become the owner while this one believes it still is."""
    lasting: bool
    """Whether the data outlives the object in this world."""


class StoreContract:
    """Inherit, and give a `world` fixture."""

    @pytest.fixture
    def store(self, world: World) -> Any:
        store = world.make()
        store.open("test")
        yield store
        store.close()

    # Appending

    def test_a_step_is_applied_with_everything_it_carries(self, store: Any) -> None:
        append = full_step()
        commit(store, append)
        loaded = store.load("c1", recent=10)
        assert loaded == Loaded("c1", 1, b"snapshot 1", 1, (), append.results, append.memory)
        assert store.find_message("c1", "m1") == InboxRow("m1", "r1", "print", 1)
        assert store.entries("c1", after=0, limit=10) == [EntryRow(1, 1, 1_000, append.entry)]
        assert store.results("c1", ["r1"]) == list(append.results)
        assert store.unfinished() == ["c1"]
        row = store.conversation("c1")
        assert (row.phase, row.last_seq, row.unfinished, row.user_id) == ("executing", 1, True, "u1")
        assert (row.created_at, row.updated_at) == (1_000, 1_000)

    def test_an_unknown_conversation_is_empty_everywhere(self, store: Any) -> None:
        assert store.load("nobody", recent=10) == Loaded("nobody")
        assert store.conversation("nobody") is None
        assert store.find_message("nobody", "m1") is None
        assert store.entries("nobody", after=0, limit=10) == []
        assert store.results("nobody", ["r1"]) == []
        assert store.memory("nobody", first_seq=0, last_seq=99) == []
        assert store.said("nobody", first_seq=0, last_seq=99, limit=9) == []

    def test_one_look_tells_which_conversations_are_new(self, store: Any) -> None:
        commit(store, full_step("a"), step("b"), step("naïve — 東京"))
        asked = ["x", "b", "y", "a", "naïve — 東京", "'; DROP TABLE x; --"]
        assert store.absent(asked) == {"x", "y", "'; DROP TABLE x; --"}
        assert store.absent([]) == set()

    def test_an_empty_batch_is_fine(self, store: Any) -> None:
        assert store.commit([]) == []

    @pytest.mark.parametrize("after", [0, 1, 3, 9])
    def test_a_step_that_does_not_follow_on_is_refused_whole(self, store: Any, after: int) -> None:
        fill(store, turns=1)
        before = store.load("c1", recent=99)
        line = store.conversation("c1")
        wrong = full_step(after=after, entry=b"another", forget=("r1",), replied=(("m1", 77),))
        (outcome,) = store.commit([wrong])
        assert isinstance(outcome, AppendRefused)
        assert (outcome.code, outcome.conversation_id, outcome.last_seq) == ("sequence_conflict", "c1", after + 1)
        assert store.load("c1", recent=99) == before
        assert store.conversation("c1") == line
        assert store.find_message("c1", "m1").reply_seq == 2
        assert [row.last_seq for row in store.entries("c1", after=0, limit=9)] == [2]

    def test_a_refused_step_does_not_harm_its_neighbours(self, store: Any) -> None:
        outcomes = store.commit([step("a"), step("b", 5), step("c")])
        assert [type(outcome) for outcome in outcomes] == [Committed, AppendRefused, Committed]
        assert [store.load(key, recent=1).last_seq for key in "abc"] == [1, 0, 1]

    def test_several_steps_of_one_conversation_go_in_one_batch(self, store: Any) -> None:
        batch = [step("c1", 0, 2), step("c2"), step("c1", 2, 3), step("c1", 5, phase="paused", snapshot=b"s")]
        commit(store, *batch)
        assert [(row.first_seq, row.last_seq) for row in store.entries("c1", after=0, limit=99)] == [
            (1, 2),
            (3, 5),
            (6, 6),
        ]
        assert store.conversation("c1").phase == "paused"
        assert store.load("c1", recent=1) == Loaded("c1", 6, b"s", 6)

    def test_a_hole_inside_a_batch_is_refused_and_what_follows_it_too(self, store: Any) -> None:
        outcomes = store.commit([step("c1", 0), step("c1", 2), step("c1", 3)])
        assert [type(outcome) for outcome in outcomes] == [Committed, AppendRefused, AppendRefused]

    def test_the_very_same_batch_again_is_committed_and_changes_nothing(self, store: Any) -> None:
        batch = [full_step("a"), full_step("b"), step("a", 1, 2)]
        commit(store, *batch)
        before = [store.load(key, recent=9) for key in "ab"], store.entries("a", after=0, limit=9)
        commit(store, *batch)
        assert ([store.load(key, recent=9) for key in "ab"], store.entries("a", after=0, limit=9)) == before

    def test_the_same_step_twice_in_one_batch_is_applied_once(self, store: Any) -> None:
        commit(store, full_step(), full_step())
        assert len(store.entries("c1", after=0, limit=9)) == 1

    def test_a_step_of_other_words_or_another_time_is_no_repetition(self, store: Any) -> None:
        commit(store, step())
        others = [step(entry=b"other"), step(at=5)]
        assert all(isinstance(outcome, AppendRefused) for outcome in store.commit(others))

    def test_user_and_snapshot_stay_when_a_step_brings_none(self, store: Any) -> None:
        commit(store, full_step(), step("c1", 1, at=5_000))
        assert store.conversation("c1").user_id == "u1"
        assert store.conversation("c1").created_at == 1_000
        loaded = store.load("c1", recent=9)
        assert (loaded.snapshot, loaded.snapshot_seq) == (b"snapshot 1", 1)
        assert [row.last_seq for row in loaded.entries] == [2]

    def test_any_text_comes_back_as_it_was(self, store: Any) -> None:
        rows = tuple(said(number + 1, text) for number, text in enumerate(ODD_TEXTS))
        commit(store, step(events=len(rows), memory=rows, user_id="ü'\"", entry="ä\u2028".encode()))
        assert store.memory("c1", first_seq=0, last_seq=99) == list(rows)
        assert store.conversation("c1").user_id == "ü'\""

    def test_large_bodies_come_back_as_they_were(self, store: Any) -> None:
        body, text = b'"' + b"x" * (4 << 20) + b'"', "é" * (2 << 20)
        row = result("r1", body=body)
        commit(
            store,
            step(results=(row,), memory=(said(1, text),), open_request_ids=("r1",), snapshot=body, entry=body),
        )
        loaded = store.load("c1", recent=1)
        assert (loaded.results, loaded.memory[0].text, loaded.snapshot) == ((row,), text, body)
        assert store.entries("c1", after=0, limit=1)[0].body == body

    def test_a_later_result_of_a_node_replaces_the_earlier(self, store: Any) -> None:
        commit(store, step(results=(result("r1", body=b"1"),)), step("c1", 1, results=(result("r1", body=b"2"),)))
        assert [row.body for row in store.results("c1", ["r1"])] == [b"2"]

    # Life

    def test_opening_again_keeps_everything_and_counts_the_epoch_up(self, world: World) -> None:
        first = world.make()
        epoch = first.open("one")
        fill(first, turns=3)
        commit(first, full_step("c2"))
        kept = first.load("c1", recent=99), first.load("c2", recent=99), first.unfinished()
        first.close()
        first.close()
        second = world.make()
        try:
            assert second.open("two") > epoch
            if world.lasting:
                assert (second.load("c1", recent=99), second.load("c2", recent=99), second.unfinished()) == kept
                commit(second, step("c1", 6))
        finally:
            second.close()

    def test_one_object_can_be_opened_again(self, world: World) -> None:
        store = world.make()
        store.open("one")
        commit(store, step())
        store.load("c1", recent=1)
        store.close()
        store.open("two")
        try:
            commit(store, step("c1", 1))
            assert store.load("c1", recent=1).last_seq == 2
        finally:
            store.close()

    def test_a_closed_store_takes_nothing(self, world: World) -> None:
        store = world.make()
        with pytest.raises(StoreError):
            store.commit([step()])
        store.open("one")
        store.close()
        with pytest.raises(StoreError):
            store.commit([step()])

    def test_an_owner_that_was_replaced_can_write_nothing(self, world: World, store: Any) -> None:
        commit(store, full_step(), rows=[DeadLetterRow(1, "a", "r", "k", b"{}")])
        (letter,) = store.dead_letters(after=0, limit=9)
        world.take_over(store)
        for late in (
            lambda: store.commit([step("c1", 1)]),
            lambda: store.commit([], [MetricRow(1, "m", 1.0, "s")]),
            lambda: store.drop_dead_letter(letter.id),
            lambda: store.cleanup(2**50, keep_journal_ms=0, keep_logs_ms=0, keep_inbox_ms=0),
            store.count_recoveries,
            lambda: store.shift_recoveries(-1),
        ):
            with pytest.raises(OwnershipLost):
                late()
        assert store.load("c1", recent=9).last_seq == 1
        assert store.dead_letters(after=0, limit=9) == [letter]

    def test_health_says_what_can_be_lost(self, store: Any) -> None:
        health = store.health()
        assert health.kind == store.kind
        assert health.detail

    # Waking

    def test_load_is_the_snapshot_and_the_steps_after_it(self, store: Any) -> None:
        commit(store, step(), step("c1", 1, snapshot=b"s2"), step("c1", 2, 2), step("c1", 4))
        loaded = store.load("c1", recent=9)
        assert (loaded.snapshot, loaded.snapshot_seq, loaded.last_seq) == (b"s2", 2, 5)
        assert [(row.first_seq, row.last_seq) for row in loaded.entries] == [(3, 4), (5, 5)]

    def test_the_whole_journal_is_read_as_if_there_were_no_snapshot(self, store: Any) -> None:
        assert store.load("nobody", recent=9, whole=True) == Loaded("nobody")
        last = fill(store, turns=3)
        rows = (result("r7", "a"),)
        extra = {"results": rows, "open_request_ids": ("r7",), "oldest_open_seq": 3, "phase": "executing"}
        commit(store, step("c1", last, snapshot=b"s7", **extra), step("c1", last + 1, 2, **extra | {"results": ()}))
        usual, whole = store.load("c1", recent=1), store.load("c1", recent=1, whole=True)
        assert [(row.first_seq, row.last_seq) for row in usual.entries] == [(8, 9)]
        assert [(row.first_seq, row.last_seq) for row in whole.entries] == [(1, 2), (3, 4), (5, 6), (7, 7), (8, 9)]
        entries = tuple(store.entries("c1", after=0, limit=99))
        assert whole == replace(usual, snapshot=None, snapshot_seq=0, entries=entries, phase="executing")
        assert (whole.results, [row.seq for row in whole.memory]) == (rows, [3, 4, 5, 6])

    def test_the_whole_journal_begins_where_retention_cut_it(self, store: Any) -> None:
        commit(store, step(), step("c1", 1, snapshot=b"s2"), step("c1", 2))
        store.cleanup(10_000, **(NEVER | {"keep_journal_ms": 0}))
        assert [row.first_seq for row in store.load("c1", recent=9, whole=True).entries] == [3]

    def test_load_brings_the_newest_remarks_only(self, store: Any) -> None:
        fill(store, turns=20)
        assert [row.seq for row in store.load("c1", recent=5).memory] == [36, 37, 38, 39, 40]
        assert store.load("c1", recent=0).memory == ()

    def test_load_brings_the_newest_note_and_what_came_after_it(self, store: Any) -> None:
        last = fill(store, turns=10)
        notes = (said(8, "old note", role="note"), said(14, "note", role="note"))
        commit(store, step("c1", last, memory=notes))
        loaded = store.load("c1", recent=99)
        assert [(row.seq, row.role) for row in loaded.memory if row.role == "note"] == [(14, "note")]
        assert [row.seq for row in loaded.memory if row.role != "note"] == [15, 16, 17, 18, 19, 20]
        few = store.load("c1", recent=2).memory
        assert [(row.seq, row.role) for row in few] == [(14, "note"), (19, "user"), (20, "assistant")]

    def test_load_brings_everything_said_since_the_oldest_open_message(self, store: Any) -> None:
        last = fill(store, turns=10)
        note = said(16, "note", role="note")
        commit(store, step("c1", last, unfinished=True, oldest_open_seq=13, memory=(note,)))
        loaded = store.load("c1", recent=2)
        assert [row.seq for row in loaded.memory if row.role != "note"] == [13, 14, 15, 16, 17, 18, 19, 20]
        assert [row for row in loaded.memory if row.role == "note"] == [note]

    def test_load_brings_the_results_of_open_requests_only(self, store: Any) -> None:
        last = fill(store, turns=3)
        rows = (result("r7", "a"), result("r7", "b"))
        commit(store, step("c1", last, results=rows, open_request_ids=("r7",), oldest_open_seq=7))
        assert sorted(store.load("c1", recent=1).results, key=lambda row: row.node) == list(rows)

    def test_load_of_a_long_conversation_stays_small(self, store: Any) -> None:
        last = fill(store, turns=1_000, snapshot=b"s")
        commit(store, step("c1", last, memory=(said(1_980, "note", role="note"),)))
        loaded = store.load("c1", recent=50)
        assert (len(loaded.entries), len(loaded.results), len(loaded.memory)) == (1, 0, 21)

    def test_unfinished_are_the_unfinished_only_oldest_update_first(self, store: Any) -> None:
        for at, key, open_ in ((30, "late", True), (10, "early", True), (20, "done", False), (25, "middle", True)):
            commit(store, step(key, at=at, unfinished=open_))
        assert store.unfinished() == ["early", "middle", "late"]
        commit(store, step("early", 1, at=99, unfinished=True), step("middle", 1, at=99))
        assert store.unfinished() == ["late", "early"]

    def test_a_message_is_found_with_its_reply(self, store: Any) -> None:
        row = InboxRow("m1", "r1", "print", 1)
        commit(store, step(inbox=(row,)))
        assert store.find_message("c1", "m1") == row
        assert store.find_message("c2", "m1") is None
        assert store.find_message("c1", "m2") is None
        commit(store, step("c1", 1, replied=(("m1", 2), ("unknown", 2))))
        assert store.find_message("c1", "m1") == replace(row, reply_seq=2)

    def test_forgetting_hides_remarks_but_not_notes_and_keeps_the_rows(self, store: Any) -> None:
        rows = (said(1), said(2, role="assistant", request="r1"), said(3), said(2, "note", role="note", request="r1"))
        commit(store, step(events=3, memory=rows), step("c2", memory=(said(1),)))
        commit(store, step("c1", 3, forget=("r1",)))
        forgotten = {(row.seq, row.role): row.forgotten for row in store.memory("c1", first_seq=1, last_seq=9)}
        assert forgotten == {(1, "user"): True, (2, "assistant"): True, (2, "note"): False, (3, "user"): False}
        assert store.memory("c2", first_seq=1, last_seq=9)[0].forgotten is False

    # Looking things up

    def test_a_result_is_reused_until_it_expires(self, store: Any) -> None:
        soon = result("r1", "a", cache_key="k", expires_at=2_000, body=b"soon")
        later = result("r1", "b", cache_key="k", expires_at=3_000, body=b"later")
        never = result("r1", "c", cache_key="never", expires_at=None)
        commit(store, step(results=(soon, later, never, result("r1", "d"))))
        assert store.cached_result("k", 1_999) == later
        assert store.cached_result("k", 2_500) == later
        assert store.cached_result("k", 3_000) is None
        assert store.cached_result("never", 1) is None
        assert store.cached_result("unknown", 1) is None

    def test_entries_are_read_in_pages_without_gap(self, store: Any) -> None:
        commit(store, step("c1", 0, 3), step("c1", 3, 1), step("c1", 4, 4), step("c1", 8, 2))
        seen: list[int] = []
        while page := store.entries("c1", after=seen[-1] if seen else 0, limit=2):
            assert sum(row.last_seq - row.first_seq + 1 for row in page) >= min(2, 10 - len(seen))
            for row in page:
                seen.extend(range(row.first_seq, row.last_seq + 1))
        assert seen == list(range(1, 11))
        assert store.entries("c1", after=2, limit=1)[0].first_seq == 1

    def test_memory_is_read_by_range(self, store: Any) -> None:
        fill(store, turns=3)
        assert [row.seq for row in store.memory("c1", first_seq=2, last_seq=4)] == [2, 3, 4]
        assert all(isinstance(row, MemoryRow) for row in store.memory("c1", first_seq=2, last_seq=4))

    def test_what_was_said_is_read_in_pages_without_notes(self, store: Any) -> None:
        last = fill(store, turns=6)
        notes = [said(seq, f"note {seq}", role="note") for seq in (1, 2, 3, 7)]
        commit(store, step("c1", last, memory=tuple(notes), forget=("r3",)))
        whole = [row for row in store.memory("c1", first_seq=1, last_seq=last) if row.role != "note"]
        assert [row.seq for row in whole] == list(range(1, 13)) and any(row.forgotten for row in whole)
        for limit in (1, 4, 5, 12, 99):
            pages: list[list[MemoryRow]] = [[]]
            first = 1
            while page := store.said("c1", first_seq=first, last_seq=last, limit=limit):
                assert len(page) == min(limit, 13 - first)
                pages.append(page)
                first = page[-1].seq + 1
            assert [row for page in pages for row in page] == whole
        assert [row.seq for row in store.said("c1", first_seq=3, last_seq=4, limit=99)] == [3, 4]

    @pytest.mark.parametrize("phase", [None, "idle"])
    def test_conversations_are_listed_newest_first_in_pages(self, store: Any, phase: str | None) -> None:
        batch = [step(f"c{n}", at=100 + n // 3, phase="idle" if n % 2 else "paused") for n in range(20)]
        commit(store, *batch)
        expected = [a for a in batch if phase in (None, a.phase)]
        expected.sort(key=lambda a: (-a.at, a.conversation_id))
        seen: list[str] = []
        after = None
        while page := store.conversations(phase=phase, after=after, limit=4):
            assert len(page) <= 4
            seen.extend(row.conversation_id for row in page)
            after = (page[-1].updated_at, page[-1].conversation_id)
        assert seen == [a.conversation_id for a in expected]

    def test_phases_are_counted(self, store: Any) -> None:
        assert store.phase_counts() == {}
        commit(store, step("a"), step("b"), step("c", phase="paused"))
        assert store.phase_counts() == {"idle": 2, "paused": 1}

    # Recoveries, dead letters, cleanup

    def test_recoveries_count_up_until_there_is_progress(self, store: Any) -> None:
        commit(store, step("a", unfinished=True), step("b", unfinished=True), step("done"))
        assert store.count_recoveries() == {"a": 1, "b": 1}
        commit(store, step("a", 1, unfinished=True, progress=False), step("b", 1, unfinished=True))
        assert store.count_recoveries() == {"a": 2, "b": 1}
        commit(store, step("a", 2))
        assert store.count_recoveries() == {"b": 2}

    def test_a_recovery_is_taken_back_and_never_more_than_there_were(self, store: Any) -> None:
        still = {"unfinished": True, "progress": False}
        commit(store, step("a", **still), step("done"))
        store.shift_recoveries(-1)
        assert store.count_recoveries() == {"a": 1}
        commit(store, step("b", **still))
        assert store.count_recoveries() == {"a": 2, "b": 1}
        for _ in range(2):
            store.shift_recoveries(-1)
        assert store.count_recoveries() == {"a": 1, "b": 1}
        commit(store, step("a", 1, **still), step("b", 1))
        assert store.count_recoveries() == {"a": 2}

    def test_recoveries_of_some_conversations_are_shifted_and_of_no_others(self, store: Any) -> None:
        commit(store, *(step(key, unfinished=True) for key in "abc"), step("done"))
        for _ in range(2):
            store.count_recoveries()
        store.shift_recoveries(-1, ["a", "done", "nobody"])
        store.shift_recoveries(1, ("b",))
        store.shift_recoveries(1, [])
        assert store.count_recoveries() == {"a": 2, "b": 4, "c": 3}

    def test_recoveries_of_a_conversation_begin_at_none_even_without_progress(self, store: Any) -> None:
        still, on = {"unfinished": True, "progress": False}, {"unfinished": True}
        commit(store, step("a", **still), step("b", **still), step("b", 1, **on), step("c", **on))
        assert store.count_recoveries() == {"a": 1, "b": 1, "c": 1}
        commit(store, step("a", 1, **still), step("b", 2, **on), step("c", 1, **still))
        assert store.count_recoveries() == {"a": 2, "b": 1, "c": 2}

    def test_dead_letters_are_kept_listed_and_dropped_and_their_ids_are_never_given_again(self, store: Any) -> None:
        letters = [DeadLetterRow(n, f"to {n}", "gone", "Kind", b'{"n":%d}' % n) for n in range(5)]
        commit(store, rows=letters)
        found = store.dead_letters(after=0, limit=99)
        assert [replace(row, id=0) for row in found] == letters
        assert [row.id for row in store.dead_letters(after=found[1].id, limit=2)] == [found[2].id, found[3].id]
        assert store.drop_dead_letter(found[-1].id)
        assert not store.drop_dead_letter(found[-1].id)
        assert store.dead_letters(after=0, limit=99) == found[:-1]
        commit(store, rows=letters[:1])
        assert store.dead_letters(after=found[-1].id - 1, limit=99)[0].id > found[-1].id

    def test_rows_of_logs_ride_along_and_go_when_they_are_old(self, store: Any) -> None:
        rows = [operation_row(at, "started", "info", None, None, {"odd": object(), "n": 1}) for at in (10, 500)] + [
            MetricRow(at, "m", 1.5, "s", "c1", "a") for at in (10, 20, 500)
        ]
        commit(store, full_step(at=10), rows=rows)
        gone = store.cleanup(1_000, **(NEVER | {"keep_logs_ms": 900}))
        assert gone["orchestrator_operation_logs"] == 1
        assert gone["orchestrator_performance_metrics"] == 2
        assert gone["orchestrator_error_logs"] == 0
        gone = store.cleanup(2_000, **(NEVER | {"keep_logs_ms": 900}))
        assert gone["orchestrator_error_logs"] == 1
        assert (gone["orchestrator_operation_logs"], gone["orchestrator_performance_metrics"]) == (1, 1)

    def test_only_answered_messages_leave_the_inbox(self, store: Any) -> None:
        rows = tuple(InboxRow(f"m{n}", f"r{n}", "print", n) for n in (1, 2))
        commit(store, step(events=3, at=100, inbox=rows, replied=(("m1", 3),)))
        commit(store, step("young", at=900, inbox=rows, replied=(("m1", 3),)))
        assert store.cleanup(1_000, **(NEVER | {"keep_inbox_ms": 500}))["orchestrator_inbox"] == 1
        assert store.find_message("c1", "m1") is None
        assert store.find_message("c1", "m2") is not None
        assert store.find_message("young", "m1") is not None

    def test_cleanup_takes_only_what_no_waking_needs(self, store: Any) -> None:
        keys = ("old", "open", "paused", "young", "bare")
        for key in keys:
            fill(store, key, turns=2)
        closing: dict[str, dict[str, Any]] = {
            "old": {"snapshot": b"s"},
            "open": {"snapshot": b"s", "unfinished": True, "oldest_open_seq": 5, "open_request_ids": ("r5",)},
            "paused": {"snapshot": b"s", "oldest_open_seq": 5, "open_request_ids": ("r5",)},
            "young": {"snapshot": b"s", "at": 9_000},
            "bare": {},
        }
        for key in keys:
            commit(
                store,
                step(key, 4, results=(result("r5"),), **closing[key]),
                step(key, 5, **closing[key] | {"snapshot": None}),
            )
        before = {key: store.load(key, recent=9) for key in keys}
        gone = store.cleanup(10_000, **(NEVER | {"keep_journal_ms": 5_000}))
        assert {key: store.load(key, recent=9) for key in keys} == before
        left = {key: [row.last_seq for row in store.entries(key, after=0, limit=9)] for key in keys}
        assert left == {
            "old": [6],
            "open": [2, 4, 5, 6],
            "paused": [2, 4, 5, 6],
            "young": [2, 4, 5, 6],
            "bare": [2, 4, 5, 6],
        }
        assert gone["orchestrator_journal"] == 3
        assert store.results("old", ["r1", "r5"]) == []
        assert len(store.results("paused", ["r1", "r5"])) == 2
        assert gone["orchestrator_agent_results"] == 6
        assert store.cleanup(10_000, **(NEVER | {"keep_journal_ms": 5_000}))["orchestrator_journal"] == 0

    def test_a_conversation_that_was_cleaned_is_cleaned_again_after_its_next_step(self, store: Any) -> None:
        keep = NEVER | {"keep_journal_ms": 0}
        commit(store, full_step("bare", snapshot=None), step("bare", 1))
        for seq in (0, 2, 4):
            commit(store, full_step(after=seq), step("c1", seq + 1, snapshot=b"s"))
            gone = store.cleanup(10_000, **keep)
            assert (gone["orchestrator_journal"], gone["orchestrator_agent_results"]) == (2, 1 if seq else 2)
            assert not any(store.cleanup(10_000, **keep).values())
        assert len(store.entries("bare", after=0, limit=9)) == 2
        commit(store, step("bare", 2, snapshot=b"s"))
        assert store.cleanup(10_000, **keep)["orchestrator_journal"] == 3

    def test_more_old_conversations_than_are_looked_at_at_once_are_cleaned(self, store: Any) -> None:
        """Also behind many that have nothing to delete."""
        commit(store, *(step(f"bare{n}") for n in range(1_500)))
        commit(store, *(step(f"c{n}", at=2_000, snapshot=b"s") for n in range(700)))
        gone = 0
        for _ in range(4):
            gone += store.cleanup(10_000, **(NEVER | {"keep_journal_ms": 0}))["orchestrator_journal"]
        assert gone == 700

    # At the same time

    def test_readers_see_whole_steps_while_steps_are_written(self, store: Any) -> None:
        wrong: list[Any] = []
        stop = threading.Event()

        def read() -> None:
            newest = 0
            try:
                while not stop.is_set():
                    loaded = store.load("c1", recent=5)
                    memory = [row.seq for row in loaded.memory]
                    tail = [row.last_seq for row in loaded.entries]
                    whole = (
                        loaded.last_seq >= newest
                        and (not loaded.last_seq or memory[-1] == loaded.last_seq)
                        and tail == list(range(loaded.snapshot_seq + 1, loaded.last_seq + 1))
                    )
                    if not whole:
                        wrong.append((newest, loaded))
                    newest = loaded.last_seq
                    store.conversations(phase=None, after=None, limit=5)
            except Exception as error:  # noqa: BLE001  # a reader's trouble is the test's result
                wrong.append(error)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for seq in range(120):
            commit(store, step("c1", seq, memory=(said(seq + 1),), snapshot=b"s" if seq % 10 == 9 else None))
        stop.set()
        for reader in readers:
            reader.join(20)
        assert not wrong

    def test_a_mark_tells_how_far_a_store_has_come(self, world):
        """Its name stays, its beats count on over every life; looking needs no ownership."""
        store = world.make()
        if world.lasting:
            assert store.mark() is None
        epoch = store.open("a")
        first = store.beat()
        if first is None:  # a store without an older self
            store.close()
            return
        second = store.beat()
        assert (second.store_id, second.epoch, second.beats) == (first.store_id, epoch, first.beats + 1)
        assert world.make().mark() == second
        store.close()
        later = world.make()
        assert later.open("b") > epoch
        assert later.beat().store_id == first.store_id
        assert later.mark().beats == second.beats + 1
        world.take_over(later)
        with pytest.raises(OwnershipLost):
            later.beat()
        later.close()

    def test_reading_beside_the_owner(self, world):
        """Whoever only reads owns nothing and disturbs nobody."""
        reader = world.make()
        if world.lasting:
            assert reader.open_reading() is False
            reader.close()
        store = world.make()
        store.open("a")
        commit(store, step("c1"))
        assert reader.open_reading() is True
        assert reader.load("c1", recent=1).last_seq == 1
        assert [row.conversation_id for row in reader.conversations(phase=None, after=None, limit=5)] == ["c1"]
        with pytest.raises(StoreError):
            commit(reader, step("c1", 1))
        reader.close()
        assert commit(store, step("c1", 1))[0].last_seq == 2
        store.close()
