"""A commit of the Postgres store as the server gets it: one statement, its JSON, its limits, and what its lease is."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postgres_server import Server, until
from store_samples import commit, full_step, result, said, step

from persistence import migrations, postgres_rows, postgres_store
from persistence import postgres_statements as sql
from persistence.contract import AppendRefused, Committed, MetricRow, StoreUnavailable, operation_row
from persistence.postgres_connection import Connection, _plain
from persistence.postgres_store import PostgresStore

Make = Callable[..., PostgresStore]
OWNERSHIP = "orchestrator_ownership"


def _nothing_else(*_args: Any, **_options: Any) -> Any:
    raise AssertionError("another statement")


def test_a_commit_as_it_nearly_always_is_takes_one_statement(opened: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    commit(store, step())
    assert store.load("c1", recent=9).last_seq == 1
    asked: list[str] = []
    ask = Connection.ask

    def counted(self: Connection, name: str, *rest: Any) -> Any:
        asked.append(name)
        return ask(self, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "ask", counted)
        patch.setattr(Connection, "execute", _nothing_else)
        patch.setattr(Connection, "wait", _nothing_else)
        batch = [step("c1", 1), full_step("c2"), full_step("c2", 1), step("c3"), step("c1", 2)]
        assert store.commit(batch, [MetricRow(1, "m", 1.0, "s")]) == [
            Committed(append.conversation_id, append.last_seq) for append in batch
        ]
        assert asked == ["commit"]
        assert store.load("new", recent=9).last_seq == 0
    assert [store.load(key, recent=9).last_seq for key in ("c1", "c2", "c3")] == [3, 2, 1]


def test_a_conversation_that_does_not_stand_where_it_was_taken_to_is_looked_at(opened: Make) -> None:
    """Nothing of the batch was done at the first look: its other steps and rows are there once."""
    store = opened()
    commit(store, step(), step("c1", 1))
    store._last_seqs.clear()  # as after a start
    batch = [step("new"), step("c1", 1, events=2), step("c1", 2), step("hole", 7)]
    outcomes = store.commit(batch, [MetricRow(1, "m", 1.0, "s")])
    assert [type(outcome) for outcome in outcomes] == [Committed, AppendRefused, Committed, AppendRefused]
    assert [outcome.detail for outcome in outcomes if isinstance(outcome, AppendRefused)] == [
        "the newest event is 2, this step follows 1",
        "the newest event is 0, this step follows 7",
    ]
    assert store._writer is not None
    assert store._writer.execute("SELECT count(*) FROM orchestrator_performance_metrics").fetchone() == (1,)
    assert store.load("c1", recent=1).last_seq == 3


def test_a_store_of_the_first_schema_is_brought_up_to_date_with_what_is_in_it(
    server: Server, dsn: str, make: Make
) -> None:
    store = make()
    store.open("now")
    commit(store, full_step("old"))
    store.close()
    rollback = (migrations.SQL / "postgres" / "0002_commit.rollback.sql").read_text()
    server.run(rollback + "DELETE FROM _yoyo_migration WHERE migration_id = '0002_commit'", dsn)
    first, second = migrations.known("postgres")[:2]
    assert store.migration_status()[:2] == [(first, True), (second, False)]
    assert store.open("next") == 2
    assert store.migration_status()[:2] == [(first, True), (second, True)]
    commit(store, full_step("old", 1))
    assert [row.last_seq for row in store.entries("old", after=0, limit=9)] == [1, 2]


def test_a_commit_that_took_long_gives_the_lease_from_its_end(server: Server, dsn: str, make: Make) -> None:
    store = make(lease_ttl=3600)
    store.open("one")
    commit(store, step())
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE orchestrator_journal IN ACCESS EXCLUSIVE MODE")
        writing = threading.Thread(target=lambda: commit(store, step("c1", 1)))
        writing.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%orchestrator_commit%'"
        waits += " AND datname = current_database() AND clock_timestamp() - query_start > interval '1.5 s'"
        until(lambda: server.run(waits, dsn))
    writing.join(10)
    assert server.run(sql.LEASE, dsn)[0][1] > 3_600_000 - 1_000


def test_what_is_too_large_only_as_json_is_refused_before_it_is_sent(
    opened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "_LARGEST_COMMIT", 50_000)
    store = opened()
    with pytest.raises(ValueError, match="as JSON"):
        store.commit([step(memory=(said(1, "\x02" * 20_000),))])
    assert store.commit([step(memory=(said(1, "x" * 20_000),))]) == [Committed("c1", 1)]


@given(st.lists(st.text(st.characters(codec="utf-8")) | st.text('\\u0\0\x01\x02"a'), min_size=1))
def test_every_text_survives_its_way_through_the_json(texts: list[str]) -> None:
    """A NUL never reaches the server: it can make no text of one."""
    sent = postgres_rows.as_json([{"text": text} for text in texts])
    assert sent is not None
    read = [row["text"] for row in json.loads(sent)]
    assert not any("\0" in text for text in read)
    assert [_plain(text) for text in read] == texts


def test_odd_ids_and_logged_fields_come_back(server: Server, dsn: str, opened: Make) -> None:
    store = opened()
    odd = 'a\0b\x01c\\u0000"'
    for open_request in (odd, "plain"):
        key = f"c {open_request}"
        kept = result(open_request)
        commit(store, step(key, unfinished=True, oldest_open_seq=1, open_request_ids=(open_request,), results=(kept,)))
        assert store.load(key, recent=1).results == (kept,)
    fields: list[dict[str, Any]] = [{"text": odd, odd: [1, {"deep": None}]}, {"text": "plain", "number": float("inf")}]
    for each in fields:
        commit(store, rows=[operation_row(1, f"event {odd}", "info", odd, None, each)])
    stored = server.run("SELECT event, conversation_id, fields FROM orchestrator_operation_logs ORDER BY id", dsn)
    assert [(_plain(event), _plain(key)) for event, key, _ in stored] == [(f"event {odd}", odd)] * 2
    assert json.loads(stored[0][2]) == fields[0]
    assert json.loads(stored[1][2]) == {"text": "plain", "number": "Infinity"}


def test_rows_without_a_nul_keep_their_fields_as_json_too(server: Server, dsn: str, opened: Make) -> None:
    fields = {"list": [1, 2.5, "é"], "nothing": None}
    commit(opened(), rows=[operation_row(1, "event", "info", None, None, fields)])
    assert json.loads(server.run("SELECT fields FROM orchestrator_operation_logs", dsn)[0][0]) == fields


def test_what_the_driver_let_go_of_is_prepared_again(opened: Make) -> None:
    """As it does after a rollback, of statements that are not its own too."""
    store = opened()
    commit(store, step())
    assert store._writer is not None
    for seq in range(1, 4):
        store._writer.execute("DEALLOCATE ALL")
        commit(store, step("c1", seq))
    for _ in range(12):  # until the driver prepares, too
        assert store.load("c1", recent=1).last_seq == 4
        with pytest.raises(StoreUnavailable):
            store._read(_failing)
        assert store.load("new", recent=1).last_seq == 0


def _failing(connection: Connection) -> None:
    connection.execute("BEGIN")
    try:
        connection.execute("SELECT 1 / 0")
    finally:
        connection.execute("ROLLBACK")


def test_what_is_asked_all_the_time_stays_quick_in_tables_that_grew(server: Server, dsn: str, opened: Make) -> None:
    """Plans made while the tables were small read no whole table later."""
    store = opened()

    def use(prefix: str) -> None:
        for number in range(12):
            key = f"{prefix}{number}"
            commit(store, full_step(key), full_step(key, 1, progress=False, forget=("r1",), replied=(("m1", 2),)))
            store._last_seqs.clear()
            commit(store, step(key, 2))
            assert store.load(f"new {key}", recent=2).last_seq == 0
            assert store.load(key, recent=2).last_seq == 3
            assert store.absent([key, f"new {key}"]) == {f"new {key}"}

    use("small")
    grow = """
        INSERT INTO orchestrator_workflow_states (conversation_id, phase, last_seq, unfinished, created_at, updated_at)
            SELECT 'z' || n, 'idle', 1, FALSE, 1, 1 FROM generate_series(1, 5000) n;
        INSERT INTO orchestrator_journal SELECT 'z' || n, 1, 1, 1, 'x' FROM generate_series(1, 5000) n;
        INSERT INTO orchestrator_inbox SELECT 'z' || n, 'm', 'r', 'f', 1, NULL, 1 FROM generate_series(1, 5000) n;
        INSERT INTO orchestrator_conversation_memory SELECT 'z' || n, 1, 'user', 'r', 't', 1
            FROM generate_series(1, 5000) n;
    """
    server.run(grow, dsn)
    before = _told(store)
    use("large")
    assert _told(store) - before < 5_000


def _told(store: PostgresStore) -> int:
    """Return how many rows were read in whole tables, once both connections told theirs."""
    flush = "SELECT pg_stat_force_next_flush()"
    assert store._writer is not None
    store._writer.execute(flush)
    store._all(flush)
    ((rows,),) = store._all(
        "SELECT sum(seq_tup_read)::int FROM pg_stat_user_tables WHERE relid <> %s::regclass", [OWNERSHIP]
    )
    return int(rows)
