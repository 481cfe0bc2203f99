"""Migrations: each exactly once, whoever starts, whenever it is killed, and never onto something newer."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from store_samples import commit, full_step

from persistence import migrations
from persistence.contract import StoreIncompatible, StoreUnavailable
from persistence.sqlite_store import SqliteStore

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

OPEN_UNTIL_IT_IS_OURS = """
import sys, threading
from pathlib import Path
from persistence.contract import StoreOwned
from persistence.sqlite_store import SqliteStore
pause, store = threading.Event(), SqliteStore(Path(sys.argv[1]))
sys.stdin.readline()
while True:
    try:
        print(store.open("one of four"))
        break
    except StoreOwned:
        pause.wait(0.005)
store.close()
"""


def run(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], said: str = "") -> str:
    """What a process printed; it must end well and have no words on stderr."""
    try:
        out, errors = process.communicate(said, timeout=50)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, ""), errors
    return out


def changed(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


def test_four_daemons_that_start_at_once_migrate_exactly_once(tmp_path):
    """Each waits until the store is free; the schema is made by the first and found by the others."""
    path = tmp_path / "orchestrator.db"
    processes = [run("-c", OPEN_UNTIL_IT_IS_OURS, str(path)) for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sorted(finished(process).strip() for process in processes) == ["1", "2", "3", "4"]
    connection = sqlite3.connect(path)
    applied = connection.execute("SELECT migration_id FROM _yoyo_migration").fetchall()
    connection.close()
    assert [name for (name,) in applied] == migrations.known("sqlite")


def test_a_start_that_is_killed_anywhere_in_the_migration_does_not_harm_the_next(tmp_path):
    """Before every statement, and before and after every commit: the next start repeats or finishes."""
    said = finished(run(str(HERE / "migration_kills.py"), str(tmp_path))).splitlines()
    assert len(said) == 1, said
    assert int(said[0].removeprefix("points: ")) > 50


def test_a_lock_row_that_a_killed_process_left_is_stale(tmp_path):
    """The library keeps its lock in a table, where no kernel frees it."""
    store = SqliteStore(tmp_path / "orchestrator.db")
    store.open("first")
    store.close()
    changed(tmp_path / "orchestrator.db", "INSERT INTO yoyo_lock (locked, pid) VALUES (1, 1)")
    assert store.open("second") == 2
    store.close()


def test_a_newer_database_is_refused_and_left_byte_for_byte(tmp_path):
    """The data of a newer version is nothing to try one's luck on."""
    path = tmp_path / "orchestrator.db"
    store = SqliteStore(path)
    store.open("now")
    store.close()
    changed(path, "INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('x', '9999_from_the_future')")
    before = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(StoreIncompatible, match="9999_from_the_future"):
        store.open("now")
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert store.migration_status() == [(name, True) for name in migrations.known("sqlite")]


def test_the_status_of_migrations_can_be_asked_of_a_store_that_is_not_there(tmp_path):
    """Asking makes nothing."""
    store = SqliteStore(tmp_path / "orchestrator.db")
    assert store.migration_status() == [(name, False) for name in migrations.known("sqlite")]
    assert list(tmp_path.iterdir()) == []


def test_a_failing_migration_leaves_nothing_of_itself(tmp_path, monkeypatch):
    """Statement by statement it would leave half a schema; it is one transaction."""
    path = tmp_path / "data" / "orchestrator.db"
    steps = tmp_path / "sql" / "sqlite"
    steps.mkdir(parents=True)
    (steps / "0001_begin.sql").write_text("CREATE TABLE first (x); CREATE TABLE second (x); CREATE TABLE first (x);")
    monkeypatch.setattr(migrations, "SQL", tmp_path / "sql")
    with pytest.raises(StoreUnavailable, match="first already exists"):
        SqliteStore(path).open("test")
    connection = sqlite3.connect(path)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert {"first", "second"} & tables == set()
    assert SqliteStore(path).migration_status() == [("0001_begin", False)]


def test_a_store_of_an_older_version_is_brought_up_to_date_with_what_is_in_it_or_left_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "data" / "orchestrator.db"
    store = SqliteStore(path)
    store.open("older")
    commit(store, full_step("c1"), full_step("c2"))
    store.close()
    steps = tmp_path / "sql"
    shutil.copytree(migrations.SQL, steps)
    newer = steps / "sqlite" / "0002_newer.sql"
    newer.write_text(
        "ALTER TABLE orchestrator_journal ADD COLUMN seal TEXT; DELETE FROM orchestrator_inbox; SELECT nonsense;"
    )
    old = migrations.SQL
    monkeypatch.setattr(migrations, "SQL", steps)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="nonsense"):
            store.open("newer")
    monkeypatch.setattr(migrations, "SQL", old)
    assert store.open("older again") == 2
    assert store.find_message("c1", "m1") is not None
    commit(store, full_step("c1", 1))
    store.close()
    newer.write_text("ALTER TABLE orchestrator_journal ADD COLUMN seal TEXT")
    monkeypatch.setattr(migrations, "SQL", steps)
    assert store.open("newer") == 3
    assert store.migration_status()[-1] == ("0002_newer", True)
    assert [store.load(key, recent=9).last_seq for key in ("c1", "c2")] == [2, 1]
    commit(store, full_step("c1", 2))
    store.close()
    monkeypatch.setattr(migrations, "SQL", old)
    with pytest.raises(StoreIncompatible, match="0002_newer"):
        store.open("older once more")


def test_odd_names_of_folders_are_names(tmp_path):
    """Neither the address of a database nor the pattern of a folder reads anything into them."""
    folder = tmp_path / "50%41 of [what]? #1 ü"
    store = SqliteStore(folder / "orchestrator.db")
    store.open("test")
    store.close()
    assert {path.name for path in folder.iterdir()} <= {"orchestrator.db", "orchestrator.db.lock"}
    assert list(tmp_path.iterdir()) == [folder]


def test_the_program_may_lie_in_a_folder_with_an_odd_name(tmp_path, monkeypatch):
    """The library takes folders as patterns, in which brackets mean something."""
    steps = tmp_path / "lib [1]" / "sqlite"
    steps.mkdir(parents=True)
    (steps / "0001_begin.sql").write_text("CREATE TABLE first (x)")
    monkeypatch.setattr(migrations, "SQL", steps.parent)
    assert migrations.apply("sqlite", f"sqlite:///{tmp_path}/orchestrator.db") == ["0001_begin"]
    assert migrations.apply("sqlite", f"sqlite:///{tmp_path}/orchestrator.db") == []


def test_migrating_says_nothing_and_asks_nobody(tmp_path, monkeypatch, caplog, capfd):
    """Not even for this machine's name, which can take seconds where names are not served."""
    monkeypatch.setattr("socket.getfqdn", lambda *_: pytest.fail("asked for the machine's name"))
    with caplog.at_level("INFO"):
        migrations.apply("sqlite", f"sqlite:///{tmp_path}/orchestrator.db")
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
