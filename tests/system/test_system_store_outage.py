"""The server of a store is killed under load and comes back: nothing is lost, nothing is done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from daemon_process import DaemonProcess, diamond, eventually
from ledger_agents import read_ledger
from store_worlds import StoreWorld, store_world

from gateway.client import DaemonClient, Problem

TRY_AGAIN = 75


@pytest.fixture(params=["postgres", "redis"])
def world(request: pytest.FixtureRequest) -> Iterator[StoreWorld]:
    with store_world(request.param) as world:
        yield world


@pytest.fixture
def daemon(world: StoreWorld, tmp_path: Path) -> Iterator[DaemonProcess]:
    daemon = DaemonProcess(tmp_path, **world.settings)
    yield daemon
    daemon.close()


def test_messages_before_during_and_after_two_outages_are_answered_once(world: StoreWorld, daemon: Any) -> None:
    assert world.kill_server is not None
    assert world.start_server is not None
    daemon.start()
    accepted: list[str] = []
    with daemon.client() as client:
        for outage in range(2):
            accepted += [send(client, f"{outage}-{number}") for number in range(15)]
            world.kill_server()
            eventually(lambda: is_refused(daemon, "away"), "new work is refused")
            ready = client.readiness()
            assert ready["status"] != "ready"
            assert not ready["checks"]["store"]["ok"]
            assert client.is_alive()
            assert client.status()["store"]["available"] is False
            world.start_server()
            accepted.append(eventually(lambda n=outage: goes_on(client, f"back-{n}"), "it takes work again", 15))
        for conversation in accepted:
            eventually(lambda c=conversation: kinds(client, c)["reply.sent"] == 1, f"the reply of {conversation}")
            assert kinds(client, conversation)["node.succeeded"] == 4
            assert kinds(client, conversation)["message.accepted"] == 1
        assert eventually(lambda: client.readiness()["status"] == "ready", "it is ready")
    starts = Counter((line[1], line[3], line[4]) for line in read_ledger(daemon.ledger) if line[0] == "start")
    assert max(starts.values()) == 1, "no attempt was made twice"
    assert {node for _, node, attempt in starts if attempt != "1"} == set(), "the daemon lived: nothing runs again"
    assert daemon.stop() == 0


def test_a_daemon_whose_store_is_away_at_start_says_so_and_is_to_be_started_again(world: Any, daemon: Any) -> None:
    world.kill_server()
    with pytest.raises(AssertionError, match="the store cannot be used: "):
        daemon.start()
    assert daemon.wait() == TRY_AGAIN
    world.start_server()
    daemon.start()
    assert daemon.stop() == 0


def send(client: DaemonClient, conversation: str) -> str:
    client.send(conversation, "go", plan=diamond("wait", 0.1), message_id="m")
    return conversation


def is_refused(daemon: DaemonProcess, conversation: str) -> bool:
    url = f"{daemon.url}/api/v1/conversations/{conversation}/messages"
    message = {"text": "go", "plan": diamond("wait", 0.01)}
    try:
        answer = httpx2.post(url, json=message, trust_env=False, timeout=1.0)
    except httpx2.TimeoutException:  # it came before the outage was known: its commit is waited for
        return False
    return answer.status_code == 503 and answer.json()["code"] == "store_unavailable"


def goes_on(client: DaemonClient, conversation: str) -> str | None:
    try:
        return send(client, conversation)
    except Problem as problem:
        if problem.code != "store_unavailable":
            raise
        return None


def kinds(client: DaemonClient, conversation: str) -> Counter[str]:
    return Counter(event["type"] for event in client.events(conversation))
