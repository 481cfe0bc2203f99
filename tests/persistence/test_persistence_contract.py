"""Every store keeps the contract; another store joins with one line in `WORLDS`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract_suite import StoreContract, World

from persistence.memory_store import MemoryData, MemoryStore
from persistence.sqlite_store import SqliteStore


def in_memory(_folder: Path) -> World:
    data = MemoryData()

    def take_over(_store: Any) -> None:
        MemoryStore(data).open("somebody else")

    return World(lambda: MemoryStore(data), take_over, lasting=True)


def in_sqlite(folder: Path) -> World:
    path = folder / "orchestrator.db"

    def take_over(_store: Any) -> None:
        """Raise the epoch behind its back: the lock keeps a real second owner out."""
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("UPDATE orchestrator_ownership SET epoch = epoch + 1")
        connection.close()

    return World(lambda: SqliteStore(path), take_over, lasting=True)


WORLDS: dict[str, Callable[[Path], World]] = {"memory": in_memory, "sqlite": in_sqlite}


class TestContract(StoreContract):
    @pytest.fixture(params=WORLDS)
    def world(self, request: pytest.FixtureRequest, tmp_path: Path) -> World:
        return WORLDS[request.param](tmp_path)


def test_two_stores_on_the_same_data_are_two_owners():
    data = MemoryData()
    assert (MemoryStore(data).open("one"), MemoryStore(data).open("two")) == (1, 2)
