"""Every metric that is documented is there on a real daemon, and nothing else is; figures move with what happens."""

from __future__ import annotations

import re
import time

import httpx2
import pytest
from daemon_process import diamond, eventually, node
from redis_running import SERVER, redis_server

from telemetry.metrics import GAUGES, OWN, RULES, Spread


def read(daemon):
    text = httpx2.get(f"{daemon.url}/metrics", trust_env=False, timeout=10).text
    found = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"orchestrator_(\w+)(\{.*\})? (\S+)", line):
            found[match[1] + (match[2] or "")] = float(match[3])
    return found


@pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")
def test_every_documented_metric_is_reported_and_moves(make_daemon):
    with redis_server() as server:
        daemon = make_daemon(redis_url=server.url, base_retry_delay="10ms").start()
        with daemon.client() as client:
            assert client.send("c", "go", plan=diamond("wait", 0.01), wait=10)["status"] == "completed"
            client.send("f", "go", plan={"nodes": [node("a", "flaky"), node("b", "wrong")]}, wait=10)
        # The door to Redis opens by itself, and what is told of a step is counted a moment after its reply is sent.
        eventually(lambda: read(daemon).get("redis_up") == 1, "Redis is there")
        eventually(lambda: read(daemon).get('replies_total{status="partial"}') == 1, "the last reply is counted")
        eventually(lambda: any(name.startswith("conversations{") for name in read(daemon)), "the store answers in time")
        metrics = read(daemon)
        names = {name.partition("{")[0] for name in metrics}
        expected = set(GAUGES) - {"agent_threads_abandoned"} | {f"{name}_total" for name in OWN}
        assert expected <= names, expected - names
        known = {"journal_commits", *GAUGES, *(f"{name}_total" for name in OWN)}
        for rules in RULES.values():
            for rule in rules:
                ends = ("bucket", "count", "sum", "created") if isinstance(rule, Spread) else ("total", "created")
                known |= {f"{rule.name}_{end}" for end in ends}
        assert not {name for name in names - known if not name.startswith("process_")}
        assert metrics['agent_calls_total{agent="wait",outcome="success"}'] == 4
        assert metrics['agent_calls_total{agent="flaky",outcome="transient"}'] == 1
        assert metrics['conversations{phase="completed"}'] >= 1
        assert metrics['actors_live{kind="supervisor"}'] == 2
        assert metrics["store_up"] == metrics["redis_up"] == 1
        assert metrics["journal_commits"] > 3
        assert metrics["journal_commit_seconds"] > 0
        assert metrics["mailbox_messages"] >= 0
        assert metrics["draining"] == 0


@pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")
def test_figures_are_had_while_the_store_hangs(make_daemon):
    """They are wanted most just then: all but those that only the store knows, and in time for a scraper."""
    with redis_server() as server:
        daemon = make_daemon(redis_url=server.url, state_storage="redis").start()
        with daemon.client() as client:
            client.send("c", "go", plan=diamond("wait", 0.01), wait=10)
        eventually(lambda: any(name.startswith("conversations{") for name in read(daemon)), "the store answers in time")
        server.freeze()
        try:
            began = time.monotonic()
            figures = read(daemon)
            assert time.monotonic() - began < 5
        finally:
            server.thaw()
        assert "http_reads_waiting" in figures
        assert not any(name.startswith("conversations{") for name in figures)
