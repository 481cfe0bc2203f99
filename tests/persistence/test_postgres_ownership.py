"""Who owns a Postgres store: owners that are killed, frozen, cut off, or start at once, on a real server."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_server import Server, python, until
from store_samples import commit, full_step, step

from persistence import migrations
from persistence import postgres_statements as sql
from persistence.contract import Committed, OwnershipLost, StoreIncompatible, StoreOwned, StoreUnavailable
from persistence.postgres_store import PostgresStore

SOON = 20.0
WRITING = """
import sys
from store_samples import full_step
from persistence.contract import OwnershipLost, StoreUnavailable
from persistence.postgres_store import PostgresStore

store = PostgresStore(sys.argv[1], lease_ttl=float(sys.argv[2]))
print(store.open("child"), flush=True)
seq = store.load("child", recent=0).last_seq
while True:
    try:
        store.commit([full_step("child", seq)])
    except StoreUnavailable:
        seq = store.load("child", recent=0).last_seq
    except OwnershipLost:
        print("lost", flush=True)
        break
    else:
        seq += 1
        print(seq, flush=True)
"""
OPENING = """
import sys
from persistence.contract import StoreError
from persistence.postgres_store import PostgresStore

for line in sys.stdin:
    store = PostgresStore(line.strip())
    try:
        print(store.open("child"), flush=True)
    except StoreError as error:
        print(type(error).__name__, flush=True)
    sys.stdin.readline()
    store.close()
    print("closed", flush=True)
"""
Make = Callable[..., PostgresStore]


@contextlib.contextmanager
def child(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = python(code, *arguments)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate(timeout=SOON)


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=SOON)[1]
    return line.strip()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def stored(server: Server, dsn: str) -> list[Any]:
    """Return all that the child writes, and the state that its steps lead to."""
    tables = ("journal", "workflow_states", "inbox", "agent_results", "conversation_memory", "error_logs")
    return [server.run(f"SELECT * FROM orchestrator_{table} ORDER BY 1, 2", dsn) for table in tables]


def connections(server: Server, dsn: str) -> int:
    own = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    return int(server.run(f"SELECT count(*) FROM pg_stat_activity WHERE {own}", dsn)[0][0])


def test_a_killed_owner_is_replaced_at_once_and_left_whole_steps(server: Server, dsn: str, make: Make) -> None:
    for epoch in (1, 3, 5):
        with child(WRITING, dsn, "60") as owner:
            assert told(owner) == str(epoch)
            seen = [int(told(owner)) for _ in range(5)]
            owner.kill()
            began = time.monotonic()
            store = make(lease_ttl=60)
            assert store.open("next") == epoch + 1
            assert time.monotonic() - began < 10
        loaded = store.load("child", recent=1_000)
        assert loaded.last_seq >= seen[-1]
        every = list(range(1, loaded.last_seq + 1))
        assert [row.last_seq for row in store.entries("child", after=0, limit=10_000)] == every
        assert [row.seq for row in loaded.memory] == every
        store.close()


def test_a_frozen_owner_is_replaced_when_its_lease_ends_and_writes_nothing_when_it_wakes(
    server: Server, dsn: str, make: Make
) -> None:
    for _ in range(2):
        with child(WRITING, dsn, "1.6") as owner:
            told(owner)
            for _ in range(3):
                told(owner)
            owner.send_signal(signal.SIGSTOP)
            frozen = time.monotonic()
            store = make(lease_ttl=5)
            refused = 0

            def opened(store: PostgresStore = store) -> bool:
                nonlocal refused
                try:
                    store.open("next")
                except StoreOwned:
                    refused += 1
                    return False
                return True

            until(opened)
            assert refused
            assert time.monotonic() - frozen < 5
            commit(store, full_step("mine", store.load("mine", recent=0).last_seq))
            before = stored(server, dsn)
            owner.send_signal(signal.SIGCONT)
            while told(owner) != "lost":  # what it had been told before it was frozen
                continue
            assert stored(server, dsn) == before
            commit(store, step("mine", store.load("mine", recent=0).last_seq))
            store.close()


def test_an_owner_whose_lock_vanished_writes_nothing_after_another_has_it(make: Make) -> None:
    """As behind a pooler that gives the connection to somebody else."""
    first, second = make(lease_ttl=60), make()
    first.open("first")
    commit(first, step())
    assert first._writer is not None
    first._writer.execute(sql.UNLOCK_ALL)
    assert second.open("second") == 2
    for late in (lambda: first.commit([step("c1", 1)]), first.count_recoveries, lambda: first.drop_dead_letter(1)):
        with pytest.raises(OwnershipLost):
            late()
    with pytest.raises(StoreUnavailable, match="somebody else"):
        first.health()
    assert second.load("c1", recent=0).last_seq == 1
    first.close()
    commit(second, step("c1", 1))


def test_a_former_owner_writes_nothing_where_the_next_one_is_at_the_same_commit(make: Make) -> None:
    first, second = make(lease_ttl=60), make()
    first.open("first")
    commit(first, step())
    assert first._writer is not None
    first._writer.execute(sql.UNLOCK_ALL)
    second.open("second")
    commit(second, step("c2"))
    with pytest.raises(OwnershipLost):
        first.commit([step("c1", 1)])
    assert second.load("c1", recent=0).last_seq == 1


def test_an_idle_owner_keeps_its_store_and_gives_it_back_at_once(make: Make) -> None:
    first, second = make(lease_ttl=1.5), make(lease_ttl=1.5)
    first.open("first")
    deadline = time.monotonic() + 4.0
    while time.monotonic() < deadline:
        with pytest.raises(StoreOwned, match="another live daemon, first"):
            second.open("second")
    first.close()
    began = time.monotonic()
    assert second.open("second") == 2
    assert time.monotonic() - began < 5


def test_of_two_that_start_at_once_one_owns_and_migrates(server: Server) -> None:
    with child(OPENING) as one, child(OPENING) as two:
        for _ in range(3):
            dsn = server.database()
            for process in (one, two):
                tell(process, dsn)
            assert sorted((told(one), told(two))) == ["1", "StoreOwned"]
            applied = server.run("SELECT migration_id FROM _yoyo_migration ORDER BY 1", dsn)
            assert [name for (name,) in applied] == migrations.known("postgres")
            for process in (one, two):
                tell(process, "close")
            assert {told(one), told(two)} == {"closed"}


def test_nobody_opens_beside_one_who_is_opening(dsn: str, make: Make) -> None:
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute(sql.TRY_LOCK, (sql.OPENING,))
        with pytest.raises(StoreOwned, match="is opening this store"):
            make().open("late")
        other.execute(sql.UNLOCK, (sql.OPENING,))
        assert make().open("next") == 1


def test_of_two_that_find_a_frozen_owner_one_takes_its_place(server: Server, dsn: str) -> None:
    """The other must not take the first one for the frozen owner whose lease has ended."""
    with child(OPENING) as one, child(OPENING) as two:
        for process in (one, two):
            tell(process, server.database())
            assert told(process) == "1"
            tell(process, "close")
            assert told(process) == "closed"
        for _ in range(2):
            with child(WRITING, dsn, "0.5") as owner:
                epoch = int(told(owner))
                told(owner)
                owner.send_signal(signal.SIGSTOP)
                until(lambda: server.run(sql.LEASE, dsn)[0][1] < 0)
                for process in (one, two):
                    tell(process, dsn)
                assert sorted((told(one), told(two))) == sorted([str(epoch + 1), "StoreOwned"])
                for process in (one, two):
                    tell(process, "close")
                assert {told(one), told(two)} == {"closed"}


def test_a_start_that_was_killed_anywhere_leaves_a_store_that_the_next_start_opens(server: Server) -> None:
    program = Path(__file__).parent / "postgres_kills.py"
    with child("import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')", str(program), server.dsn(),
               "7") as process:  # fmt: skip
        said, trouble = process.communicate(timeout=50)
    assert said.startswith("points: "), (said, trouble)
    assert int(said.split()[1]) > 30


def test_a_newer_schema_is_refused_and_left_as_it_is(server: Server, dsn: str, make: Make) -> None:
    store = make()
    store.open("now")
    commit(store, full_step("child"))
    store.close()
    server.run("INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('x', '9999_from_the_future')", dsn)
    everything = [*stored(server, dsn), server.run("SELECT * FROM orchestrator_ownership", dsn)]
    with pytest.raises(StoreIncompatible, match="9999_from_the_future"):
        store.open("now")
    assert [*stored(server, dsn), server.run("SELECT * FROM orchestrator_ownership", dsn)] == everything
    assert store.migration_status() == [(name, True) for name in migrations.known("postgres")]
    until(lambda: connections(server, dsn) == 0)


def test_every_migration_can_be_taken_back(server: Server, dsn: str, make: Make) -> None:
    make().open("one")
    make_again = PostgresStore(dsn)
    with pytest.raises(StoreOwned):
        make_again.open("two")
    for name in reversed(migrations.known("postgres")):
        server.run((migrations.SQL / "postgres" / f"{name}.rollback.sql").read_text(), dsn)
    left = "SELECT relname FROM pg_class WHERE relname LIKE 'orchestrator%' AND relkind IN ('r', 'v', 'i', 'S')"
    assert server.run(left, dsn) == []


def test_connections_that_were_ended_are_made_again_and_none_is_left(server: Server, dsn: str, make: Make) -> None:
    store = make(lease_ttl=60)
    store.open("one")
    everybody = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    for seq in range(8):
        assert store.load("c1", recent=1).last_seq == seq
        server.run(everybody + "pg_backend_pid()", dsn)
        assert store.conversation("c1") is not None or not seq
        with pytest.raises(StoreUnavailable):
            store.commit([step("c1", seq)])
        assert store.commit([step("c1", seq)]) == [Committed("c1", seq + 1)]
        assert connections(server, dsn) <= 5
    assert store.health().figures["epoch"] == 1
    store.close()
    until(lambda: connections(server, dsn) == 0)
