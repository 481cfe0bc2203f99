"""A conversation that left memory is freed at once: the collector looks seldom, and at what is old hardly ever.

What was alive when it looked, as a conversation is that rests for minutes, it would find to be garbage only after
millions of others: a daemon would grow by gigabytes before.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter

import forgotten_agents
import pytest

from config import Settings
from daemon import Daemon
from messages.inbound import UserMessage
from serving import make_telemetry

DEADLINE = 20.0
MANY = 5
KINDS = ["quick", "slow", "blocking", "apart", "flaky", "flaky_blocking", "late", "late_blocking", "failing"]
OURS = ("actors.", "conversation.", "messages.", "supervisor", "workflow.", "persistence.", "agents.")


@pytest.fixture
def daemon(tmp_path):
    settings = Settings(
        data_dir=tmp_path,
        http_bind="off",
        log_level="ERROR",
        passivate_after=0.1,
        agents_from=[forgotten_agents.__name__],
        planner="forgotten_agents:plan",
        synthesizer="forgotten_agents:write",
    )
    telemetry = make_telemetry(settings)
    daemon = Daemon(settings, telemetry)
    daemon.start()
    yield daemon
    daemon.stop()
    telemetry.close(1.0)


def talk(daemon, text, prefix):
    """Have a reply in each of some conversations, and wait until all have left memory."""
    replied = threading.Semaphore(0)
    unsubscribe = daemon.feed.subscribe(
        None, lambda event: replied.release() if event.type == "reply.sent" else None, quick=True
    )
    for number in range(MANY):
        daemon.router.submit(UserMessage(conversation_id=f"{prefix}-{number}", text=text), lambda _answer: None)
    for _ in range(MANY):
        assert replied.acquire(timeout=DEADLINE)
    unsubscribe()
    deadline = time.monotonic() + DEADLINE
    pause = threading.Event()
    while daemon.router.live() or daemon.execution.stats()["abandoned"]:
        assert time.monotonic() < deadline, "they did not leave"
        pause.wait(0.01)


@pytest.mark.parametrize("agent", KINDS)
def test_nothing_of_it_waits_for_the_collector(daemon, agent):
    talk(daemon, agent, "first")  # what is made once, and what imports leave behind
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        talk(daemon, agent, "then")
        gc.collect()
        left = Counter(kind.__qualname__ for kind in map(type, gc.garbage) if kind.__module__.startswith(OURS))
        assert not left
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
