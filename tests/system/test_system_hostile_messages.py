"""Random and mutated messages over every door of a real daemon: it answers each, keeps its doors open and its pace."""

from __future__ import annotations

import os
import statistics
import time

import httpx2
import pytest
from daemon_process import eventually
from hostile_messages import MAX_BYTES, Hostile
from redis_running import SERVER, redis_server, until

from cli.exit_codes import DONE

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(SERVER is None, reason="there is no redis-server here"),
]
MESSAGES = int(os.environ.get("ORCHESTRATOR_TEST_HOSTILE", "400"))
"""Over all doors together; 10000 for the long run."""
SEED = int(os.environ.get("ORCHESTRATOR_TEST_SEED", "20261121"))
TYPES = ("application/json", "application/msgpack", "text/plain", "application/json; charset=utf-16", "")
CHANNELS = ("orch:inject", "orch:inject:h1", "orch:inject:h2", "orch:inject:bad id\xff")


def asked(daemon) -> float:
    """Seconds that a good message takes to its reply."""
    began = time.monotonic()
    with daemon.client() as client:
        reply = client.send("good", "hello", plan={"answer": "hello"}, wait=10)
    assert reply["text"] == "hello"
    return time.monotonic() - began


def test_hostile_messages_over_every_door_are_answered_and_neither_break_nor_slow_the_daemon(
    make_daemon, record_property
):
    hostile = Hostile(SEED)
    with redis_server() as server, server.client() as redis:
        daemon = make_daemon(redis_url=server.url, max_message_bytes=str(MAX_BYTES), max_unfinished="100000").start()
        eventually(lambda: httpx2.get(daemon.url + "/readyz", trust_env=False).json()["checks"]["redis"]["ok"], "up")
        before = statistics.median(asked(daemon) for _ in range(9))
        sent = {"stream": 0, "pubsub": 0}
        statuses: set[int] = set()
        with httpx2.Client(base_url=daemon.url, trust_env=False, timeout=10) as http:
            for number in range(MESSAGES):
                body = hostile.next(addressed=number % 4 > 1)
                match number % 4:
                    case 0 | 1:
                        url = hostile.chance.choice(
                            ["h1/messages", "h2/messages?wait=0.01", "h3/cancel", "%00/messages"]
                        )
                        headers = {"Content-Type": hostile.chance.choice(TYPES)}
                        answer = http.post(f"/api/v1/conversations/{url}", content=body, headers=headers)
                        statuses.add(answer.status_code)
                        assert answer.status_code < 500, (SEED, number, body[:200], answer.text)
                        assert answer.status_code < 400 or answer.json()["code"]
                    case 2:
                        channel = hostile.chance.choice(CHANNELS)
                        sent["pubsub"] += redis.publish(channel, body)
                    case _:
                        redis.xadd("orch:inbox", {hostile.chance.choice(["message"] * 9 + ["m"]): body})
                        sent["stream"] += 1
                if number % 100 == 0:
                    assert asked(daemon) < 5
        assert statuses & {200, 202}, "nothing was taken: the good ones among them prove nothing"
        assert 400 in statuses

        def counted():
            status = httpx2.get(daemon.url + "/api/v1/status", trust_env=False).json()["redis"]
            inbox, pubsub = status["inbox"], status["pubsub"]
            assert not any(
                status[name]["reconnects"] or status[name]["restarts"] for name in ("inbox", "pubsub", "events")
            )
            return (
                inbox["accepted"] + inbox["refused"] >= sent["stream"]
                and pubsub["accepted"] + pubsub["refused"] >= sent["pubsub"] - 1
            )

        eventually(counted, "all are accepted or refused", 60)
        until(lambda: redis.xlen("orch:inbox") == 0, "settled", 30)
        after = statistics.median(asked(daemon) for _ in range(9))
        record_property("good message ms", (round(before * 1e3, 1), round(after * 1e3, 1)))
        assert after < before * 5 + 0.5
        log = daemon.log.read_text(encoding="utf-8")
        assert "Traceback" not in log
        assert '"actor_crashed"' not in log
        assert daemon.stop() == DONE
