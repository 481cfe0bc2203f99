"""The files of a daemon that works: a log beside its store that is taken away, and a folder that an agent leaves."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from daemon_process import ROOT, diamond, eventually, node

WANDERER = '''
import os
from agents import agent

@agent
def wander(to: str) -> str:
    """Go elsewhere, and stay there."""
    os.chdir(to)
    return os.getcwd()
'''


def answered(client: Any, conversation: str, plan: dict[str, Any]) -> str:
    client.send(conversation, "go", plan=plan, message_id="m")
    return str(eventually(lambda: reply_of(client, conversation), f"the reply of {conversation}")["status"])


def reply_of(client: Any, conversation: str) -> Any:
    replies = [event for event in client.events(conversation) if event["type"] == "reply.sent"]
    return replies[0] if replies else None


def test_nothing_is_lost_when_the_log_beside_the_store_is_deleted_and_the_daemon_killed(daemon, tmp_path):
    """It holds all that was committed since the last checkpoint, for as long as the process lives that has it open."""
    log = tmp_path / "orchestrator.db-wal"
    with daemon.client() as client:
        for number in range(3):
            assert answered(client, f"before-{number}", diamond()) == "completed"
        log.unlink()
        daemon.wait_for("orchestrator.db-wal is not the write-ahead log that was opened: it was moved, deleted")
        eventually(lambda: client.readiness()["status"] == "ready", "it takes writes again")
        for number in range(3):
            assert answered(client, f"after-{number}", diamond()) == "completed"
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        for when in ("before", "after"):
            for number in range(3):
                assert reply_of(client, f"{when}-{number}")["status"] == "completed"


def test_an_agent_that_changes_the_folder_of_the_process_harms_neither_the_store_nor_a_reload(make_daemon, tmp_path):
    """The folder is one for the whole process; store and configuration are usually named by relative paths."""
    (tmp_path / "wanderer.py").write_text(WANDERER)
    (tmp_path / "orchestrator.toml").write_text('queue_limit = 7\nagents_from = "ledger_agents,wanderer"\n')
    (tmp_path / "elsewhere").mkdir()
    daemon = make_daemon(data_dir="var", agents_from="", log_level="INFO")
    daemon.environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, Path(__file__).parent, tmp_path)))
    daemon.start()
    with daemon.client() as client:
        assert answered(client, "c1", {"nodes": [node("n", "wander", to=str(tmp_path / "elsewhere"))]}) == "completed"
        assert answered(client, "c2", diamond()) == "completed"
        (tmp_path / "orchestrator.toml").write_text('queue_limit = 8\nagents_from = "ledger_agents,wanderer"\n')
        daemon.signal(signal.SIGHUP)
        daemon.wait_for(r'config_reloaded.*"queue_limit"')
        assert answered(client, "c3", diamond()) == "completed"
    assert daemon.stop() == 0
    assert not any((tmp_path / "elsewhere").iterdir())
