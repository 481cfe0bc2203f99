"""One bit of what is stored is wrong: it is always noticed, and a snapshot is replaced by the journal."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from conversation_driver import DIAMOND, Conversation
from test_conversation_journal import Books, _told

from conversation import journal
from messages.events import PhaseChanged
from persistence import snapshot as snapshots
from persistence.contract import EntryRow, Loaded
from persistence.entry import CorruptEntry, decode, encode
from persistence.snapshot import SnapshotCorrupt, SnapshotNewer, unseal
from workflow.codec import SCHEMA, StateInvalid
from workflow.state import State

FLIPS = 10_000


def _talked() -> tuple[Books, State]:
    """A conversation of several turns, of which the last is open, with a snapshot after every step."""
    talk, books = Conversation(), Books(1)
    _told(talk, books)
    for turn in range(4):
        talk.ask(DIAMOND, text=f"question {turn}")
        for name in "abcd"[: 4 if turn < 3 else 2]:
            talk.succeed(name, "ok")
        if turn < 3:
            talk.synthesize()
    return books, talk.state


def _flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def test_each_of_ten_thousand_flipped_bits_is_noticed_and_snapshots_are_recovered():
    """By the codecs: all of them; from the journal: at least 95 of 100 snapshots."""
    chance = random.Random(20261120)  # a test's dice
    books, state = _talked()
    usual, whole = books.store.load("c1", recent=50), books.store.load("c1", recent=50, whole=True)
    assert usual.snapshot is not None
    assert journal.wake(usual).state == journal.wake(whole).state == state
    noticed = snapshots = 0
    for _ in range(FLIPS):
        if chance.random() < 0.5:
            snapshots += 1
            noticed += _notices_snapshot(_flipped(usual.snapshot, chance))
        else:
            row = chance.choice(whole.entries)
            noticed += _notices_entry(replace(row, body=_flipped(row.body, chance)))
    assert noticed == FLIPS
    tried = recovered = 0
    while tried < snapshots // 25:
        tried += 1
        spoilt = replace(usual, snapshot=_flipped(usual.snapshot, chance))
        recovered += _recovers(spoilt, whole, state)
    assert recovered >= 0.95 * tried


def _notices_snapshot(data: bytes) -> bool:
    try:
        unseal(data, schema=SCHEMA)
    except (SnapshotCorrupt, SnapshotNewer):
        return True
    return False


def _notices_entry(row: EntryRow) -> bool:
    try:
        decode("c1", row)
    except CorruptEntry:
        return True
    return False


def _recovers(spoilt: Loaded, whole: Loaded, state: State) -> bool:
    with pytest.raises(journal.UNREADABLE):
        journal.wake(spoilt)
    return journal.wake(whole).state == state


@pytest.mark.parametrize("lost", ["first", "middle", "last"])
def test_a_hole_in_the_journal_is_noticed(lost):
    books, _ = _talked()
    whole = books.store.load("c1", recent=50, whole=True)
    at = {"first": 0, "middle": 3, "last": len(whole.entries) - 1}[lost]
    cut = replace(whole, entries=whole.entries[:at] + whole.entries[at + 1 :])
    with pytest.raises(CorruptEntry, match="missing"):
        journal.wake(cut)


def test_a_snapshot_of_another_step_or_conversation_is_noticed():
    books, _ = _talked()
    loaded = books.store.load("c1", recent=50)
    with pytest.raises(SnapshotCorrupt, match="it is that of c1"):
        journal.wake(replace(loaded, snapshot_seq=loaded.snapshot_seq + 1, last_seq=loaded.last_seq + 1))
    with pytest.raises(SnapshotCorrupt, match="it is that of c1"):
        journal.wake(replace(loaded, conversation_id="c2"))
    with pytest.raises((SnapshotCorrupt, StateInvalid), match="not there"):
        journal.wake(replace(loaded, snapshot=None))


def test_what_is_set_aside_says_so_once_and_keeps_everything():
    books, state = _talked()
    whole = books.store.load("c1", recent=50, whole=True)
    made = journal.set_aside(whole, "why", 5)
    assert made is not None
    events, step = made
    assert [event.type for event in events] == ["conversation.quarantined", "phase.changed"]
    assert (step.expected_seq, step.phase, step.unfinished, step.oldest_open_seq) == (state.seq, "paused", False, 1)
    books.store.commit([step])
    again = books.store.load("c1", recent=50, whole=True)
    assert journal.set_aside(again, "why", 6) is None
    assert again.results == whole.results
    woken = journal.wake(again).state
    assert (woken.phase, woken.quarantined, woken.paused_from) == ("paused", "why", state.phase)


def test_what_another_version_wrote_is_unreadable_and_nothing_else():
    """A phase this version does not know, an upcaster that fails, rows beside the journal that are damaged."""
    moved = PhaseChanged(seq=1, at=5, conversation_id="c", from_phase="initializing", to_phase="dreaming")
    row = EntryRow(1, 1, 5, encode([moved]))
    with pytest.raises(journal.UNREADABLE, match="dreaming"):
        journal.wake(Loaded("c", 1, entries=(row,)))
    with pytest.raises(journal.UNREADABLE, match="ids"):
        journal.wake(Loaded("c", 0, damaged="no ids"))


def test_an_upcaster_that_fails_makes_its_snapshot_unreadable(monkeypatch):
    def fails(plain):
        return plain["what was never there"]

    old = snapshots.seal({"conversation_id": "c"}, schema=1)
    monkeypatch.setitem(snapshots.UPCASTERS, 1, fails)
    with pytest.raises(snapshots.SnapshotCorrupt, match="schema 1 to 2: KeyError"):
        snapshots.unseal(old, schema=2)
