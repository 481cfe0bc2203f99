"""One daemon at work: parallel branches, agents that misbehave in every way, and neighbours that are not disturbed."""

from __future__ import annotations

import pytest
from daemon_process import eventually, node
from ledger_agents import read_ledger


def test_a_node_starts_when_its_own_inputs_are_there(daemon):
    """Beside a branch that does not end, the successor of a 0.1 s node starts."""
    plan = {
        "nodes": [
            node("slow", "held"),
            node("quick", "wait", seconds=0.1),
            node("next", "wait", ["quick"]),
        ]
    }
    with daemon.client() as client:
        client.send("c", "go", plan=plan)
        eventually(lambda: ("end", "next") in times(daemon), "the successor has run")
        assert ("end", "slow") not in times(daemon)
        daemon.let_go()
        (reply,) = eventually(lambda: [e for e in client.events("c") if e["type"] == "reply.sent"], "the reply")
    assert reply["status"] == "completed"
    began = times(daemon)
    assert began["start", "next"] - began["start", "quick"] < 3.0, "it takes 0.1 s and a few milliseconds"


def times(daemon):
    return {(line[0], line[3]): float(line[5]) for line in read_ledger(daemon.ledger)}


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        ("hang", "timeout"),
        ("leave", "SystemExit: 3"),
        ("interrupted", "KeyboardInterrupt"),
        ("killed", "killed by SIGKILL"),
        ("huge", "result_too_large"),
        ("wrong", "contract_violation"),
    ],
)
def test_an_agent_that_misbehaves_is_reported_and_disturbs_nobody(daemon, agent, reason):
    """Blocking, leaving, dying, flooding, lying: each is one missing branch with its reason, within two seconds."""
    bad = {**node("bad", agent), "timeout": 1.0 if reason == "timeout" else 20.0}
    with daemon.client() as client:
        reply = client.send("c", "go", plan={"nodes": [bad, node("good", "wait")]}, wait=10)
        assert reply["status"] == "partial"
        assert reply["data"]["good"]["node"] == "good"
        (missing,) = reply["missing"]
        assert reason in missing["reason"]
        assert missing["attempts"] == 1
        failed = next(e for e in client.events("c") if e["type"] == "node.failed")
        started = next(e for e in client.events("c") if e["type"] == "node.started" and e["node"] == "bad")
        assert failed["cause"] == started["seq"]
        other = client.send("neighbour", "go", plan={"nodes": [node("x", "wait", seconds=0.01)]}, wait=10)
        assert other["status"] == "completed"
        assert client.is_alive()


def test_a_crashing_agent_comes_back_after_its_delay(daemon):
    """The restart is an event with its delay and the rule that set it."""
    with daemon.client() as client:
        reply = client.send("c", "go", plan={"nodes": [node("f", "flaky")]}, wait=10)
        events = {event["type"]: event for event in client.events("c")}
    assert reply["status"] == "completed"
    retrying = events["node.retrying"]
    assert 0.1 <= retrying["delay"] <= 0.12
    assert "retry 1 of 2" in retrying["reason"]
    attempts = [float(line[5]) for line in read_ledger(daemon.ledger)]
    assert attempts[1] - attempts[0] >= 0.1


def test_an_agent_that_is_killed_in_the_tree_is_restarted(daemon):
    """An operator may restart any actor by its path; supervision does the rest."""
    with daemon.client() as client:
        client.send("c", "go", plan={"nodes": [{**node("w", "held"), "retries": 3}]})
        path = "/conversations/c/agents/w"
        eventually(lambda: any(row["path"] == path for row in client.actors()), "the agent at work")
        client.restart(path)
        eventually(lambda: len(read_ledger(daemon.ledger)) == 2, "it began again")
        daemon.let_go()
        reply = eventually(
            lambda: [e for e in client.events("c") if e["type"] == "reply.sent"], "the reply after the restart"
        )
    assert reply[0]["status"] == "completed"


def test_a_supervisor_that_is_killed_goes_on_from_the_journal(daemon):
    """Its children end with it; what was finished stays finished, what was cut off runs again."""
    plan = {"nodes": [node("a", "wait", seconds=0.01), node("b", "held", ["a"])]}
    with daemon.client() as client:
        client.send("c", "go", plan=plan)
        eventually(lambda: any(line[3] == "b" for line in read_ledger(daemon.ledger)), "the second node")
        client.restart("/conversations/c")
        daemon.let_go()
        reply = eventually(lambda: [e for e in client.events("c") if e["type"] == "reply.sent"], "the reply")
        kinds = [(e["node"], e["attempt"]) for e in client.events("c") if e["type"] == "node.started"]
    assert reply[0]["status"] == "completed"
    assert kinds == [("a", 1), ("b", 1), ("b", 2)]


def test_an_idle_conversation_is_passivated_and_woken_by_the_next_message(make_daemon):
    """Only rows are left of it; the next message finds its memory and its numbering."""
    daemon = make_daemon(passivate_after="200ms").start()
    with daemon.client() as client:
        client.send("c", "one", plan={"nodes": [node("a", "wait", seconds=0.01)]}, wait=10)
        eventually(lambda: client.status()["conversations_live"] == 0, "passivation")
        before = list(client.events("c"))
        client.send("c", "two", plan={"nodes": [node("a", "wait", seconds=0.01)]}, wait=10)
        after = list(client.events("c"))
        said = [m["text"] for m in client.messages("c") if m["role"] == "user"]
    assert after[: len(before)] == before
    assert [event["seq"] for event in after] == list(range(1, len(after) + 1))
    assert said == ["one", "two"]


def test_cancel_answers_with_what_is_finished_and_leaves_the_conversation_usable(daemon):
    """Also while an agent blocks its thread."""
    plan = {"nodes": [node("a", "wait", seconds=0.01), {**node("h", "hang", seconds=5), "timeout": 20}]}
    with daemon.client() as client:
        client.send("c", "go", plan=plan)
        eventually(lambda: any(e["type"] == "node.succeeded" for e in client.events("c")), "the first result")
        client.control("cancel", "c")
        (reply,) = [e for e in client.events("c") if e["type"] == "reply.sent"]
        assert reply["status"] == "cancelled"
        assert set(reply["data"]) == {"a"}
        again = client.send("c", "again", plan={"nodes": [node("a", "wait", seconds=0.01)]}, wait=10)
        assert again["status"] == "completed"
