"""How the Redis store's scripts travel: broken connections, servers that forget scripts or freeze, large batches."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis_running import SERVER, redis_server
from store_samples import commit, said, step

from persistence import redis_store
from persistence.contract import MetricRow, StoreError, StoreUnavailable, operation_row
from persistence.redis_store import RedisStore

pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")

BASE = "{orch}:store"


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with redis_server() as running:
        yield running


@pytest.fixture
def redis(server: Any) -> Iterator[tuple[Any, RedisStore]]:
    client = server.client()
    client.flushall()
    store = RedisStore(f"{server.url}?socket_timeout=2")
    store.open("test")
    yield client, store
    server.thaw()
    store.close()


def _ours(client: Any) -> list[str]:
    """Return the ids of the connections that call scripts."""
    return [line["id"] for line in client.client_list() if line["cmd"].startswith("evalsha")]


def test_scripts_that_the_server_forgot_are_given_to_it_again(redis: Any) -> None:
    client, store = redis
    commit(store, step())
    client.script_flush()
    assert store.load("c1", recent=5).last_seq == 1
    commit(store, step("c1", 1))


def test_connections_that_the_server_ended_are_made_anew_at_once(redis: Any) -> None:
    client, store = redis
    for seq in range(3):
        commit(store, step("c1", seq))
        for number in _ours(client):
            client.client_kill_filter(_id=number)
        assert store.load("c1", recent=5).last_seq == seq + 1


def test_a_connection_serves_one_after_another_and_each_of_those_that_call_at_once_has_its_own(redis: Any) -> None:
    client, store = redis
    for seq in range(20):
        commit(store, step("c1", seq))
        assert store.absent(["c1", "c2"]) == {"c2"}
    assert len(_ours(client)) == 1
    seen: list[int] = []

    def look() -> None:
        seen.extend(store.load("c1", recent=5).last_seq for _ in range(50))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for seq in range(20, 40):
        commit(store, step("c1", seq))
    for thread in threads:
        thread.join()
    assert len(seen) == 200, "an answer went to somebody else"
    assert len(_ours(client)) <= 5


def test_a_batch_larger_than_any_buffer_is_given_up_in_time_when_the_server_freezes(server: Any, redis: Any) -> None:
    _client, store = redis
    large = step("c1", entry=b"x" * (8 << 20))
    server.freeze()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="Timeout"):
        store.commit([large])
    assert 1.9 < time.monotonic() - began < 8
    server.thaw()
    commit(store, large)
    assert [len(row.body) for row in store.entries("c1", after=0, limit=9)] == [8 << 20]


def test_closing_waits_for_no_frozen_server(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_store, "_LAST_WORDS", 0.1)
    server.client().flushall()
    store = RedisStore(f"{server.url}?socket_timeout=5", prefix="frozen", lease_ttl=0.3)
    store.open("test")
    committing = threading.Thread(target=lambda: suppressed(lambda: store.commit([step()])))
    server.freeze()
    try:
        committing.start()
        threading.Event().wait(0.2)  # until the lease's thread waits as well
        began = time.monotonic()
        store.close()
        assert time.monotonic() - began < 4.0
    finally:
        server.thaw()
    committing.join(10)
    again = RedisStore(server.url, prefix="frozen", lease_ttl=0.3)
    again.open("next")
    again.close()


def suppressed(work: Callable[[], object]) -> None:
    with contextlib.suppress(StoreError):
        work()


def test_many_log_rows_of_one_commit_are_all_kept_and_capped_together(redis: Any) -> None:
    client, store = redis
    for name in ("operations", "errors"):
        client.zadd(f"{BASE}:{name}", {f"old {number}": 0 for number in range(100_000)})
    rows = [
        operation_row(5, "same", "info", "c1", None, {}) if number % 13 else MetricRow(5, "m", 1.0, "s")
        for number in range(6_500)
    ]
    commit(store, step(), rows=rows)
    assert client.zcard(f"{BASE}:metrics") == 500
    assert client.zcount(f"{BASE}:operations", 5, 5) == 6_000
    assert client.zcard(f"{BASE}:operations") == 100_000
    commit(store, step("c1", 1), rows=rows[:2])
    assert client.zcard(f"{BASE}:operations") == 100_001, "the cap is looked at every thousand rows"
    assert int(client.hget(f"{BASE}:owner", "rows")) == 6_502


def test_phases_are_counted_right_also_when_a_step_of_the_batch_cannot_be_written(redis: Any) -> None:
    client, store = redis
    commit(store, *(step(f"c{number}", phase="idle") for number in range(4)))
    batch = [
        step("c0", 1, phase="executing", memory=(said(2),)),
        step("c0", 2, phase="responding"),
        step("c1", 1, phase="responding"),
        step("c2", 1, phase="paused"),
    ]
    client.set(f"{BASE}:phase:paused", "x")
    with pytest.raises(StoreUnavailable, match="phase:paused is a string"):
        store.commit(batch)
    assert store.phase_counts() == {"idle": 2, "responding": 2}
    client.delete(f"{BASE}:phase:paused")
    commit(store, *batch)
    assert store.phase_counts() == {"idle": 1, "responding": 2, "paused": 1}


def test_a_url_that_allows_one_connection_leaves_one_for_what_is_no_script(server: Any) -> None:
    server.client().flushall()
    store = RedisStore(f"{server.url}?max_connections=1", prefix="narrow")
    store.open("test")
    try:
        commit(store, step())
        assert store.health().kind == "redis"
        assert store.load("c1", recent=5).last_seq == 1
    finally:
        store.close()


def test_after_a_failover_nothing_stays_with_the_server_that_takes_no_writes_any_more() -> None:
    """Its connections live on, and answer each write with READONLY and each read with what is old, for ever."""
    with redis_server() as old, redis_server() as new:
        store = RedisStore(old.url, lease_ttl=60.0)
        store.open("test")
        commit(store, step())
        source, heir = old.client(), new.client()
        readers = [threading.Thread(target=lambda: [store.load("c1", recent=1) for _ in range(200)]) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        store.health()
        assert len(_ours(source)) > 1, "several connections are kept at hand"
        for key in source.keys():  # noqa: SIM118  # a server, no dictionary
            heir.restore(key, 0, source.dump(key))
        source.replicaof("127.0.0.1", 1)
        new.socket.rename(old.socket)  # as a name, a proxy or a balancer would: for connections made from now on
        with pytest.raises(StoreUnavailable, match="read only"):
            store.commit([step("c1", 1)])
        commit(store, step("c1", 1))
        assert [store.load("c1", recent=1).last_seq for _ in range(10)] == [2] * 10
        seen: list[int] = []
        readers = [
            threading.Thread(target=lambda: seen.extend(store.load("c1", recent=1).last_seq for _ in range(200)))
            for _ in range(4)
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert seen == [2] * 800
        assert store.health().figures["conversations"] == 1
        store.close()
