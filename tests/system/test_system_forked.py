"""Agents that fork the daemon, as `multiprocessing` does: the copies do not stand in the next daemon's way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from daemon_process import ROOT, node

AGENTS = '''
"""Agents that fork the process they run in."""
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from agents import agent

POOLS = []


@agent
def kept() -> int:
    """Leave a pool behind, and say its process."""
    POOLS.append(ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")))
    return POOLS[-1].submit(os.getpid).result()


def linger(ready):
    ready.set()
    time.sleep(60)


@agent(timeout=15, retries=0)
def ended() -> int:
    """Send a process of its own SIGTERM, and say how it ended."""
    forks = multiprocessing.get_context("fork")
    ready = forks.Event()
    process = forks.Process(target=linger, args=[ready], daemon=True)
    process.start()
    ready.wait()
    process.terminate()
    process.join(5)
    code = process.exitcode
    process.kill()
    return code
'''


@pytest.fixture
def daemon(make_daemon, tmp_path):
    (tmp_path / "forking_agents.py").write_text(AGENTS)
    daemon = make_daemon(agents_from="forking_agents")
    daemon.environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent), str(tmp_path)])
    return daemon.start()


def ask(client, agent, conversation="c"):
    return client.send(conversation, "go", plan={"nodes": [node("a", agent)]}, wait=20)


def test_a_killed_daemon_is_followed_by_the_next_although_a_copy_of_it_lives(daemon):
    """The copy held the store's lock and the address, and a client of the killed daemon waited for ever."""
    with daemon.client() as client, socket.create_connection(("127.0.0.1", urlsplit(daemon.url).port or 0)) as waiting:
        waiting.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert waiting.recv(1000)
        copy = ask(client, "kept")["data"]["a"]
        try:
            daemon.kill()
            os.kill(copy, 0)  # it lives
            waiting.settimeout(10)
            while waiting.recv(1000):  # the rest of its answer, and then the end
                continue
            daemon.start()
            assert ask(client, "kept", "next")["status"] == "completed"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(copy, signal.SIGKILL)
    daemon.stop()


def test_a_process_of_an_agent_ends_by_sigterm(daemon):
    """It had the daemon's handler, which only notes it: whoever ended a pool waited for ever."""
    with daemon.client() as client:
        assert ask(client, "ended")["data"] == {"a": -signal.SIGTERM}
