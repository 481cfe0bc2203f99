"""The shop's own database: built once by whoever comes first, never undone, not writable by readers."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from agents import Context
from examples.shop import agents as shop
from examples.shop import store

ROOT = Path(__file__).parents[2]


def test_a_builder_that_comes_late_does_not_undo_a_price_change(monkeypatch):
    """It began before the file was there; when it is done the file is there and has been written to."""
    path = Path(os.environ["SHOP_DATABASE"])
    built, may_publish = threading.Event(), threading.Event()
    publish = os.link

    def publish_late(*args):
        built.set()
        assert may_publish.wait(10)
        publish(*args)

    monkeypatch.setattr(store.os, "link", publish_late)
    late = threading.Thread(target=store._build, args=(path,))
    late.start()
    assert built.wait(10)
    monkeypatch.setattr(store.os, "link", publish)
    shop.change_price("GR-NICHE-ZERO", "679.00", Context(idempotency_key="k"))
    may_publish.set()
    late.join(10)
    assert store.product("GR-NICHE-ZERO")["price"] == 679.0
    assert [entry.name for entry in path.parent.iterdir()] == ["shop.db"]


def test_several_processes_may_begin_at_once():
    """Each finds the whole shop, and nothing of the building is left over."""
    code = "from examples.shop.agents import stock; print(stock('MA-LINEA-MICRA').total)"
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [process.communicate(timeout=30)[0].strip() for process in running] == ["6"] * 4
    path = Path(os.environ["SHOP_DATABASE"])
    assert [entry.name for entry in path.parent.iterdir()] == ["shop.db"]


def test_a_build_that_fails_leaves_nothing_behind(monkeypatch):
    """The next one can begin anew."""
    path = Path(os.environ["SHOP_DATABASE"])
    monkeypatch.setitem(store._LOAD, "stock", "INSERT INTO nowhere VALUES (1)")
    with pytest.raises(sqlite3.OperationalError):
        store.database()
    assert list(path.parent.iterdir()) == []


def test_readers_cannot_write():
    """Their connections are read-only."""
    with store.reading() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("UPDATE products SET price = 1")


def test_a_write_that_fails_changes_nothing():
    """The transaction is undone."""
    price = store.product("GR-NICHE-ZERO")["price"]

    def fail_halfway() -> None:
        with store.writing() as connection:
            connection.execute("UPDATE products SET price = 1")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail_halfway()
    assert store.product("GR-NICHE-ZERO")["price"] == price


def test_readers_get_over_a_writer_that_was_killed_in_mid_commit(tmp_path, monkeypatch):
    """The file is half changed and its journal knows the old half, as a power cut or kill leaves them."""
    whole = store.database()
    price = store.product("GR-NICHE-ZERO")["price"]
    with closing(sqlite3.connect(whole, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE products SET price = 1, description = description || hex(zeroblob(2000))")
        for suffix in ("", "-journal"):
            shutil.copy(f"{whole}{suffix}", f"{tmp_path / 'killed.db'}{suffix}")
        writer.execute("ROLLBACK")
    assert (tmp_path / "killed.db-journal").stat().st_size > 0
    monkeypatch.setenv("SHOP_DATABASE", str(tmp_path / "killed.db"))
    assert store.product("GR-NICHE-ZERO")["price"] == price


@pytest.mark.parametrize("name", ["what?.db", "50%20.db", "a#b c.db"])
def test_the_path_may_hold_what_means_something_in_an_address(tmp_path, monkeypatch, name):
    """SQLite is given the path as a URI."""
    monkeypatch.setenv("SHOP_DATABASE", str(tmp_path / name))
    assert shop.stock("MA-LINEA-MICRA").total == 6
    assert (tmp_path / name).exists()


def test_the_data_directory_is_used_when_no_file_is_named(tmp_path, monkeypatch):
    """Then the file's name tells the data it was built from."""
    monkeypatch.delenv("SHOP_DATABASE")
    monkeypatch.setenv("ORCHESTRATOR_DATA_DIR", str(tmp_path / "data"))
    assert store.database().parent == tmp_path / "data"
