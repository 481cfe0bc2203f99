"""What reading costs: a page no more rows than it has, and a slow store no more memory than is bounded."""

from __future__ import annotations

import threading

import pytest
from gateway_support import problem
from test_gateway_wait import in_background, until

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


def test_only_so_many_reads_wait_for_a_slow_store_and_more_are_refused_at_once(http, router, server, monkeypatch):
    monkeypatch.setattr("gateway.read_threads.QUEUE_LIMIT", 5)
    release, begun = threading.Event(), []
    router.tick("c1")
    router.read_delay = lambda: (begun.append(1), release.wait(20))
    before = server.stats()["http_reads_refused"]
    path = "/api/v1/conversations/c1"
    try:
        joins = [in_background(http.get, path) for _ in range(4)]
        until(lambda: len(begun) == 4)  # as many as there are threads
        joins += [in_background(http.get, path) for _ in range(5)]
        until(lambda: server.stats()["http_reads_waiting"] == 5)
        refused = http.get(path)
        problem(refused, 503, "store_unavailable")
        assert "5 reads wait" in refused.json()["detail"] and int(refused.headers["retry-after"]) >= 1
        assert http.get("/readyz").status_code == 503
        assert http.get("/livez").status_code == http.get("/metrics").status_code == 200
    finally:
        release.set()
    assert [join().status_code for join in joins] == [200] * 9
    assert server.stats()["http_reads_refused"] == before + 2
    assert http.get(path).status_code == 200


def test_reads_that_were_given_up_leave_nothing_but_their_place(http, router, server, monkeypatch):
    """What is past its time is never read: a store that comes back is not busy with what nobody waits for."""
    monkeypatch.setattr("gateway.read_threads.READ_TIMEOUT", 0.05)
    release, asked = threading.Event(), []
    router.read_delay = lambda: (asked.append(1), release.wait(20))
    try:
        for _ in range(9):
            problem(http.get("/api/v1/conversations/c1"), 503, "store_unavailable")
        begun = len(asked)
        assert begun <= 4  # as many as there are threads
    finally:
        release.set()
    until(lambda: server.stats()["http_reads_waiting"] == 0)
    assert len(asked) == begun
