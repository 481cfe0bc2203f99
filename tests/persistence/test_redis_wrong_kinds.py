"""Keys of one conversation in Redis that are of another kind, or gone: they harm that conversation, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from redis_running import SERVER, redis_server
from store_samples import commit, full_step, result, said, step

from gateway.answers import json_answer
from persistence.contract import AppendRefused, Committed, DeadLetterRow, InboxRow, StoreUnavailable
from persistence.entry import CorruptEntry
from persistence.redis_store import RedisStore
from views import Views

pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")

BASE = "{orch}:store"
KEYS = ("state", "journal", "inbox", "requests", "memory", "said", "notes", "forgotten")
DAY = 86_400_000


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with redis_server() as running:
        yield running


@pytest.fixture
def redis(server: Any) -> Iterator[tuple[Any, RedisStore]]:
    client = server.client()
    client.flushall()
    store = RedisStore(server.url)
    store.open("test")
    note = said(1, role="note")
    cached = result("r1", cache_key="k", expires_at=10**15)
    commit(store, full_step("c1", memory=(said(1), note), forget=("r0",), results=(cached,)), full_step("other"))
    yield client, store
    store.close()


def _next(conversation_id: str) -> Any:
    return full_step(conversation_id, 1, forget=("r1",), replied=(("m1", 2),), memory=(said(2), said(2, role="note")))


@pytest.mark.parametrize("name", [*KEYS, "results"])
def test_a_key_of_another_kind_is_said_of_its_conversation_alone(redis: Any, name: str) -> None:
    client, store = redis
    key = f"{BASE}:{name}:c1" + ("/r1" if name == "results" else "")
    assert client.delete(key)
    client.set(key, "x")
    for whole in (False, True):
        try:
            found = store.load("c1", recent=5, whole=whole).damaged
        except CorruptEntry as error:
            found = error.reason
        assert "string" in found
    assert store.load("other", recent=5).damaged == ""
    assert sorted(row.conversation_id for row in store.conversations(phase=None, after=None, limit=9)) == [
        "c1",
        "other",
    ]
    asked = (
        lambda: store.find_message("c1", "m1"),
        lambda: store.entries("c1", after=0, limit=5),
        lambda: store.results("c1", ["r1"]),
        lambda: store.memory("c1", first_seq=0, last_seq=9),
        lambda: store.said("c1", first_seq=0, last_seq=9, limit=9),
        lambda: store.conversation("c1"),
    )
    for ask in asked:
        with suppress(CorruptEntry):
            ask()
    assert store.count_recoveries() == {"c1": 1, "other": 1}

    outcomes = store.commit([_next("c1"), _next("other")])
    if name == "results":  # of an older request: nothing of the step goes there
        assert outcomes[0] == Committed("c1", 2)
    else:
        assert isinstance(outcomes[0], AppendRefused)
        assert (outcomes[0].code, "string" in outcomes[0].detail) == ("poisoned", True)
        with suppress(CorruptEntry):
            assert len(store.entries("c1", after=0, limit=5)) < 2, "it was written in part"
    assert outcomes[1] == Committed("other", 2)
    assert store.commit([step("other", 2)]) == [Committed("other", 3)]
    store.cleanup(10 * DAY, keep_journal_ms=0, keep_logs_ms=0, keep_inbox_ms=0)


def test_a_conversation_that_lost_its_place_is_no_new_one(redis: Any) -> None:
    client, store = redis
    for spoil in (
        lambda: client.hdel(f"{BASE}:state:c1", "last_seq"),
        lambda: client.delete(f"{BASE}:state:c1"),
    ):
        spoil()
        for whole in (False, True):
            with pytest.raises(CorruptEntry, match="last_seq is missing"):
                store.load("c1", recent=5, whole=whole)
        (refused,) = store.commit([step("c1", 0, events=5)])
        assert isinstance(refused, AppendRefused)
        assert "last_seq" in refused.detail
        assert len(store.entries("c1", after=0, limit=9)) == 1
    assert store.load("new", recent=5).last_seq == 0


@pytest.mark.parametrize("left", ["inbox", "memory", "said", "requests"])
def test_what_is_left_of_a_conversation_keeps_it_from_being_taken_for_new(redis: Any, left: str) -> None:
    """Many that wake together are looked up at once: that look sees what the look at one alone sees."""
    client, store = redis
    client.delete(*(f"{BASE}:{name}:c1" for name in KEYS if name != left))
    assert store.absent(["c1", "new"]) == {"new"}
    with pytest.raises(CorruptEntry, match="last_seq is missing"):
        store.load("c1", recent=5)


@pytest.mark.parametrize("left", ["inbox", "memory"])
def test_a_message_is_not_accepted_twice_when_a_conversation_lost_its_row_and_its_journal(
    redis: Any, left: str
) -> None:
    client, store = redis
    kept = store.find_message("c1", "m1")
    client.delete(*(f"{BASE}:{name}:c1" for name in KEYS if name not in {left, "inbox"}))
    if left == "memory":
        client.delete(f"{BASE}:inbox:c1")
        client.hset(f"{BASE}:memory:c1", "1/user", b"{}")
    (refused,) = store.commit([full_step("c1")])
    assert isinstance(refused, AppendRefused)
    if left == "inbox":
        assert store.find_message("c1", "m1") == kept


@pytest.mark.parametrize("count", [None, b"1", b"many"])
def test_no_dead_letter_is_lost_with_the_count_of_them(redis: Any, count: bytes | None) -> None:
    client, store = redis
    letters = [DeadLetterRow(at=at, address="a", reason="r", kind="k", body=b"%d" % at) for at in range(1, 5)]
    store.commit([], letters[:2])
    (newest,) = store.dead_letters(after=1, limit=9)
    assert store.drop_dead_letter(newest.id), "also when the newest is not there any more"
    if count is None:
        client.hdel(f"{BASE}:owner", "letters")
    else:
        client.hset(f"{BASE}:owner", "letters", count)
    store.commit([], letters[2:3])
    store.commit([], letters[3:])
    assert [(row.id, row.body) for row in store.dead_letters(after=0, limit=9)] == [(1, b"1"), (3, b"3"), (4, b"4")]


def test_a_journal_that_is_further_on_than_its_row_stops_nobody_else(redis: Any) -> None:
    """The server takes no entry that comes before another: not even the step that would say so."""
    client, store = redis
    commit(store, step("c1", 1, events=4))
    client.hset(f"{BASE}:state:c1", "last_seq", 1)
    outcomes = store.commit([step("c1", 1), step("other", 1)])
    assert isinstance(outcomes[0], AppendRefused)
    assert outcomes[1] == Committed("other", 2)


def test_an_inbox_row_that_is_none_does_not_cut_a_step_in_half(redis: Any) -> None:
    client, store = redis
    client.hset(f"{BASE}:inbox:c1", "m1", "noon")
    with pytest.raises(CorruptEntry, match="m1"):
        store.find_message("c1", "m1")
    commit(store, _next("c1"))
    assert store.results("c1", ["r2"])
    assert [row.seq for row in store.memory("c1", first_seq=2, last_seq=2)] == [2, 2]


@pytest.mark.parametrize("spoilt", ["noon", "", "7.5", "-5", str(2**62), str(2**64)])
def test_counts_that_are_none_keep_no_daemon_from_starting(redis: Any, spoilt: str) -> None:
    client, store = redis
    client.hset(f"{BASE}:state:c1", "recoveries", spoilt)
    client.hset(f"{BASE}:phases", "executing", spoilt)
    client.zadd(f"{BASE}:unfinished", {b"\xff": 1})
    assert store.count_recoveries()["other"] == 1
    assert store.phase_counts()["executing"] >= 0
    commit(store, _next("c1"), _next("other"))


@pytest.mark.parametrize("spoilt", ["noon", "", str(2**40)])
def test_a_place_of_the_snapshot_that_is_none_costs_no_step(redis: Any, spoilt: str) -> None:
    """Retention deletes up to there; and it goes on with all others."""
    client, store = redis
    done = {"unfinished": False, "oldest_open_seq": None, "snapshot": b"s"}
    commit(store, full_step("c1", 1, **done), full_step("other", 1, **done))
    client.hset(f"{BASE}:state:c1", "snapshot_seq", spoilt)
    client.zadd(f"{BASE}:answered", {"noon": 1})
    gone = store.cleanup(10 * DAY, keep_journal_ms=0, keep_logs_ms=0, keep_inbox_ms=0)
    assert gone["orchestrator_journal"] == 2, "of the other, and of it alone"
    assert len(store.entries("c1", after=0, limit=9)) == 2


@pytest.mark.parametrize("name", ["listed", "stale", "unfinished", "phases", "phase:executing", "letters", "errors"])
def test_a_key_that_all_need_is_named_before_anything_is_written(redis: Any, name: str) -> None:
    client, store = redis
    kept = client.dump(f"{BASE}:{name}")
    client.set(f"{BASE}:{name}", "x")
    with pytest.raises(StoreUnavailable, match=f"{name} is a string"):
        store.commit([_next("c1")])
    client.delete(f"{BASE}:{name}")
    if kept:
        client.restore(f"{BASE}:{name}", 0, kept)
    commit(store, _next("c1"))
    assert store.find_message("c1", "m2") == InboxRow("m2", "r2", "print", 2)
    assert store.results("c1", ["r2"])


@pytest.mark.parametrize(
    "fields", [{"letter": b"noon"}, {"letter": b"[1]\n{}"}, {"other": b"x"}, {"letter": b'["a",1,2,3]\nx'}]
)
def test_a_spoilt_dead_letter_is_shown_as_such_among_the_others(redis: Any, fields: dict[str, bytes]) -> None:
    client, store = redis
    commit(store, rows=[DeadLetterRow(5, f"to {n}", "gone", "Kind", b"{}") for n in range(3)])
    kept = client.xrange(f"{BASE}:letters")
    client.delete(f"{BASE}:letters")
    kept[1] = (kept[1][0], fields)
    for number, held in kept:
        client.xadd(f"{BASE}:letters", held, id=number)
    views = Views.__new__(Views)
    views._store = store
    found = views.dead_letters(0, 10)
    json_answer(found)
    assert [line["id"] for line in found] == [1, 2, 3]
    assert ["damaged" in line for line in found] == [False, True, False]
    assert views.dead_letter(2) == found[1]
    assert store.drop_dead_letter(2)
    assert len(store.dead_letters(after=0, limit=9)) == 2


def test_a_remark_that_is_gone_does_not_end_the_pages_early(redis: Any) -> None:
    client, store = redis
    commit(store, step("c1", 1, 5, memory=tuple(said(seq) for seq in range(2, 7))))
    client.hdel(f"{BASE}:memory:c1", "3/user")
    assert [row.seq for row in store.said("c1", first_seq=2, last_seq=9, limit=3)] == [2, 4, 5]
    assert [row.seq for row in store.said("c1", first_seq=6, last_seq=9, limit=3)] == [6]
