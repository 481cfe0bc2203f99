"""One real server for all tests of the door, with a fresh daemon behind it for each."""

from __future__ import annotations

import httpx2
import pytest
from gateway_support import FakeRouter, FakeSettings

from gateway.server import HttpServer

PHASES = ("planning", "completed", "failed")


@pytest.fixture(scope="session")
def shared_server():
    server = HttpServer(
        FakeRouter(),
        FakeSettings(),
        metrics=lambda: b"orchestrator_up 1\n",
        version="1.2.3",
        phases=PHASES,
        log=lambda event, /, **fields: server.app.state.told.append((event, fields)),
        heartbeat=0.2,
    )
    server.app.state.told = []
    server.start()
    yield server
    server.stop(2.0)


@pytest.fixture
def server(shared_server):
    shared_server.app.state.door.router = FakeRouter()
    shared_server.app.state.told.clear()
    shared_server.configure(FakeSettings())
    return shared_server


@pytest.fixture
def router(server):
    return server.app.state.door.router


@pytest.fixture
def told(server):
    """What was logged."""
    return server.app.state.told


@pytest.fixture
def http(server):
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=20) as client:
        yield client
