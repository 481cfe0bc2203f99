"""SIGHUP on a real daemon: new code serves new messages, what runs ends with the old, a broken file changes nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from daemon_process import ROOT, eventually, node

AGENTS = '''
"""Agents that a test changes while they are in use."""
import asyncio
import os
from agents import agent

VERSION = "{version}"


@agent
async def slow(seconds: float) -> str:
    """Take a while."""
    await asyncio.sleep(seconds)
    return VERSION


@agent
async def quick() -> str:
    """Say which one it is."""
    return VERSION


@agent(isolation="process")
def apart() -> str:
    """Say which one it is, from a process of its own."""
    return VERSION
'''

ANSWER = '''

def answer(text, context):
    """Plan nothing, answer at once."""
    return {{"answer": "{version} says " + text}}
'''


def plan(*nodes):
    return {"nodes": list(nodes)}


def write(directory: Path, version: str, extra: str = "") -> None:
    (directory / "changing_agents.py").write_text(
        AGENTS.format(version=version) + ANSWER.format(version=version) + extra
    )


@pytest.fixture
def daemon(make_daemon, tmp_path, monkeypatch):
    write(tmp_path, "one")
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), str(tmp_path)])
    daemon = make_daemon(
        agents_from="changing_agents", planner="changing_agents:answer", log_level="INFO", trace_all="false"
    )
    daemon.environment["PYTHONPATH"] = path
    return daemon.start()


def said(client, conversation, *nodes):
    reply = client.send(conversation, "go", plan=plan(*nodes), wait=20)
    return dict(reply["data"])


def test_new_messages_meet_new_agents_and_planner_and_what_runs_ends_with_the_old(daemon):
    with daemon.client() as client:
        assert said(client, "idle", node("a", "quick"), node("b", "apart")) == {"a": "one", "b": "one"}
        assert client.send("asked", "hello", wait=20)["text"] == "one says hello"
        client.send("busy", "go", plan=plan(node("a", "slow", seconds=2.0), node("b", "quick", after=["a"])))
        eventually(lambda: any(e["type"] == "node.started" for e in client.events("busy")), "a start")
        write(daemon.directory, "two, which is longer")
        daemon.signal(signal.SIGHUP)
        assert '"agents":3' in daemon.wait_for("config_reloaded").string
        new = {"a": "two, which is longer", "b": "two, which is longer"}
        assert said(client, "fresh", node("a", "quick"), node("b", "apart")) == new
        assert eventually(lambda: said(client, "idle", node("a", "quick"), node("b", "apart")) == new, "idle meets it")
        assert client.send("asked2", "hello", wait=20)["text"] == "two, which is longer says hello"
        reply = eventually(
            lambda: [e for e in client.events("busy") if e["type"] == "reply.sent"], "the reply of what ran"
        )[0]
        assert reply["data"] == {"a": "one", "b": "one"}
        assert eventually(lambda: said(client, "busy", node("a", "quick")) == {"a": new["a"]}, "then it meets it too")


def test_a_module_that_cannot_be_imported_is_refused_by_name_and_changes_nothing(daemon):
    with daemon.client() as client:
        assert said(client, "c", node("a", "quick")) == {"a": "one"}
        write(daemon.directory, "two", extra="\nraise RuntimeError('half written')\n")
        daemon.signal(signal.SIGHUP)
        told = daemon.wait_for("config_rejected").string
        assert "changing_agents" in told
        assert "half written" in told
        assert said(client, "c", node("a", "quick")) == {"a": "one"}
        assert said(client, "d", node("a", "quick"), node("b", "apart"))["a"] == "one"
        write(daemon.directory, "three and mended")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("config_reloaded")
        assert said(client, "e", node("a", "quick")) == {"a": "three and mended"}
    assert daemon.stop() == 0
