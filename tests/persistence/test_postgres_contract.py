"""The Postgres store keeps the contract, on a real server."""

from __future__ import annotations

import pytest
from contract_suite import StoreContract, World
from postgres_server import Server

from persistence.postgres_store import PostgresStore


class TestContract(StoreContract):
    @pytest.fixture
    def world(self, server: Server) -> World:
        dsn = server.database()

        def take_over(_store: object) -> None:
            """Raise the epoch behind its back: the lock keeps a real second owner out."""
            server.run("UPDATE orchestrator_ownership SET epoch = epoch + 1", dsn)

        return World(lambda: PostgresStore(dsn), take_over, lasting=True)
