"""What serves all conversations, with one spoilt row in it: lists, dead letters, the count at start, retention."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import postgres_server
import pytest
from store_samples import commit, full_step, step

from gateway.answers import json_answer
from gateway.conversation_routes import conversation_line
from persistence.contract import ConversationRow, DeadLetterRow
from persistence.entry import CorruptEntry
from persistence.postgres_store import PostgresStore
from persistence.sqlite_store import SqliteStore
from views import Views

TIMES = ("'noon'", "x'00ff'", "7.5", "-5", str(2**63 - 1), str(2**62), "1e300", "-1e300")
WORLDS = ("sqlite", "postgres")


@pytest.fixture(scope="module")
def server() -> Iterator[postgres_server.Server]:
    with postgres_server.running() as running:
        yield running


@pytest.fixture
def world(request: Any, server: postgres_server.Server, tmp_path: Path) -> Iterator[tuple[Any, Callable[[str], int]]]:
    """Return a store, and what changes its rows behind its back."""
    if request.param == "postgres":
        dsn = server.database()
        postgres = PostgresStore(dsn)
        postgres.open("test")
        yield postgres, lambda statement: len(server.run(f"{statement} RETURNING 1", dsn))
        postgres.close()
        return
    store = SqliteStore(tmp_path / "orchestrator.db")
    store.open("test")

    def change(statement: str) -> int:
        with closing(sqlite3.connect(tmp_path / "orchestrator.db", timeout=10)) as bare:
            done = bare.execute(statement).rowcount
            bare.commit()
        return done

    yield store, change
    store.close()


both = pytest.mark.parametrize("world", WORLDS, indirect=True)
sqlite_alone = pytest.mark.parametrize("world", ["sqlite"], indirect=True)


def _pages(store: Any, phase: str | None, limit: int) -> list[ConversationRow]:
    seen: list[ConversationRow] = []
    after: tuple[int, str] | None = None
    while page := store.conversations(phase=phase, after=after, limit=limit):
        assert len(page) <= limit
        seen += page
        assert len(seen) < 40, "it does not end"
        after = page[-1].updated_at, page[-1].conversation_id
    return seen


@sqlite_alone
@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_a_conversation_whose_time_is_none_is_listed_and_said_to_be_damaged(world: Any, limit: int) -> None:
    store, change = world
    names = [f"c{number}" for number in range(len(TIMES) + 4)]
    commit(store, *(step(name) for name in names))
    for name, time in zip(names, TIMES, strict=False):
        assert change(f"UPDATE orchestrator_workflow_states SET updated_at = {time} WHERE conversation_id = '{name}'")
    for phase in (None, "idle"):
        seen = _pages(store, phase, limit)
        assert sorted(row.conversation_id for row in seen) == sorted(names)
        damaged = {row.conversation_id for row in seen if row.damaged}
        assert damaged == {"c0", "c1", "c2", "c6", "c7"}, "those whose time is no whole number"
        lines = [conversation_line(row) for row in seen]
        assert {line["conversation_id"] for line in lines if "updated_at" in line.get("damaged", "")} == damaged
        json_answer(lines)


@both
def test_the_largest_time_there_is_hides_nothing(world: Any) -> None:
    store, change = world
    commit(store, step("a"), step("b"))
    assert change(f"UPDATE orchestrator_workflow_states SET updated_at = {2**63 - 1} WHERE conversation_id = 'a'")
    assert [row.conversation_id for row in _pages(store, None, 1)] == ["a", "b"]


@both
def test_a_conversation_without_its_row_is_no_new_one(world: Any) -> None:
    """Begun anew its steps would be mixed with those that are there."""
    store, change = world
    commit(store, full_step("c1"), full_step("other"))
    assert change("DELETE FROM orchestrator_workflow_states WHERE conversation_id = 'c1'")
    for whole in (False, True):
        with pytest.raises(CorruptEntry, match="its row is missing"):
            store.load("c1", recent=5, whole=whole)
    assert store.load("other", recent=5).last_seq == 1
    assert store.load("new", recent=5).last_seq == 0
    assert store.absent(["c1", "other", "new"]) == {"new"}


@both
@pytest.mark.parametrize("count", [-(2**63), -5, 2**62, 2**63 - 1])
def test_no_count_of_recoveries_keeps_a_daemon_from_starting(world: Any, count: int) -> None:
    store, change = world
    commit(store, full_step("a"), full_step("b"))
    assert change(f"UPDATE orchestrator_workflow_states SET recoveries = {count} WHERE conversation_id = 'a'")
    found = store.count_recoveries()
    assert isinstance(found["a"], int)
    assert found["b"] == 1


@sqlite_alone
@pytest.mark.parametrize("count", ["'noon'", "x'00ff'", "7.5", "1e300"])
def test_a_count_of_recoveries_that_is_none_is_a_number(world: Any, count: str) -> None:
    store, change = world
    commit(store, full_step("a"), full_step("b"))
    assert change(f"UPDATE orchestrator_workflow_states SET recoveries = {count} WHERE conversation_id = 'a'")
    found = store.count_recoveries()
    assert all(isinstance(number, int) for number in found.values())
    assert found["b"] == 1


@both
@pytest.mark.parametrize("place", [2**62, 4])
def test_retention_believes_no_snapshot_that_is_ahead_of_its_journal(world: Any, place: int) -> None:
    """It would delete the steps that stand in for the snapshot."""
    store, change = world
    for name in ("a", "b"):
        commit(store, step(name), step(name, 1, snapshot=b"s"), step(name, 2))
    assert change(f"UPDATE orchestrator_workflow_states SET snapshot_seq = {place} WHERE conversation_id = 'a'")
    never = {"keep_logs_ms": 2**60, "keep_inbox_ms": 2**60}
    assert store.cleanup(10**6, keep_journal_ms=0, **never)["orchestrator_journal"] == 2
    assert [len(store.entries(name, after=0, limit=9)) for name in "ab"] == [3, 1]


@sqlite_alone
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", "'noon'"),
        ("at", "7.5"),
        ("address", "x'00ff'"),
        ("reason", "CAST(x'68ff' AS TEXT)"),
        ("kind", "x'68'"),
        ("body", "'a text'"),
        ("body", "7"),
    ],
)
def test_a_spoilt_dead_letter_is_shown_as_such_among_the_others(world: Any, column: str, value: str) -> None:
    store, change = world
    commit(store, rows=[DeadLetterRow(5, f"to {n}", "gone", "Kind", b"{}") for n in range(3)])
    assert change(f"UPDATE orchestrator_dead_letters SET {column} = {value} WHERE id = 2")
    views = Views.__new__(Views)
    views._store = store
    found = views.dead_letters(0, 10)
    json_answer(found)
    assert [line["id"] for line in found] == [1, 2, 3]
    whole = value.startswith("CAST")  # as it can be shown, with a sign in place of what is no text
    assert ["damaged" in line for line in found] == [False, not whole, False]
    assert views.dead_letter(2) == found[1]
    assert store.drop_dead_letter(2)


@pytest.mark.parametrize("world", ["postgres"], indirect=True)
@pytest.mark.parametrize(("column", "value"), [("at", 2**62), ("body", r"'\x00ff'"), ("reason", r"E'\x01'")])
def test_a_spoilt_dead_letter_in_postgres_hides_no_other(world: Any, column: str, value: Any) -> None:
    store, change = world
    commit(store, rows=[DeadLetterRow(5, f"to {n}", "gone", "Kind", b"{}") for n in range(3)])
    assert change(f"UPDATE orchestrator_dead_letters SET {column} = {value} WHERE id = 2")
    views = Views.__new__(Views)
    views._store = store
    json_answer(views.dead_letters(0, 10))
    assert [line["id"] for line in views.dead_letters(0, 10)] == [1, 2, 3]
