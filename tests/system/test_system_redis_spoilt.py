"""A real daemon on a Redis whose keys were changed by hand: one conversation is set aside, all others go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from daemon_process import DaemonProcess, diamond, eventually, node
from redis_running import SERVER, redis_server

from gateway.client import DaemonClient, Problem

pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")

BASE = "{orch}:store"
WORKING = {"nodes": [node("a", "wait", seconds=0.01), node("b", "wait", seconds=60.0)]}
DONE = diamond("wait", 0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as running:
        yield running


@pytest.fixture
def daemon(server: Any, make_daemon: Any) -> DaemonProcess:
    server.client().flushall()
    settings = {"state_storage": "redis", "redis_url": server.url, "lease_ttl": "1s", "log_level": "WARNING"}
    made: DaemonProcess = make_daemon(**settings)
    return made


KEYS = ("state", "journal", "inbox", "memory", "said", "forgotten")


def _spoil(redis: Any, name: str, conversation_id: str) -> None:
    redis.delete(f"{BASE}:{name}:{conversation_id}")
    redis.set(f"{BASE}:{name}:{conversation_id}", "x")


def _refused(client: DaemonClient, conversation_id: str) -> str:
    with pytest.raises(Problem) as refused:
        client.send(conversation_id, "again", plan=DONE)
    assert (refused.value.status, refused.value.code) == (409, "unreadable")
    return str(refused.value)


def begun(client: DaemonClient, name: str) -> int:
    return sum(e["type"] == "node.started" and e["node"] == "b" for e in client.events(name))


def test_spoilt_keys_harm_their_conversations_alone(server: Any, daemon: DaemonProcess) -> None:
    """Each had a request under way, and the daemon is killed: the next one meets the keys when it takes that up."""
    daemon.start()
    names = [*KEYS, "last_seq", "recoveries", "good"]
    with daemon.client() as client:
        for name in names:
            client.send(name, "go", plan=WORKING)
        for name in names:
            eventually(lambda name=name: [e for e in client.events(name) if e["type"] == "node.succeeded"], "a result")
    daemon.kill()
    redis = server.client()
    for name in KEYS:
        _spoil(redis, name, name)
    redis.hdel(f"{BASE}:state:last_seq", "last_seq")
    redis.hset(f"{BASE}:state:recoveries", "recoveries", "noon")
    steps = redis.xlen(f"{BASE}:journal:last_seq")

    daemon.start()
    with daemon.client() as client:
        assert client.send("other", "go", plan=DONE, wait=10)["status"] == "completed"
        for name in ("recoveries", "good"):
            eventually(lambda name=name: begun(client, name) == 2, "it was taken up again")
        for name in (*KEYS, "last_seq"):
            assert "cannot be read" in _refused(client, name)
        assert sorted(row["conversation_id"] for row in client.conversations()) == sorted([*names, "other"])
        written = [name for name in KEYS if name not in ("state", "journal")]
        for name in written:
            assert "in place of a" in client.conversation(name)["quarantined"]
        eventually(lambda: client.status()["quarantined"]["count"] == len(written), "all of them")
        assert redis.xlen(f"{BASE}:journal:last_seq") == steps
        assert client.status()["store"]["available"]
        assert client.send("other", "once more", plan=DONE, wait=10)["status"] == "completed"
    daemon.wait_for("conversation_unreadable")
    assert "store_unavailable" not in daemon.log.read_text()


def test_keys_that_are_spoilt_under_working_conversations_stop_no_other(server: Any, daemon: DaemonProcess) -> None:
    daemon.start()
    redis = server.client()
    with daemon.client() as client:
        for name in ("state", "journal", "inbox", "memory"):
            client.send(name, "go", plan={"nodes": [node("a", "held")]})
            _spoil(redis, name, name)
        daemon.let_go()
        for turn in range(5):
            assert client.send("other", f"go {turn}", plan=DONE, wait=10)["status"] == "completed"
        for name in ("state", "journal", "inbox", "memory"):
            pattern = f'"conversation_unreadable".*"conversation_id": ?"{name}"|conversation_unreadable.*{name}'
            daemon.wait_for(pattern)
            _refused(client, name)
        assert client.send("other", "after", plan=DONE, wait=10)["status"] == "completed"
    assert "store_unavailable" not in daemon.log.read_text()
