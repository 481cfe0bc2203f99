"""Every value of every row is spoilt in turn: waking, lists and views answer or say what cannot be read, never else."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import postgres_server
import psycopg
import pytest
from conversation_driver import DIAMOND, Conversation
from redis_running import SERVER, redis_server
from store_samples import commit, step
from test_conversation_journal import Books, _told

from checking import read_everything
from conversation import journal
from gateway.answers import json_answer
from gateway.conversation_routes import conversation_line
from messages.events import PhaseChanged, rfc3339, to_public
from persistence import snapshot as snapshots
from persistence.contract import MemoryRow, Store
from persistence.entry import CorruptEntry, decode, encode
from persistence.postgres_store import PostgresStore
from persistence.redis_store import RedisStore
from persistence.sqlite_store import SqliteStore
from views import Views
from workflow.codec import StateInvalid, from_plain

HUGE = 2**62
TABLES = ("workflow_states", "journal", "inbox", "agent_results", "conversation_memory")
VALUES = ("NULL", "'noon'", "x'00ff'", "CAST(x'68ff' AS TEXT)", "7.5", "-5", str(HUGE), "'[1,null]'", "''")
BYTES = (b"noon", b"\x00\xff", b"-5", str(HUGE).encode(), b"[1,null]", b"[1,2,3,4,5,6]\nx", b"[" * 9_999, b"", None)


def _talk(store: Store) -> None:
    """Leave a conversation with a request under way, and one beside it."""
    talk, books = Conversation(), Books(3)
    books.store = store  # type: ignore[assignment]  # a real one instead
    _told(talk, books)
    for turn in range(3):
        talk.ask(DIAMOND, text=f"question {turn}")
        for name in "abcd"[: 4 if turn < 2 else 2]:
            talk.succeed(name, "ok")
        if turn < 2:
            talk.synthesize()
    commit(store, step("other", phase="completed"))


def _look(store: Store) -> None:
    """Do whatever reads this store; what may be raised is what each of them may raise."""
    views = Views.__new__(Views)  # the reading half alone
    views._store = store
    views._router = SimpleNamespace(held=frozenset)  # nobody is held back
    with suppress(*journal.UNREADABLE):
        journal.wake(store.load("c1", recent=2))
    with suppress(*journal.UNREADABLE):
        loaded = store.load("c1", recent=2, whole=True)
        try:
            journal.wake(loaded)
        except journal.UNREADABLE:
            journal.set_aside(loaded, "why", 5)
    rows = views.conversations(phase=None, after=None, limit=10)
    json_answer([conversation_line(row) for row in rows])
    assert "other" in [row.conversation_id for row in rows]
    json_answer([store.phase_counts(), views._quarantined()])
    assert all(isinstance(name, str) for name in store.unfinished())
    asked: tuple[Callable[[], Any], ...] = (
        lambda: views.conversation("c1"),
        lambda: views.plan("c1"),
        lambda: views.messages("c1", 0, 100),
        lambda: views.why("c1", request_id=None, after=None, limit=10),
        lambda: [to_public(event) for event in views.events("c1", 0, 100) or []],
    )
    for ask in asked:
        try:
            json_answer(ask())
        except CorruptEntry as error:
            json_answer([error.seq, error.reason])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "orchestrator.db"
    store = SqliteStore(path)
    store.open("test")
    _talk(store)
    store.close()
    with closing(sqlite3.connect(path)) as bare:  # as a file that was repaired by hand, or by a failing disk
        bare.execute("PRAGMA writable_schema = ON")
        bare.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'")
        bare.commit()
    return path


@pytest.mark.parametrize("table", TABLES)
def test_no_value_of_a_sqlite_row_raises_anything_else(good, tmp_path, table):
    with closing(sqlite3.connect(good)) as bare:
        columns = [row[1] for row in bare.execute(f"PRAGMA table_info(orchestrator_{table})")]
    tried = 0
    for column in columns:
        for value in VALUES:
            path = tmp_path / f"{tried}.db"
            shutil.copy(good, path)
            newest = f"SELECT max(rowid) FROM orchestrator_{table} WHERE conversation_id = 'c1'"
            with closing(sqlite3.connect(path)) as bare:
                bare.execute(f"UPDATE orchestrator_{table} SET {column} = {value} WHERE rowid = ({newest})")
                bare.commit()
            store = SqliteStore(path)
            try:
                _look_without_ownership(store)
                if (table, column) != ("workflow_states", "conversation_id"):
                    assert _listed(store) == ["c1", "other"]
            except Exception as error:
                raise AssertionError(f"{table}.{column} = {value}") from error
            tried += 1
    assert tried >= 45


def _look_without_ownership(store: SqliteStore) -> None:
    store._open_readers()  # `open_reading` looks at the schema first, which is as it was
    try:
        _look(store)
    finally:
        store._close_readers()


def _listed(store: SqliteStore) -> list[str]:
    store._open_readers()
    try:
        assert read_everything(store)[0] == 2
        return _leafed_through(store)
    finally:
        store._close_readers()


@pytest.mark.parametrize("name", ["x'00ff'", "CAST(x'68ff' AS TEXT)"])
def test_a_spoilt_name_does_not_keep_the_list_from_ending(good, tmp_path, name):
    """It is the last of its page, which is where the next one goes on."""
    path = tmp_path / "orchestrator.db"
    shutil.copy(good, path)
    with closing(sqlite3.connect(path)) as bare:
        spoil = f"UPDATE orchestrator_workflow_states SET conversation_id = {name}, updated_at = 1"
        bare.execute(f"{spoil} WHERE conversation_id = 'c1'")
        bare.commit()
    store = SqliteStore(path)
    assert store.open_reading()
    assert read_everything(store)[0] == 2
    store.close()


PLAIN = {
    "text": ("''", "'noon'", "E'\\x01'", "'[1,null]'", "'[\"no such\"]'", "repeat('[', 9999)", "NULL"),
    "bigint": ("0", "-5", "7", str(HUGE), str(2**63 - 1), str(-(2**63)), "NULL"),
    "boolean": ("true", "false", "NULL"),
    "bytea": ("''", "'\\x00ff'", "'noon'", "'[1,null]'", "NULL"),
    "double precision": ("'NaN'", "'Infinity'", "-5", "NULL"),
}
"""Of each type of Postgres: what a column can be spoilt with."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[tuple[postgres_server.Server, PostgresStore]]:
    with postgres_server.running() as server:
        dsn = server.database()
        store = PostgresStore(dsn)
        store.open("test")
        _talk(store)
        store.close()
        for table in TABLES:
            for column, _type, nullable in _columns(server, dsn, table):
                if nullable == "NO" and column not in (
                    "conversation_id",
                    "last_seq",
                    "message_id",
                    "request_id",
                    "node_id",
                    "seq",
                    "role",
                    "updated_at",
                ):
                    server.run(f"ALTER TABLE orchestrator_{table} ALTER {column} DROP NOT NULL", dsn)
        store = PostgresStore(dsn)
        assert store.open_reading()
        yield server, store
        store.close()


def _columns(server: postgres_server.Server, dsn: str, table: str) -> list[Any]:
    asked = "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name"
    return server.run(f"{asked} = 'orchestrator_{table}'", dsn)


@pytest.mark.parametrize("table", TABLES)
def test_no_value_of_a_postgres_row_raises_anything_else(postgres, table):
    server, store = postgres
    tried = 0
    with psycopg.connect(store._dsn) as bare:
        name = f"orchestrator_{table}"
        for column, kind, _nullable in _columns(server, store._dsn, table):
            for value in PLAIN[kind]:
                bare.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {name}")
                newest = f"(SELECT max(ctid) FROM {name} WHERE conversation_id = 'c1')"
                try:
                    bare.execute(f"UPDATE {name} SET {column} = {value} WHERE ctid = {newest}")
                except psycopg.errors.IntegrityError:  # the key of another row, or no key
                    bare.rollback()
                    continue
                bare.commit()
                try:
                    _look(store)
                    assert read_everything(store)[0] == 2
                    assert len(_leafed_through(store)) == 2
                    tried += 1
                except Exception as error:
                    raise AssertionError(f"{table}.{column} = {value}") from error
                finally:
                    bare.execute(f"TRUNCATE {name}")
                    bare.execute(f"INSERT INTO {name} SELECT * FROM kept")
                    bare.execute("DROP TABLE kept")
                    bare.commit()
    assert tried >= 25


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, RedisStore]]:
    if SERVER is None:
        pytest.skip("there is no redis-server here")
    with redis_server() as server:
        store = RedisStore(server.url, prefix="p")
        store.open("test")
        _talk(store)
        yield server.client(), store
        store.close()


def test_no_value_of_a_redis_row_raises_anything_else(redis):
    client, store = redis
    tried = 0
    for key in [key for key in client.keys("*") if b":c1" in key]:
        kept, kind = client.dump(key), client.type(key)
        fields = client.hkeys(key) if kind == b"hash" else [b"body", b"at", b"first"] if kind == b"stream" else []
        for field in fields:
            for value in BYTES:
                _spoil(client, key, field, value, kind)
                try:
                    _look(store)
                    assert read_everything(store)[0] == 2
                    assert _leafed_through(store) == ["c1", "other"]
                except Exception as error:
                    raise AssertionError(f"{key!r} {field!r} = {value!r}") from error
                client.delete(key)
                client.restore(key, 0, kept)
                tried += 1
    assert tried > 100


def _leafed_through(store: Store) -> list[str]:
    seen: list[str] = []
    after: tuple[int, str] | None = None
    while page := store.conversations(phase=None, after=after, limit=1):
        seen += [row.conversation_id for row in page]
        assert len(seen) < 10
        after = page[-1].updated_at, page[-1].conversation_id
    return sorted(seen)


def test_names_in_redis_that_are_not_utf_8_hide_nothing(redis):
    client, store = redis
    client.hset("{p}:store:phases", b"\xff", 1)
    client.zadd("{p}:store:unfinished", {b"\xff": 1})
    client.zadd("{p}:store:listed", {b"\xff": -5})
    client.hset(b"{p}:store:state:\xff", "last_seq", 1)
    _look(store)
    assert set(_leafed_through(store)) == {"c1", "other", "\ufffd"}


def _spoil(client: Any, key: bytes, field: bytes, value: bytes | None, kind: bytes) -> None:
    if kind == b"hash":
        client.hdel(key, field) if value is None else client.hset(key, field, value)
        return
    steps = client.xrange(key)
    client.delete(key)
    spoilt = {name: held for name, held in steps[-1][1].items() if name != field}
    steps[-1] = (steps[-1][0], spoilt if value is None else {**spoilt, field: value})
    for number, fields in steps:
        client.xadd(key, fields, id=number)


def test_a_quarantined_conversation_with_a_spoilt_step_leaves_the_status_to_all_others(redis):
    client, store = redis
    client.hset("{p}:store:state:c1", "phase", "paused")
    client.zadd("{p}:store:phase:paused", {"c1": -1})
    (number, fields), *_ = client.xrevrange("{p}:store:journal:c1", count=1)
    client.xdel("{p}:store:journal:c1", number)
    del fields[b"at"]
    client.copy("{p}:store:journal:c1", "kept")
    client.delete("{p}:store:journal:c1")
    for one, held in [*client.xrange("kept"), (number, fields)]:
        client.xadd("{p}:store:journal:c1", held, id=one)
    _look(store)


def test_a_question_that_is_gone_is_missed():
    """Its request would otherwise be answered as if nothing had been asked."""
    talk, books = Conversation(), Books(3)
    _told(talk, books)
    talk.ask(DIAMOND, text="question")
    loaded = books.store.load("c1", recent=50)
    journal.wake(loaded)
    for whole in (False, True):
        loaded = books.store.load("c1", recent=50, whole=whole)
        without = tuple(MemoryRow(row.seq, "assistant", "r", "", 1) for row in loaded.memory)
        spoilt = type(loaded)(
            loaded.conversation_id, loaded.last_seq, loaded.snapshot, loaded.snapshot_seq, loaded.entries,
            loaded.results, without, loaded.phase,
        )  # fmt: skip
        with pytest.raises(CorruptEntry, match="what was asked"):
            journal.wake(spoilt)


def test_an_upcaster_that_makes_no_state_makes_its_snapshot_unreadable(monkeypatch):
    old = snapshots.seal({"conversation_id": "c"}, schema=1)
    monkeypatch.setitem(snapshots.UPCASTERS, 1, lambda _plain: None)
    with pytest.raises(snapshots.SnapshotCorrupt, match="no state"):
        snapshots.unseal(old, schema=2)


@pytest.mark.parametrize("odd", [b"\xff", object(), float("inf"), {"a": {1: object()}}])
def test_plain_data_that_is_no_json_is_no_state(odd):
    with pytest.raises(StateInvalid):
        from_plain({"conversation_id": odd}, texts={}, results={})


@pytest.mark.parametrize(("at", "said"), [(HUGE, "9999"), (-HUGE, "0001"), (0, "1970")])
def test_every_number_has_a_time_that_can_be_shown(at, said):
    assert rfc3339(at).startswith(said)


def test_where_a_spoilt_step_lies_can_be_told_whatever_its_row_says():
    moved = PhaseChanged(seq=1, at=5, conversation_id="c", from_phase="initializing", to_phase="planning")
    body = encode([moved])
    with pytest.raises(CorruptEntry) as told:
        decode("c", type("Row", (), {"first_seq": b"\xff", "last_seq": 1, "at": 5, "body": body})())  # type: ignore[arg-type]  # not a row of ours
    assert told.value.seq == 0
