"""Events as a stream from a real daemon that is killed, to clients that break off wherever they like."""

from __future__ import annotations

import json
import os
import random
import threading
from typing import Any

import httpx2
import pytest
from daemon_process import eventually, node

pytestmark = pytest.mark.timeout(90)
SEED = int(os.environ.get("ORCHESTRATOR_TEST_SEED", "20261121"))
REQUESTS = 24
PLAN = {"nodes": [node("a", "wait", seconds=0.02)]}


class Follower(threading.Thread):
    """Reads a few events, breaks off, comes back with the last id it has seen; until it has seen enough replies."""

    def __init__(self, daemon: Any, conversation_id: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.seen: list[dict[str, Any]] = []
        self.reconnects = -1
        self.enough = threading.Event()
        self._url = f"{daemon.url}/api/v1/conversations/{conversation_id}/events"
        self._random = random.Random(seed)  # reproducible, not secret
        self._last = ""

    def run(self) -> None:
        while not self.enough.is_set():
            self.reconnects += 1
            try:
                self._read(self._random.randint(1, 25))
            except httpx2.HTTPError:
                self.enough.wait(0.05)

    def _read(self, most: int) -> None:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last} if self._last else {})
        with httpx2.stream("GET", self._url, headers=headers, trust_env=False, timeout=5) as answer:
            if answer.status_code != 200:
                self.enough.wait(0.05)
                return
            number = None
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    number = line[4:]
                elif line.startswith("data: ") and number is not None:
                    self.seen.append(json.loads(line[6:]))
                    self._last, number = number, None
                    most -= 1
                if most == 0 or self.enough.is_set():
                    return


def test_clients_that_break_off_anywhere_see_every_event_once_though_the_daemon_is_killed_twice(make_daemon):
    """The sequence is gap-free, without doubles, and the journal's, for each of several clients."""
    daemon = make_daemon(quarantine_after="50").start()
    with daemon.client() as client:
        client.send("c", "first", message_id="m0", plan=PLAN, wait=10)
    followers = [Follower(daemon, "c", SEED + number) for number in range(4)]
    for follower in followers:
        follower.start()
    try:
        for number in range(1, REQUESTS):
            with daemon.client() as client:
                client.send("c", f"number {number}", message_id=f"m{number}", plan=PLAN)
            if number in (REQUESTS // 3, 2 * REQUESTS // 3):
                daemon.kill()
                daemon.start()

        def answered() -> list[dict[str, Any]] | None:
            with daemon.client() as client:
                events = list(client.events("c"))
            replies = {event["message_id"] for event in events if event["type"] == "reply.sent"}
            return events if len(replies) == REQUESTS and events[-1]["type"] == "phase.changed" else None

        journal = eventually(answered, "all replies")
        for follower in followers:
            eventually(lambda follower=follower: len(follower.seen) >= len(journal), "all events were seen", 20)
    finally:
        for follower in followers:
            follower.enough.set()
    assert [event["seq"] for event in journal] == list(range(1, len(journal) + 1))
    for follower in followers:
        assert follower.reconnects >= 5, "it hardly broke off: nothing was proved"
        assert follower.seen == journal, f"seed {SEED}"
