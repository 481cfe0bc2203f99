"""A fake daemon behind a real HTTP door, and the command line in front of it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))  # the fake daemon is the same as the gateway's
from gateway_support import FakeRouter, FakeSettings

from cli import Commands, build_app
from gateway.server import HttpServer


class Called(list):
    """What the composition root was asked to do."""

    def note(self, name, result=0):
        def command(*args, **options):
            self.append((name, args, options))
            return result

        return command


@pytest.fixture
def called():
    return Called()


@pytest.fixture
def commands(called):
    return Commands(
        serve=called.note("serve"),
        demo=called.note("demo"),
        check=called.note("check", 1),
        migrate=called.note("migrate", 75),
        local_chat=called.note("local_chat"),
        chaos=called.note("chaos"),
        version="1.2.3",
    )


@pytest.fixture(scope="module")
def server():
    server = HttpServer(FakeRouter(), FakeSettings(), metrics=bytes, version="1", phases=("completed", "failed"))
    server.start()
    yield server
    server.stop(2.0)


@pytest.fixture
def router(server):
    server.app.state.door.router = router = FakeRouter()
    return router


@pytest.fixture
def orch(commands, server, router, monkeypatch, tmp_path):
    """Run one verb against the fake daemon; return the result."""
    for name in [n for n in os.environ if n.startswith("ORCHESTRATOR_") or n in ("REDIS_URL", "DATABASE_URL")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_URL", server.url)

    def run(*arguments, stdin=None):
        return CliRunner().invoke(build_app(commands), list(arguments), input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def dead_url():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"
