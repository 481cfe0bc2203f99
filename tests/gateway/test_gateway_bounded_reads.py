"""What a page of a conversation costs the store: no more rows than the page has."""

from __future__ import annotations

import pytest

from persistence.contract import Append, MemoryRow
from persistence.memory_store import MemoryStore
from views import Views


class Counting(MemoryStore):
    """Counts the remarks that leave it."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def memory(self, *args, **ranges):
        rows = super().memory(*args, **ranges)
        self.read += len(rows)
        return rows

    def said(self, conversation_id, *, first_seq, last_seq, limit):
        read = self.read  # this store makes it of the other one
        rows = super().said(conversation_id, first_seq=first_seq, last_seq=last_seq, limit=limit)
        self.read = read + len(rows)
        return rows


@pytest.fixture
def store():
    """A conversation of two hundred remarks, every tenth condensed into a note."""
    store = Counting()
    store.open("a test")
    rows = [MemoryRow(seq, "user", f"r{seq}", f"word {seq}", seq) for seq in range(1, 201)]
    rows += [MemoryRow(seq, "note", "", f"note {seq}", seq) for seq in range(10, 201, 10)]
    append = Append("c1", 0, 200, 1, b"{}", "completed", False, None, memory=tuple(rows))
    store.commit([append])
    return store


@pytest.fixture
def views(store):
    parts = dict.fromkeys(("writer", "system", "execution", "router", "feed", "load"))
    return Views(store=store, checks={}, about={}, **parts)


def test_a_page_of_messages_reads_no_more_than_the_page(views, store):
    assert [row["seq"] for row in views.messages("c1", 0, 2)] == [1, 2]
    assert store.read == 2


def test_all_pages_together_are_all_that_was_said(views, store):
    seen = []
    while page := views.messages("c1", seen[-1] if seen else 0, 7):
        assert len(page) == min(7, 200 - len(seen))
        seen.extend(row["seq"] for row in page)
    assert seen == list(range(1, 201))
    assert store.read == 200
    assert views.messages("c1", 2**63 - 1, 7) == [] and views.messages("nobody", 0, 7) is None
