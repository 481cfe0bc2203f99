"""The Postgres store keeps the contract, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract_suite import StoreContract, World
from postgres_server import Server, running

from persistence.postgres_store import PostgresStore


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


class TestContract(StoreContract):
    @pytest.fixture
    def world(self, server: Server) -> World:
        dsn = server.database()

        def take_over(_store: object) -> None:
            """Raise the epoch behind its back: the lock keeps a real second owner out."""
            server.run("UPDATE orchestrator_ownership SET epoch = epoch + 1", dsn)

        return World(lambda: PostgresStore(dsn), take_over, lasting=True)
