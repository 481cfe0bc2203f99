"""One Postgres for all tests of the Postgres store, a database for each, and stores that are closed after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from postgres_server import Server, running

from persistence import postgres_connection, postgres_ownership, postgres_reads, postgres_store
from persistence.postgres_store import PostgresStore

Make = Callable[..., PostgresStore]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def dsn(server: Server) -> str:
    return server.database()


@pytest.fixture
def make(dsn: str) -> Iterator[Make]:
    made: list[PostgresStore] = []

    def make(to: str | None = None, **options: Any) -> PostgresStore:
        made.append(PostgresStore(to or dsn, **options))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def opened(make: Make) -> Make:
    """Return how to get an open store, whose lease no test outlives."""

    def opened(to: str | None = None) -> PostgresStore:
        store = make(to, lease_ttl=60)
        store.open("test")
        return store

    return opened


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every limit be a fraction of a second."""
    monkeypatch.setattr(postgres_ownership, "_WRITE_TIMEOUT", 0.4)
    monkeypatch.setattr(postgres_reads, "_READ_TIMEOUT", 0.4)
    monkeypatch.setattr(postgres_connection, "_GRACE", 0.2)
    monkeypatch.setattr(postgres_store, "_LAST_WORDS", 0.2)
