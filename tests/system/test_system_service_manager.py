"""What systemd is told by a real daemon: ready, reloading, alive from the root of the actor tree, stopping."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from daemon_process import node

BLOCKING = '''
"""A planner that breaks the program: from then on every actor that is to run holds its dispatcher's thread."""
import threading
from actors.base import Actor
from agents import agent


def plan(text, context):
    """Plan nothing."""
    Actor.run_batch = lambda self, limit: threading.Event().wait(60)
    return {"answer": "held"}


@agent
def nothing() -> str:
    """Be there."""
    return "x"
'''


class Listener:
    """Stands for systemd."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.heard: list[dict[str, str]] = []

    def next(self, field: str, timeout: float = 20.0) -> dict[str, str]:
        """Return the next message with this field."""
        deadline = time.monotonic() + timeout
        while True:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(4096).decode()
            message = dict(line.split("=", 1) for line in data.splitlines())
            self.heard.append(message)
            if field in message:
                return message

    def silent(self, field: str, seconds: float) -> bool:
        """Return whether no such message comes for so long."""
        try:
            self.next(field, seconds)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener(tmp_path):
    listener = Listener(tmp_path / "notify")
    yield listener
    listener.close()


def test_systemd_hears_when_the_daemon_is_ready_alive_reloading_and_stopping(make_daemon, listener, tmp_path):
    daemon = make_daemon(drain_timeout="60")
    daemon.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    daemon.start()
    ready = listener.next("READY")
    assert ready["MAINPID"] == str(daemon.pid)
    for _ in range(3):
        assert "requests unfinished" in listener.next("WATCHDOG")["STATUS"]
    daemon.signal(signal.SIGHUP)
    assert int(listener.next("RELOADING")["MONOTONIC_USEC"]) > 0
    assert listener.next("READY")["READY"] == "1"
    with daemon.client() as client:
        client.send("c", "go", plan={"nodes": [node("a", "held")]})
    daemon.signal(signal.SIGTERM)
    assert "draining" in listener.next("STOPPING")["STATUS"]
    while "draining" not in listener.next("WATCHDOG")["STATUS"]:
        continue  # one that was on its way already; else none comes in time: it is not alive while it drains
    daemon.let_go()
    assert daemon.wait() == 0


def test_a_daemon_whose_actors_no_longer_run_gives_no_sign_of_life(make_daemon, listener, tmp_path):
    """So systemd ends it. The thread that takes signals, and HTTP, would have gone on."""
    (tmp_path / "blocking_plan.py").write_text(BLOCKING)
    daemon = make_daemon(agents_from="blocking_plan", planner="blocking_plan:plan")
    daemon.environment |= {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "200000",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)]),
    }
    daemon.start()
    listener.next("WATCHDOG")
    with daemon.client() as client:
        client.send("c", "block")
        while not listener.silent("WATCHDOG", 1.0):
            continue
        assert client.is_alive(), "its HTTP door does not know"


def test_without_systemd_nobody_is_told_and_nothing_is_wrong(make_daemon):
    daemon = make_daemon()
    daemon.environment |= {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "nonsense"}
    daemon.start()
    assert daemon.stop() == 0
