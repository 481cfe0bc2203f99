"""Steps and snapshots as bytes: what goes in comes out, and what was changed on the way is never believed."""

from __future__ import annotations

from typing import Any, get_args
from zlib import crc32

import pytest
from event_strategies import FIELDS, JSON, TEXTS, steps
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from messages import events as e
from messages.failure import Failure
from persistence import snapshot
from persistence.append import ResultBody, build_append
from persistence.contract import Append, EntryRow, InboxRow, MemoryRow
from persistence.entry import CorruptEntry, decode, encode, hydrate
from persistence.history import read_events
from persistence.memory_store import MemoryStore


def appended(events: list[Any], **fields: Any) -> Append:
    """Return a step as it is appended, with the bodies of all its results."""
    bodies = {
        (event.request_id, event.node): ResultBody(to_json(event.result))
        for event in events
        if isinstance(event, e.NodeSucceeded)
    }
    values: dict[str, Any] = {
        "conversation_id": "c1",
        "expected_seq": events[0].seq - 1,
        "events": events,
        "phase": "idle",
        "unfinished": False,
        "oldest_open_seq": None,
        "open_request_ids": (),
        "snapshot": None,
        "fingerprints": {},
        "results": bodies,
    }
    return build_append(**(values | fields))


def row_of(append: Append) -> EntryRow:
    return EntryRow(append.expected_seq + 1, append.last_seq, append.at, append.entry)


def sealed_entry(body: bytes) -> EntryRow:
    return EntryRow(1, 1, 5, b"%08x" % crc32(body) + body)


ACCEPTED = e.MessageAccepted(seq=1, at=5, conversation_id="c1", request_id="r1", message_id="m1", text="hello")


# Entries


def test_every_journaled_event_is_generated() -> None:
    assert set(FIELDS) == set(get_args(e.Journaled))


@given(steps())
def test_a_step_comes_back_as_it_was_written(events: list[Any]) -> None:
    append = appended(events)
    bare = decode("c1", row_of(append))
    full, missing = hydrate(bare, append.results, append.memory)
    assert full == events
    assert not missing


@given(steps())
def test_texts_and_results_are_not_in_the_entry_twice(events: list[Any]) -> None:
    for event in decode("c1", row_of(appended(events))):
        if isinstance(event, e.MessageAccepted | e.ReplySent):
            assert event.text == ""
        if isinstance(event, e.NodeSucceeded):
            assert event.result is None


@given(steps(), st.data())
def test_a_flipped_bit_is_noticed(events: list[Any], data: st.DataObject) -> None:
    row = row_of(appended(events))
    place = data.draw(st.integers(0, len(row.body) - 1))
    changed = bytearray(row.body)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptEntry):
        decode("c1", EntryRow(row.first_seq, row.last_seq, row.at, bytes(changed)))


@pytest.mark.parametrize("length", [0, 3, 8, 20])
def test_a_cut_entry_is_noticed(length: int) -> None:
    with pytest.raises(CorruptEntry):
        decode("c1", EntryRow(1, 1, 5, encode([ACCEPTED])[:length]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"request_id":"r1","events":null}',
        b'{"request_id":"r1","events":[]}',
        b'{"request_id":"r1","events":[7]}',
        b'{"request_id":"r1","events":[{"type":"message.accepted"}]}',
        b'{"request_id":"r1","events":[{"type":"from.tomorrow","message_id":"m1"}]}',
        b'{"request_id":"r1","events":[{"type":"message.accepted","message_id":"m1","unknown":1}]}',
        b'{"request_id":"r1","events":[{"type":"message.accepted","message_id":7}]}',
        b'{"request_id":"r1","events":[{"type":"message.accepted","message_id":"m1"}',
    ],
)
def test_a_sealed_entry_of_the_wrong_shape_is_refused(body: bytes) -> None:
    with pytest.raises(CorruptEntry) as caught:
        decode("c1", sealed_entry(body))
    assert (caught.value.conversation_id, caught.value.seq) == ("c1", 1)


def test_the_right_shape_is_taken() -> None:
    body = b'{"request_id":"r1","events":[{"type":"message.accepted","message_id":"m1","at":5}]}'
    assert decode("c1", sealed_entry(body)) == [ACCEPTED.changed(text="")]


@pytest.mark.parametrize("last", [0, 2, 9])
def test_a_row_that_claims_another_number_of_events_is_refused(last: int) -> None:
    with pytest.raises(CorruptEntry):
        decode("c1", EntryRow(1, last, 5, encode([ACCEPTED])))


def test_a_result_that_is_not_there_is_named() -> None:
    done = e.NodeSucceeded(
        seq=2, at=5, conversation_id="c1", request_id="r1", node="n", agent="a", attempt=1, duration_ms=1.0, result=7
    )
    assert hydrate([done], (), ())[1] == {("r1", "n")}


def test_a_note_is_not_taken_for_what_was_said() -> None:
    note = MemoryRow(1, "note", "r1", "condensed", 5)
    ((event,), _) = hydrate([ACCEPTED.changed(text="")], (), [note])
    assert isinstance(event, e.MessageAccepted)
    assert event.text == ""


# Appends


def test_a_step_is_taken_apart_into_its_rows() -> None:
    place: dict[str, Any] = {"at": 1_000, "conversation_id": "c1", "request_id": "r1"}
    failure = Failure(type="ValueError", error_class="transient", message="no")
    node: dict[str, Any] = {"node": "n", "agent": "a"}
    events = [
        e.MessageAccepted(seq=1, message_id="m1", text="hello", user_id="u", **place),
        e.NodeFailed(seq=2, attempt=1, error=failure, **node, **place),
        e.NodeRetrying(seq=3, attempt=2, delay=0.5, due=1_500, reason="backoff", **node, **place),
        e.NodeSucceeded(seq=4, attempt=2, duration_ms=2.0, result={"x": 1}, **node, **place),
        e.PlanFailed(seq=5, attempt=1, error=failure, delay=None, **place),
        e.ReplySent(seq=6, message_id="m1", text="bye", status="completed", nodes=("n",), **place),
    ]
    append = appended(
        events,
        fingerprints={"m1": "print"},
        results={("r1", "n"): ResultBody(b'{"x":1}', "key", 2.5)},
        note=MemoryRow(6, "note", "r1", "note", 1_000),
    )
    assert (append.expected_seq, append.last_seq, append.at, append.user_id) == (0, 6, 1_000, "u")
    assert append.inbox == (InboxRow("m1", "r1", "print", 1),)
    assert append.replied == (("m1", 6),)
    assert [(row.seq, row.role, row.text) for row in append.memory] == [
        (1, "user", "hello"),
        (6, "assistant", "bye"),
        (6, "note", "note"),
    ]
    (result,) = append.results
    assert (result.body, result.cache_key, result.expires_at) == (b'{"x":1}', "key", 3_500)
    assert [(row.node, row.agent, row.attempt, row.retry_delay) for row in append.errors] == [
        ("n", "a", 1, 0.5),
        (None, "planner", 1, None),
    ]
    assert append.forget == ()


def test_a_rolled_back_reply_forgets_its_request() -> None:
    reply = e.ReplySent(
        seq=1, at=5, conversation_id="c1", request_id="r1", message_id="m1", status="cancelled", forgotten=True
    )
    append = appended([reply])
    assert append.forget == ("r1",)
    assert append.memory[0].forgotten


def test_a_success_without_a_body_to_keep_is_recorded_without_it() -> None:
    done = e.NodeSucceeded(
        seq=1, at=5, conversation_id="c1", request_id="r1", node="n", agent="a", attempt=1, duration_ms=1.0, result=7
    )
    assert appended([done], results={}).results == ()


# History


@given(st.lists(steps(), min_size=1, max_size=4), st.integers(0, 12), st.integers(1, 8))
def test_history_is_what_was_written_in_any_page(many: list[list[Any]], after: int, limit: int) -> None:
    store = MemoryStore()
    store.open("test")
    written: list[Any] = []
    for turn, events in enumerate(many):
        names = {"r1": f"r1.{turn}", "r2": f"r2.{turn}"}
        step = [
            event.changed(seq=len(written) + 1 + index, request_id=names[event.request_id])
            for index, event in enumerate(events)
        ]
        written.extend(step)
        store.commit([appended(step)])
    assert read_events(store, "c1", after=after, limit=limit) == written[after : after + limit]
    assert read_events(store, "nobody", after=0, limit=5) == []


# Snapshots


PLAIN = st.dictionaries(TEXTS, JSON, max_size=4)


@given(PLAIN, st.integers(1, 65_535))
def test_a_snapshot_comes_back_as_it_was_sealed(plain: dict[str, Any], schema: int) -> None:
    assert snapshot.unseal(snapshot.seal(plain, schema=schema), schema=schema) == plain


def test_a_state_may_hold_integers_of_any_size() -> None:
    plain = {"n": [2**64, -(2**200)], "text": "ü"}
    assert snapshot.unseal(snapshot.seal(plain, schema=1), schema=1) == plain


@given(PLAIN, st.data())
def test_a_flipped_bit_of_a_snapshot_is_noticed(plain: dict[str, Any], data: st.DataObject) -> None:
    changed = bytearray(snapshot.seal(plain, schema=1))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(snapshot.SnapshotCorrupt):
        snapshot.unseal(bytes(changed), schema=1)


@pytest.mark.parametrize("length", [0, 2, 5, 8, 10])
def test_a_cut_snapshot_is_noticed(length: int) -> None:
    with pytest.raises(snapshot.SnapshotCorrupt):
        snapshot.unseal(snapshot.seal({"a": "b" * 10}, schema=1)[:length], schema=1)


def test_a_snapshot_of_a_newer_version_is_refused_as_that() -> None:
    with pytest.raises(snapshot.SnapshotNewer, match="schema 2 is newer than 1"):
        snapshot.unseal(snapshot.seal({}, schema=2), schema=1)


def test_older_snapshots_are_brought_up_version_by_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(snapshot.UPCASTERS, 1, lambda plain: {**plain, "path": [*plain["path"], 2]})
    monkeypatch.setitem(snapshot.UPCASTERS, 2, lambda plain: {**plain, "path": [*plain["path"], 3]})
    assert snapshot.unseal(snapshot.seal({"path": [1]}, schema=1), schema=3) == {"path": [1, 2, 3]}
    assert snapshot.unseal(snapshot.seal({"path": [2]}, schema=2), schema=3) == {"path": [2, 3]}
    assert snapshot.unseal(snapshot.seal({"path": [3]}, schema=3), schema=3) == {"path": [3]}


def test_an_older_snapshot_that_nothing_leads_up_from_is_refused() -> None:
    with pytest.raises(snapshot.SnapshotCorrupt, match="nothing leads from schema 7"):
        snapshot.unseal(snapshot.seal({}, schema=7), schema=9)


@pytest.mark.parametrize("plain", [{"n": float("nan")}, {"n": (1, 2)}, {"n": {1: 2}}, {"n": object()}, {"n": "\ud800"}])
def test_a_state_that_would_not_read_back_is_not_sealed(plain: dict[str, Any]) -> None:
    with pytest.raises(snapshot.SnapshotUnreadable):
        snapshot.seal(plain, schema=1)


def test_a_sealed_thing_that_is_no_state_is_refused() -> None:
    sealed: Any = [1, 2]
    with pytest.raises(snapshot.SnapshotCorrupt, match="holds no state"):
        snapshot.unseal(snapshot.seal(sealed, schema=1), schema=1)


def test_an_oversized_snapshot_is_not_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_SNAPSHOT_BYTES", 100)
    with pytest.raises(snapshot.SnapshotUnreadable):
        snapshot.seal({"a": "x" * 101}, schema=1)
