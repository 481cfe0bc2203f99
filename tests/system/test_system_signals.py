"""Signals of a real daemon: a second one ends the wait, a dump says what runs, a bad file changes nothing."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import httpx2
import pytest
from daemon_process import eventually, node
from ledger_agents import read_ledger

from cli.exit_codes import DONE
from gateway.client import DaemonClient

LONG = {"nodes": [node("a", "wait", seconds=30.0)]}


def test_while_it_drains_posts_are_refused_with_retry_after_and_a_second_signal_saves_at_once(make_daemon):
    daemon = make_daemon(drain_timeout="60").start()
    with daemon.client() as client:
        client.send("c", "go", plan=LONG)
        eventually(lambda: any(e["type"] == "node.started" for e in client.events("c")), "a start")
        daemon.signal(signal.SIGTERM)

        def refused() -> httpx2.Response | None:
            url = f"{daemon.url}/api/v1/conversations/late/messages"
            answer = httpx2.post(url, json={"text": "x"}, trust_env=False, timeout=10)
            return answer if answer.status_code == 503 else None

        answer = eventually(refused, "a refusal")
        assert answer.json()["code"] == "draining"
        assert int(answer.headers["retry-after"]) >= 1
        assert httpx2.get(f"{daemon.url}/readyz", trust_env=False).status_code == 503
        assert client.conversation("c")["unfinished"] is True, "what is stored can be looked at meanwhile"
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == DONE
        assert time.monotonic() - began < 10.0, "it did not wait for the minute it was given"
    daemon.start()
    with daemon.client() as client:
        assert client.conversation("c")["unfinished"] is True
        eventually(lambda: any(e.get("recovered") for e in client.events("c")), "it was taken up again")


def test_sigusr1_writes_the_actors_and_all_stacks_and_disturbs_nobody(make_daemon):
    daemon = make_daemon(log_level="INFO").start()
    with daemon.client() as client:
        client.send("c", "go", plan={"nodes": [node("a", "hang")]})
        path = "/conversations/c/agents/a"
        eventually(lambda: path in [row["path"] for row in client.actors()], "the agent's actor")
        eventually(lambda: [line[3] for line in read_ledger(daemon.ledger)] == ["a"], "its thread is in the agent")
        daemon.signal(signal.SIGUSR1)
        for where in ('"thread":"MainThread', '"stack":.* hang'):
            daemon.wait_for(f'"state_dump".*{where}')
        dumps = [json.loads(line) for line in daemon.log.read_text().splitlines() if '"state_dump"' in line]
        actors = [row["path"] for dump in dumps for row in dump.get("actors", ())]
        assert {"/", "/conversations", "/conversations/c", path} <= set(actors)
        stacks = [(dump["thread"], " ".join(dump["stack"])) for dump in dumps if "thread" in dump]
        assert [thread for thread, _ in stacks].count("MainThread") == 1
        assert any("agents-blocking" in thread and " hang" in stack for thread, stack in stacks), "where the agent is"
        assert client.send("d", "go", plan={"nodes": [node("a", "wait")]}, wait=10)["status"] == "completed"


def test_a_reload_with_a_bad_file_keeps_the_old_settings_and_names_what_is_wrong(make_daemon):
    daemon = make_daemon(log_level="INFO")
    file = daemon.directory / "orchestrator.toml"
    file.write_text("max_agent_calls = 5\n")
    daemon.start()
    with daemon.client() as client:
        file.write_text('max_agent_cals = 7\nretry_base = "fast"\n')
        daemon.signal(signal.SIGHUP)
        told = daemon.wait_for("config_rejected").string
        assert "max_agent_cals" in told
        assert "max_agent_calls" in told, "the closest name that exists"
        assert "retry_base" in told
        assert client.send("c", "go", plan={"nodes": [node("a", "wait")]}, wait=10)["status"] == "completed"
        file.write_text('max_agent_calls = 1\nhttp_bind = "127.0.0.1:1"\n')
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("config_reloaded")
        two = {"nodes": [node("a", "wait"), node("b", "wait")]}
        refused = httpx2.post(
            f"{daemon.url}/api/v1/conversations/c/messages", json={"text": "x", "plan": two}, trust_env=False
        )
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_plan")


def test_a_reload_changes_how_large_a_result_may_be(make_daemon):
    daemon = make_daemon(log_level="INFO")
    file = daemon.directory / "orchestrator.toml"
    file.write_text("")
    daemon.start()
    with daemon.client() as client:
        assert client.send("c", "go", plan={"nodes": [node("a", "wait")]}, wait=10)["status"] == "completed"
        file.write_text("max_result_bytes = 1\n")
        daemon.signal(signal.SIGHUP)
        assert '"max_result_bytes"' in daemon.wait_for("config_reloaded").string
        assert client.send("c", "go", plan={"nodes": [node("a", "wait")]}, wait=10)["status"] == "failed"
        (failed,) = [event for event in client.events("c") if event["type"] == "node.failed"]
        assert failed["error"]["type"] == "result_too_large"
        (shown,) = httpx2.get(f"{daemon.url}/api/v1/conversations/c/plan", trust_env=False).json()["nodes"]
        assert (shown["error"]["type"], shown["error"]["class"]) == ("result_too_large", "permanent")


@pytest.mark.parametrize(
    ("harm", "named"), [(Path.unlink, "is not there any more"), (lambda file: file.write_text(""), "api_token")]
)
def test_a_reload_while_the_file_is_being_replaced_does_not_open_the_door_to_everybody(make_daemon, harm, named):
    """Many tools remove or empty a file before they write it anew; all settings would go back to their defaults."""
    daemon = make_daemon(log_level="INFO")
    file = daemon.directory / "orchestrator.toml"
    file.write_text('api_token = "first-token-of-at-least-32-characters"\n')
    daemon.start()
    harm(file)
    daemon.signal(signal.SIGHUP)
    assert named in daemon.wait_for("config_rejected").string
    assert httpx2.get(f"{daemon.url}/api/v1/status", trust_env=False).status_code == 401
    file.write_text('api_token = "second-token-of-at-least-32-characters"\n')
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("config_reloaded")
    with DaemonClient(daemon.url, "second-token-of-at-least-32-characters") as client:
        assert client.readiness()["status"] == "ready"


def test_signals_in_a_row_while_it_works_lose_nothing(make_daemon):
    daemon = make_daemon().start()
    over = threading.Event()

    def pester() -> None:
        while not over.wait(0.02):
            daemon.signal(signal.SIGHUP)
            daemon.signal(signal.SIGUSR1)

    thread = threading.Thread(target=pester)
    thread.start()
    try:
        with daemon.client() as client:
            for number in range(20):
                reply = client.send(f"c{number}", "go", plan={"nodes": [node("a", "wait", seconds=0.02)]}, wait=20)
                assert reply["status"] == "completed"
    finally:
        over.set()
        thread.join()
    assert daemon.stop() == DONE
