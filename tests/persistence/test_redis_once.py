"""Scripts whose answer got lost and that were sent again: what they did is done once, and their answer is the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis_running import SERVER, redis_server
from store_samples import commit, full_step, step

from persistence import redis_wire
from persistence.contract import DeadLetterRow, OwnershipLost
from persistence.redis_store import RedisStore

pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")

OWNER = "{orch}:store:owner"
DAY = 86_400_000
Lose = Callable[[], None]


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with redis_server() as running:
        yield running


@pytest.fixture
def client(server: Any) -> Any:
    found = server.client()
    found.flushall()
    return found


@pytest.fixture
def store(server: Any, client: Any) -> Iterator[RedisStore]:
    assert client.ping()
    store = RedisStore(server.url)
    store.open("test")
    yield store
    store.close()


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lose]:
    """Let the answer to the next script get lost on its way: the server has carried it out."""
    exchange, left = redis_wire._exchange, [0]

    def unlucky(connection: Any, packed: Any) -> Any:
        answer = exchange(connection, packed)
        if left[0] and answer[0] == b"ok":
            left[0] -= 1
            raise RedisConnectionError("the connection broke under the answer")
        return answer

    def lose() -> None:
        left[0] = 1

    monkeypatch.setattr(redis_wire, "_exchange", unlucky)
    yield lose
    assert left[0] == 0, "an answer was lost indeed"


def test_recoveries_are_counted_once(store: RedisStore, lose: Lose) -> None:
    commit(store, step("a", unfinished=True), step("b", unfinished=True))
    assert store.count_recoveries() == {"a": 1, "b": 1}
    lose()
    assert store.count_recoveries() == {"a": 2, "b": 2}
    assert store.count_recoveries() == {"a": 3, "b": 3}, "another call is none that is sent again"


def test_a_dead_letter_that_was_dropped_is_said_to_be(store: RedisStore, lose: Lose) -> None:
    commit(store, rows=[DeadLetterRow(1, "a", "r", "k", b"{}")])
    lose()
    assert store.drop_dead_letter(1) is True
    assert store.drop_dead_letter(1) is False
    assert store.dead_letters(after=0, limit=9) == []


def test_cleanup_counts_what_it_deleted(store: RedisStore, lose: Lose) -> None:
    commit(store, full_step("a", replied=(("m1", 1),)), rows=[DeadLetterRow(1, "a", "r", "k", b"{}")])
    keep = {"keep_journal_ms": 0, "keep_logs_ms": 0, "keep_inbox_ms": 0}
    lose()
    gone = store.cleanup(10 * DAY, **keep)
    assert gone["orchestrator_dead_letters"] == 1
    assert gone["orchestrator_inbox"] == 1
    assert set(store.cleanup(10 * DAY, **keep).values()) == {0}


def test_a_beat_is_counted_once(store: RedisStore, client: Any, lose: Lose) -> None:
    lose()
    store.beat()
    assert client.hget(OWNER, "beats") == b"1"
    store.beat()
    assert client.hget(OWNER, "beats") == b"2"


def test_an_owner_that_lost_the_store_hears_so_before_any_remembered_answer(
    server: Any, store: RedisStore, client: Any
) -> None:
    commit(store, step("a", unfinished=True))
    assert store.count_recoveries() == {"a": 1}
    client.delete("{orch}:store:lease")
    with_lease = RedisStore(server.url)
    with_lease.open("another")
    with pytest.raises(OwnershipLost):
        store.count_recoveries()
    with_lease.close()


def test_what_is_remembered_ends_by_itself_and_of_another_kind_harms_nothing(store: RedisStore, client: Any) -> None:
    store.beat()
    assert 0 < client.pttl("{orch}:store:once") <= 60_000
    client.delete("{orch}:store:once")
    client.hset("{orch}:store:once", "x", "y")
    store.beat()
    assert client.hget(OWNER, "beats") == b"2"


def test_a_server_without_room_still_cleans_up(store: RedisStore, client: Any) -> None:
    """Nothing can be remembered then, and deleting is what makes room."""
    commit(store, rows=[DeadLetterRow(1, "a", "r", "k", b"{}")])
    client.config_set("maxmemory", "1")
    try:
        assert store.drop_dead_letter(1) is True
        assert store.drop_dead_letter(1) is False
    finally:
        client.config_set("maxmemory", "0")
