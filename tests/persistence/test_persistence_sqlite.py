"""The SQLite store where it differs from any other: files, locks, kills, full disks, migrations and indexes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_samples import commit, full_step, step

from persistence import migrations, sqlite_file, sqlite_store
from persistence import sqlite_statements as sql
from persistence.contract import (
    Committed,
    InboxRow,
    MemoryRow,
    MetricRow,
    StoreIncompatible,
    StoreOwned,
    StoreUnavailable,
)
from persistence.open_store import UnknownStore, create_store
from persistence.sqlite_store import SqliteStore

ROOT = Path(__file__).parents[2]
SOON = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orchestrator.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    store.open("test")
    yield store
    store.close()


def tables(path: Path) -> list[tuple[Any, ...]]:
    """Return every row of every table of ours."""
    connection = sqlite3.connect(path)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    found = [
        (name, *row)
        for name in names
        if name.startswith("orchestrator_") and name != "orchestrator_ownership"
        for row in connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2")
    ]
    connection.close()
    return found


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a script that can import the project and the samples."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


# Kills

COMMITTING = """
import sys
from pathlib import Path
from store_samples import full_step
from persistence.sqlite_store import SqliteStore

store = SqliteStore(Path(sys.argv[1]))
store.open("child")
seq = store.load("c1", recent=1).last_seq
while True:
    batch = [full_step("c1", seq), full_step("c2", seq), full_step("c1", seq + 1)]
    batch.append(full_step("c2", seq + 1))
    store.commit(batch)
    seq += 2
    print(seq, flush=True)
"""


def test_an_adapter_that_an_agent_has_told_the_driver_stays():
    """The driver has one table for the whole process."""
    code = (
        "import sqlite3; sqlite3.register_adapter(bool, 'ny'.__getitem__); import persistence.sqlite_store;"
        "print(sqlite3.connect(':memory:').execute('SELECT ?', (True,)).fetchone())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "('y',)\n"


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(path):
    acknowledged = 0
    for kill_after in (1, 7, 23, 40):
        process = child(COMMITTING, path)
        assert process.stdout is not None
        for _ in range(kill_after):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            acknowledged = int(line)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=SOON)
        acknowledged = max([acknowledged, *map(int, re.findall(r"^(\d+)\n", rest, re.MULTILINE))])
        store = SqliteStore(path)
        store.open("again")
        for key in ("c1", "c2"):
            loaded = store.load(key, recent=1_000)
            assert loaded.last_seq >= acknowledged
            journal = store.entries(key, after=0, limit=10_000)
            assert [row.last_seq for row in journal] == list(range(1, loaded.last_seq + 1))
            assert [row.seq for row in loaded.memory] == list(range(1, loaded.last_seq + 1))
            assert loaded.snapshot == b"snapshot %d" % loaded.last_seq
            assert all(store.find_message(key, f"m{seq}") for seq in range(1, loaded.last_seq + 1))
        assert store.load("c1", recent=1).last_seq == store.load("c2", recent=1).last_seq
        store.close()


# Ownership

OWNING = """
import sys
from pathlib import Path
from persistence.sqlite_store import SqliteStore

store = SqliteStore(Path(sys.argv[1]))
print(store.open("child"), flush=True)
sys.stdin.readline()
"""


def test_a_second_owner_is_kept_out_at_once_until_the_first_has_closed(path, store):
    commit(store, step())
    second = SqliteStore(path)
    with pytest.raises(StoreOwned):
        second.open("second")
    commit(store, step("c1", 1))
    store.close()
    assert second.open("second") == 2
    assert second.load("c1", recent=1).last_seq == 2
    second.close()


def test_a_lock_that_was_given_back_is_not_closed_again_by_a_copy_of_the_process(path):
    """Its number may be that of another file by then."""
    handle = sqlite_file.lock(path)
    assert handle in sqlite_file._HELD
    sqlite_file.unlock(handle)
    assert handle not in sqlite_file._HELD


def test_a_killed_owner_keeps_nobody_out(path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", OWNING, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "1"
    store = SqliteStore(path)
    with pytest.raises(StoreOwned):
        store.open("too early")
    process.kill()
    process.communicate(timeout=SOON)
    assert store.open("heir") == 2
    store.close()


# Trouble with the world


def test_a_full_disk_is_survived_and_what_was_refused_goes_through_later(path, store, monkeypatch):
    commit(store, step())
    full = threading.Event()
    full.set()
    connect = sqlite_store.connect

    def limited(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
        connection = connect(path, read_only=read_only)
        if full.is_set():
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(sqlite_store, "connect", limited)
    store._recover()
    batch = [full_step("c1", 1, snapshot=b"x" * 100_000), full_step("c2", snapshot=b"x" * 100_000)]
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="SQLITE_FULL"):
            store.commit(batch)
    assert store.load("c1", recent=9).last_seq == 1
    assert store.load("c2", recent=9).last_seq == 0
    full.clear()
    store._recover()
    commit(store, *batch)
    assert store.load("c2", recent=9).last_seq == 1


def test_a_locked_database_is_waited_for_and_then_unavailable(path, store, monkeypatch):
    connect = sqlite_store.connect

    def impatient(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
        connection = connect(path, read_only=read_only)
        connection.execute("PRAGMA busy_timeout = 20")
        return connection

    monkeypatch.setattr(sqlite_store, "connect", impatient)
    store._recover()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
        store.commit([step()])
    with pytest.raises(StoreUnavailable):
        store.count_recoveries()
    other.execute("ROLLBACK")
    other.close()
    commit(store, step())


def test_a_step_that_cannot_be_stored_leaves_nothing_of_its_batch(path, store):
    commit(store, full_step())
    before = tables(path)
    late = MemoryRow(3, "user", "r3", "text", 2**70)
    poisoned: list[list[Any]] = [
        [full_step("c2"), full_step("c1", 1), full_step("c3", memory=(late,))],
        [full_step("c2"), full_step("c3", inbox=(InboxRow("m", "r", "p", 1), InboxRow("m", "r", "p", 1)))],
    ]
    for batch in poisoned:
        with pytest.raises((OverflowError, sqlite3.IntegrityError)):
            store.commit(batch, [MetricRow(1, "m", 1.0, "s")])
        assert tables(path) == before
    with pytest.raises(OverflowError):
        store.commit([full_step("c2")], [MetricRow(2**70, "m", 1.0, "s")])
    assert tables(path) == before
    commit(store, full_step("c2"), full_step("c1", 1))


def test_nothing_is_written_to_a_file_that_is_not_the_store_any_more(path, store):
    commit(store, step())
    aside = path.with_name("aside.db")
    path.rename(aside)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.commit([step("c1", 1)])
        assert not path.exists()
    aside.rename(path)
    commit(store, step("c1", 1))
    assert store.load("c1", recent=1).last_seq == 2


def _delete(log: Path) -> None:
    log.unlink()


def _move(log: Path) -> None:
    log.rename(log.with_name("aside"))


def _replace(log: Path) -> None:
    fresh = log.with_name("fresh")
    fresh.touch()
    fresh.rename(log)


@pytest.mark.parametrize("harm", [_delete, _move, _replace])
def test_what_was_committed_to_a_log_that_was_taken_away_is_saved_and_nothing_more_is_written_to_it(path, store, harm):
    """It would be gone with this process, and all that was acknowledged with it."""
    log = path.with_name(f"{path.name}-wal")
    commit(store, step())
    assert store.load("c1", recent=1).last_seq == 1  # a reader holds the log too
    harm(log)
    with pytest.raises(StoreUnavailable, match=r"write-ahead log.*saved"):
        store.commit([step("c1", 1)])
    commit(store, step("c1", 1))
    assert store.load("c1", recent=1).last_seq == 2
    copy = path.parent / "after a kill" / path.name
    copy.parent.mkdir()
    shutil.copy(path, copy)
    shutil.copy(log, copy.with_name(log.name))
    after = SqliteStore(copy)
    after.open("next")
    assert after.load("c1", recent=1).last_seq == 2
    after.close()


def test_a_log_that_was_taken_away_is_kept_as_long_as_it_cannot_be_saved(path, store):
    commit(store, step())
    with store._reader() as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT 1 FROM orchestrator_journal").fetchall()
        path.with_name(f"{path.name}-wal").unlink()
        store._writing().execute("PRAGMA busy_timeout = 1")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="still to be saved"):
                store.commit([step("c1", 1)])
        reading.execute("ROLLBACK")
    with pytest.raises(StoreUnavailable, match="is saved"):
        store.commit([step("c1", 1)])
    commit(store, step("c1", 1))


def test_a_log_that_is_taken_away_while_a_write_fails_is_saved_too(path, store):
    commit(store, step())
    assert store.load("c1", recent=1).last_seq == 1
    path.with_name(f"{path.name}-wal").unlink()
    store._recover()
    commit(store, step("c1", 1))
    assert store.load("c1", recent=1).last_seq == 2


def test_a_store_with_a_relative_path_stays_where_it_is_when_the_process_changes_its_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = SqliteStore(Path("var") / "orchestrator.db")
    store.open("test")
    monkeypatch.chdir("elsewhere")
    commit(store, step())
    assert store.load("c1", recent=1).last_seq == 1
    store.close()


def test_another_file_in_the_place_of_the_store_is_not_written_to(path, store):
    """Beside it lies a write-ahead log that is not its own."""
    commit(store, step())
    shutil.copy(path, path.with_name("backup.db"))
    path.with_name("backup.db").rename(path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="replaced"):
            store.commit([step("c1", 1)])
    assert path.read_bytes() == before


def test_a_damaged_database_refuses_nobody(store):
    """What is wrong with the world is not held against a step: it waits until somebody has mended it."""
    commit(store, *(step(f"c{number}") for number in range(200)))
    writer = store._writing()
    writer.execute("PRAGMA writable_schema = ON")
    writer.execute("UPDATE sqlite_master SET rootpage = 999999 WHERE name = 'orchestrator_journal'")
    store._recover()
    with pytest.raises(StoreUnavailable, match="CORRUPT"):
        store.commit([step("c1", 1)])


def test_a_retry_after_an_unknown_outcome_is_recognised_by_a_new_connection(path, store):
    batch = [full_step("c1"), full_step("c1", 1)]
    commit(store, *batch)
    store._recover()
    before = tables(path)
    assert store.commit(batch) == [Committed("c1", 1), Committed("c1", 2)]
    assert tables(path) == before


def test_a_commit_that_worked_although_its_answer_was_lost_is_recognised(path, store):
    class Deaf:
        """Commits, and reports an error of the disk."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, statement: str, *values: Any) -> Any:
            answer = self._connection.execute(statement, *values)
            if statement == "COMMIT":
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
                raise error
            return answer

    commit(store, full_step("c1"))
    batch = [full_step("c1", 1), full_step("c2")]
    store._writer = Deaf(store._writer)
    with pytest.raises(StoreUnavailable, match="SQLITE_IOERR_FSYNC"):
        store.commit(batch)
    before = tables(path)
    commit(store, *batch)
    assert tables(path) == before
    commit(store, full_step("c1", 2))


def test_something_that_is_no_database_is_refused_and_left_alone(path):
    path.write_bytes(b"not a database, but a letter to somebody" * 100)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(StoreIncompatible, match="no SQLite database"):
        SqliteStore(path).open("test")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_a_store_that_cannot_be_created_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable):
        SqliteStore(tmp_path / "file" / "orchestrator.db").open("test")


def test_closing_under_busy_readers_makes_them_unavailable_and_nothing_worse(path):
    for _ in range(5):
        store = SqliteStore(path)
        store.open("test")
        ended: list[BaseException] = []

        def read(store: SqliteStore = store, ended: list[BaseException] = ended) -> None:
            try:
                while True:
                    store.load("c0", recent=5)
                    store.conversations(phase=None, after=None, limit=5)
            except StoreUnavailable as error:
                ended.append(error)

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        store.health()
        store.close()
        for reader in readers:
            reader.join(SOON)
        assert len(ended) == 4


# The file


def test_only_its_owner_may_read_the_files(path):
    old = os.umask(0)
    try:
        store = SqliteStore(path)
        store.open("test")
        commit(store, step())
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(old)
    assert set(modes.values()) == {0o600}
    assert {"orchestrator.db", "orchestrator.db-wal", "orchestrator.db.lock"} <= set(modes)


@pytest.mark.parametrize("name", ["with space", "what?mode=ro", "a#b", "100%41", "ümläut 'quoted\"", "a&b=c;d"])
def test_any_path_is_taken_literally(tmp_path, name):
    path = tmp_path / name / f"{name}.db"
    store = SqliteStore(path)
    store.open("test")
    commit(store, step())
    assert store.load("c1", recent=1).last_seq == 1
    assert store.migration_status() == [(known, True) for known in migrations.known("sqlite")]
    store.close()
    assert path.exists()
    assert [folder.name for folder in tmp_path.iterdir()] == [name]


def test_a_relative_path_is_taken_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SqliteStore(Path("var/orchestrator.db"))
    store.open("test")
    commit(store, step())
    store.close()
    assert (tmp_path / "var" / "orchestrator.db").exists()


def test_every_migration_can_be_taken_back(path, store):
    store.close()
    connection = sqlite3.connect(path)
    for name in reversed(migrations.known("sqlite")):
        connection.executescript((migrations.SQL / "sqlite" / f"{name}.rollback.sql").read_text())
    left = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'orchestrator%'").fetchall()
    connection.close()
    assert left == []


def test_commits_are_synchronised_in_write_ahead_mode(store):
    writer = store._writing()
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_reading_connection_cannot_write(store):
    with store._reader() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM orchestrator_journal")


def test_hourly_views_summarise(path, store):
    hour = 3_600_000
    commit(
        store,
        full_step(),
        rows=[MetricRow(at, "agent_ms", value, "ms", "c1", "a") for at, value in ((1, 1.0), (2, 3.0), (hour, 5.0))],
    )
    connection = sqlite3.connect(path)
    performance = connection.execute(
        "SELECT hour, samples, mean, least, most FROM orchestrator_performance_hourly ORDER BY hour"
    ).fetchall()
    errors = connection.execute("SELECT hour, agent, errors, retried FROM orchestrator_errors_hourly").fetchall()
    connection.close()
    assert performance == [("1970-01-01T00:00Z", 2, 2.0, 1.0, 3.0), ("1970-01-01T01:00Z", 1, 5.0, 5.0, 5.0)]
    assert errors == [("1970-01-01T00:00Z", "a", 1, 0)]


def test_the_store_is_chosen_by_its_name(tmp_path):
    assert create_store("sqlite", data_dir=tmp_path).kind == "sqlite"
    assert create_store("memory", data_dir=tmp_path).kind == "memory"
    with pytest.raises(UnknownStore, match="parchment"):
        create_store("parchment", data_dir=tmp_path)


# Query plans

PLANS = (
    {
        "EPOCH": sql.EPOCH,
        "LAST_SEQS": sql.LAST_SEQS,
        "SAME_ENTRY": sql.SAME_ENTRY,
        "REPLIED": sql.REPLIED,
        "FORGET": sql.FORGET,
        "KNOWN": sql.KNOWN,
        "LOAD_STATE": sql.LOAD_STATE,
        "ENTRIES": sql.ENTRIES,
        "RESULTS": sql.RESULTS,
        "CACHED": sql.CACHED,
        "NEWEST_NOTE": sql.NEWEST_NOTE,
        "RECENT_MEMORY": sql.RECENT_MEMORY,
        "MEMORY_RANGE": sql.MEMORY_RANGE,
        "SAID": sql.SAID,
        "UNFINISHED": sql.UNFINISHED,
        "RECOVERING": sql.RECOVERING,
        "RECOVERIES": sql.RECOVERIES,
        "UNREPLIED": sql.UNREPLIED,
        "MESSAGE": sql.MESSAGE,
        "CONVERSATION": sql.CONVERSATION,
        "CONVERSATIONS": sql.CONVERSATIONS,
        "CONVERSATIONS_IN_PHASE": sql.CONVERSATIONS_IN_PHASE,
        "PHASES": sql.PHASES,
        "DEAD_LETTERS": sql.DEAD_LETTERS,
    }
    | {f"clean {table}": statement for table, statement in sql.CLEANUP.items()}
    | {
        "TRIMMABLE": sql.TRIMMABLE,
        "TRIMMED": sql.TRIMMED,
        **{f"trim {table}": statement for table, statement in sql.TRIM.items()},
    }
)


@pytest.mark.parametrize("name", PLANS)
def test_statements_go_by_index_and_sort_nothing(path, store, name):
    statement = PLANS[name]
    named = dict.fromkeys(re.findall(r":(\w+)", statement), 1)
    numbered = max((int(n) for n in re.findall(r"\?(\d)", statement)), default=0) or statement.count("?")
    connection = sqlite3.connect(path)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", named or (1,) * numbered)]
    connection.close()
    assert plan
    for line in plan:
        assert "TEMP B-TREE" not in line, plan
        # What is asked for is walked through, tables are not.
        small = ("INDEX", "SUBQUERY", "CONSTANT ROW", "SCAN asked")
        assert not line.startswith("SCAN") or any(word in line for word in small), plan


def test_the_newest_note_is_found_without_walking_through_all_remarks(path, store):
    connection = sqlite3.connect(path)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql.NEWEST_NOTE}", ("c1",))]
    connection.close()
    assert any("orchestrator_conversation_memory_notes" in line for line in plan), plan
