"""Supervision as its users see it: a real daemon, its log, its answers, and what is left when all has failed."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from daemon_process import eventually, node

FAILING = {"nodes": [node("n", "refused")]}


def lines(log: Path, *events: str) -> list[dict]:
    """What the daemon logged of these events, in order."""
    entries = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry["event"] in events]


def at(entry: dict) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp()


def test_the_gaps_between_attempts_are_the_backoff_and_the_class_of_the_error_decides_how_many(make_daemon):
    """With d = min(max, min * factor^k) each gap lies in [d, d (1 + random_factor)] and what scheduling adds."""
    settings = {"max_retries": "4", "base_retry_delay": "100ms", "max_retry_delay": "500ms", "random_factor": "0.5"}
    daemon = make_daemon(agents_from="failing_agents", log_level="INFO", breaker_failures="0", **settings).start()
    with daemon.client() as client:
        reply = client.send("c", "go", plan=FAILING, wait=20)
        assert reply["status"] == "failed"
        assert reply["missing"] == [{"node": "n", "reason": "ConnectionError: refused at attempt 5", "attempts": 5}]
        attempts = [(e["type"], e["at"]) for e in client.events("c") if e["type"] in ("node.retrying", "node.started")]
        told = client.send("v", "go", plan={"nodes": [node("n", "invalid")]}, wait=20)
        assert told["missing"] == [
            {"node": "n", "reason": "ValueError: no such thing, said at attempt 1", "attempts": 1}
        ]
    assert daemon.stop() == 0
    tried = [e for e in lines(daemon.log, "agent_call") if e["conversation_id"] == "c"]
    again = [e for e in lines(daemon.log, "actor_restarted") if e["conversation_id"] == "c"]
    assert (len(tried), len(again)) == (5, 4)
    assert all(not e["success"] and 0 <= e["duration_ms"] < 5_000 for e in tried)
    for k, (failed, restarted) in enumerate(zip(tried, again, strict=False)):
        d = min(0.5, 0.1 * 2**k)
        gap = at(restarted) - at(failed)
        assert gap <= d * 1.5 + 3.0, f"attempt {k + 2} came after {gap:.3f} s, d is {d}"
    # The log tells of a failure when it is recorded, which is a while after the wait for the next attempt has begun.
    assert [kind for kind, _ in attempts] == ["node.started", *["node.retrying", "node.started"] * 4]
    for k in range(4):
        decided, begun = (datetime.fromisoformat(when) for _, when in attempts[2 * k + 1 : 2 * k + 3])
        assert (begun - decided).total_seconds() >= min(0.5, 0.1 * 2**k), f"attempt {k + 2}"
    *waits, last = [e for e in lines(daemon.log, "error") if e.get("conversation_id") == "c"]
    assert [e["retry_count"] for e in waits] == [1, 2, 3, 4]
    assert {(e["error_type"], e["error_class"]) for e in (*waits, last)} == {("ConnectionError", "transient")}
    assert (last["attempt"], last["retry_count"], last["retry_delay"]) == (5, 4, None)
    assert all(min(0.5, 0.1 * 2**k) <= e["retry_delay"] <= min(0.5, 0.1 * 2**k) * 1.5 for k, e in enumerate(waits))
    (once,) = [e for e in lines(daemon.log, "error") if e.get("conversation_id") == "v"]
    assert (once["error_type"], once["error_class"], once["retry_delay"]) == ("ValueError", "permanent", None)


def test_one_dead_branch_of_four_leaves_three_results_and_says_which_is_missing(make_daemon):
    daemon = make_daemon(agents_from="failing_agents", base_retry_delay="10ms", max_retries="2").start()
    plan = {"nodes": [*(node(name, "fine", value=name) for name in "abc"), node("d", "refused")]}
    with daemon.client() as client:
        reply = client.send("c", "go", plan=plan, wait=20)
        assert reply["status"] == "partial"
        assert reply["data"] == {name: {"value": name, "attempt": 1} for name in "abc"}
        assert reply["missing"] == [{"node": "d", "reason": "ConnectionError: refused at attempt 3", "attempts": 3}]
        assert "d" in reply["text"] or "refused" in reply["text"]
        begun = Counter(e["node"] for e in client.events("c") if e["type"] == "node.started")
        assert begun == {"a": 1, "b": 1, "c": 1, "d": 3}


def test_three_hundred_conversations_that_always_fail_harm_no_other_and_leave_nothing_behind(make_daemon):
    daemon = make_daemon(
        agents_from="failing_agents",
        base_retry_delay="100ms",
        max_retry_delay="400ms",
        max_retries="3",
        breaker_failures="0",
        passivate_after="500ms",
    ).start()
    with daemon.client() as client:
        client.send("warm", "go", plan={"nodes": [node("n", "fine")]}, wait=20)
        before = client.status()
        threads, memory = _threads(daemon.pid), _memory(daemon.pid)
    latencies: list[float] = []
    replies: dict[str, dict] = {}
    over = threading.Event()

    def fail(number: int) -> None:
        with daemon.client() as client:
            replies[f"f{number}"] = client.send(f"f{number}", "go", plan=FAILING, wait=30)

    def others() -> None:
        plan = {"nodes": [node("n", "fine")]}
        with daemon.client() as client:
            while not over.is_set() or len(latencies) < 50:
                began = time.monotonic()
                assert client.send("good", "go", plan=plan, wait=20)["status"] == "completed"
                latencies.append(time.monotonic() - began)

    with ThreadPoolExecutor(101) as pool:
        good = pool.submit(others)
        list(pool.map(fail, range(300)))
        over.set()
        good.result(60)
    assert Counter(reply["status"] for reply in replies.values()) == {"failed": 300}
    assert all("refused at attempt 4" in reply["missing"][0]["reason"] for reply in replies.values())
    # A second is promised for 2 cores of one's own; here the same two run a hundred clients and other tests as well.
    assert sorted(latencies)[int(len(latencies) * 0.99)] < 3.0
    with daemon.client() as client:
        eventually(lambda: client.status()["conversations_live"] == 0, "everybody gone")
        after = client.status()
        assert after["actors"] == before["actors"] | {"supervisor": 0} or after["actors"].get("supervisor", 0) == 0
        assert after["requests_unfinished"] == 0
        assert after["execution"]["abandoned"] == 0
        left = [row["path"] for row in client.actors()]
        assert not [path for path in left if path.startswith("/conversations/")]
        eventually(lambda: _threads(daemon.pid) <= threads + 45, "threads gone")  # the HTTP server's pool is kept
        assert not Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        assert _memory(daemon.pid) < memory + 60_000, "kilobytes"


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _memory(pid: int) -> int:
    """Kilobytes."""
    said = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(said["VmRSS"].split()[0])


def test_what_failed_is_said_in_why_and_nothing_stands_without_a_parent(make_daemon):
    """Retries, a replaced agent, and a daemon that was killed in between: one tree."""
    daemon = make_daemon(agents_from="failing_agents,ledger_agents", base_retry_delay="20ms", max_retries="1").start()
    plan = {"nodes": [node("n", "refused") | {"on_failure": "fallback:fine"}, node("w", "held")]}
    with daemon.client() as client:
        client.send("c", "go", plan=plan)
        eventually(lambda: any(e["type"] == "node.succeeded" for e in client.events("c")), "the fallback's result")
    daemon.kill()
    daemon.let_go()
    daemon.start()
    with daemon.client() as client:
        eventually(lambda: client.conversation("c")["phase"] == "completed", "the reply")
        why = client.why("c")
        events = {event["seq"]: event for event in client.events("c")}
    kinds: dict[str, list[str]] = defaultdict(list)

    def walk(branch: dict, above: str) -> None:
        kinds[branch["kind"]].append(above)
        for below in branch["children"]:
            walk(below, branch["kind"])

    (root,) = why["roots"]
    walk(root, "")
    assert kinds["message"] == [""]
    assert set(kinds["plan"]) == {"message"} == set(kinds["reply"])
    assert kinds["node"] == ["plan", "plan"]
    assert kinds["attempt"] == ["node"] * 5, "two that failed, the fallback, one cut off by the kill and its successor"
    assert kinds["failure"] == ["attempt", "attempt"]
    assert kinds["restart"] == ["failure"]
    assert kinds["result"] == ["attempt", "attempt"]
    for event in events.values():
        cause = event["cause"]
        assert cause is None or isinstance(cause, str) or cause in events, event
    started = [e for e in events.values() if e["type"] == "node.started"]
    assert [(e["node"], e["agent"]) for e in started].count(("n", "refused")) == 2
    assert ("n", "fine") in [(e["node"], e["agent"]) for e in started]
    assert any(e.get("recovered") for e in started if e["node"] == "w")
