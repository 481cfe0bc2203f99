"""The daemon is killed in the middle of work, by SIGKILL, and started again."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from daemon_process import diamond, eventually, node
from ledger_agents import read_ledger

from cli.exit_codes import DONE, TRY_AGAIN
from gateway.client import Problem

CONVERSATIONS = 50
pytestmark = pytest.mark.timeout(120)


def _replies(client, conversation_id):
    return [event for event in client.events(conversation_id) if event["type"] == "reply.sent"]


def _finished_in_journal(client, conversation_id):
    events = list(client.events(conversation_id))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    return events


def test_fifty_conversations_survive_kill_9_with_one_reply_each_and_no_finished_node_run_again(make_daemon):
    """Every accepted message gets exactly one reply; what was recorded as finished is not done again."""
    daemon = make_daemon(threads="16").start()
    ids = [f"c{number}" for number in range(CONVERSATIONS)]
    with daemon.client() as client, ThreadPoolExecutor(10) as pool:
        plan = diamond(seconds=0.15)
        plan["nodes"][3]["agent"] = "held"  # so that none is done before the kill, however late that comes
        accepted = list(pool.map(lambda cid: client.send(cid, "go", message_id="m1", plan=plan), ids))
        assert all(answer["status"] == "accepted" for answer in accepted)
        eventually(lambda: len(_recorded(daemon.directory / "orchestrator.db")) >= 20, "some finished work")
    daemon.kill()
    finished = _recorded(daemon.directory / "orchestrator.db")
    before = len(read_ledger(daemon.ledger))
    assert 20 <= len(finished) <= 3 * CONVERSATIONS
    daemon.let_go()
    daemon.start()
    with daemon.client() as client:
        eventually(lambda: all(_replies(client, cid) for cid in ids), "a reply for everybody", 60)
        for cid in ids:
            events = _finished_in_journal(client, cid)
            kinds = Counter(event["type"] for event in events)
            assert kinds["message.accepted"] == kinds["reply.sent"] == 1
            (reply,) = _replies(client, cid)
            assert reply["status"] == "completed"
            assert set(reply["data"]) == set("abcd")
    again = [line for line in read_ledger(daemon.ledger)[before:] if line[0] == "start"]
    assert not {(line[1], line[3]) for line in again} & finished
    assert daemon.stop() == DONE


def _recorded(path):
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return set(connection.execute("SELECT conversation_id, node_id FROM orchestrator_agent_results"))
    finally:
        connection.close()


def test_ten_kills_in_a_row_still_lead_to_one_reply(make_daemon):
    """Recovery itself may be cut short, again and again; the daemon's deaths use up none of a node's retries."""
    daemon = make_daemon(quarantine_after="50").start()
    with daemon.client() as client:
        client.send("c", "go", plan=diamond("wait", 0.3))
    for _ in range(10):
        daemon.kill()
        daemon.start()
    with daemon.client() as client:
        (reply,) = eventually(lambda: _replies(client, "c"), "the reply")
        assert reply["status"] == "completed"
        assert all(event["type"] != "node.failed" for event in client.events("c"))


def test_a_conversation_that_ends_the_daemon_again_and_again_is_quarantined(make_daemon):
    """After so many recoveries without progress it is set aside, and `resume` releases it."""
    daemon = make_daemon(quarantine_after="2").start()
    with daemon.client() as client:
        hanging = [{**node(name, "hang"), "timeout": 60} for name in "abc"]
        client.send("bad", "go", plan={"nodes": hanging})
        client.send("good", "go", plan=diamond("wait", 0.01), wait=10)
        eventually(lambda: len(read_ledger(daemon.ledger)) >= 3, "the agents hang")
    for _ in range(4):
        daemon.kill()
        daemon.start()
    with daemon.client() as client:
        eventually(lambda: client.conversation("bad")["phase"] == "paused", "the quarantine")
        kinds = [event["type"] for event in client.events("bad")]
        assert "conversation.quarantined" in kinds
        # As many as the setting says: the start that sets it aside has not taken it up, and has not died of it.
        assert "ended 2 times in a row after it had taken this" in client.conversation("bad")["quarantined"]
        client.control("resume", "bad")
        eventually(lambda: client.conversation("bad")["phase"] != "paused", "the release")


def test_conversations_beside_one_that_ends_the_daemon_again_and_again_are_not_set_aside_with_it(make_daemon):
    """All of them were taken up whenever it died; they are tried, some at a time, until it is clear who did it."""
    daemon = make_daemon(quarantine_after="1").start()
    with daemon.client() as client:
        for name in ("long-1", "long-2"):
            client.send(name, "go", plan={"nodes": [node("a", "held")]})
        client.send("deadly", "go", plan={"nodes": [node("a", "fatal")]})
    for _ in range(3):
        assert daemon.wait() == 9
        daemon.start()
    with daemon.client() as client:
        eventually(lambda: client.conversation("deadly")["phase"] == "paused", "the quarantine")
        assert [client.conversation(name)["held_back"] for name in ("long-1", "long-2")] == [False, True]
        assert client.status()["conversations_held_back"] == 1
        daemon.let_go()
        for name in ("long-1", "long-2"):
            (reply,) = eventually(lambda name=name: _replies(client, name), f"the reply to {name}")
            assert reply["status"] == "completed"
            assert "conversation.quarantined" not in [event["type"] for event in client.events(name)]
        assert client.status()["conversations_held_back"] == 0


def test_a_client_that_repeats_its_message_does_not_take_up_what_is_held_back(make_daemon):
    """It repeats it because the daemon died; taken up beside those on trial, these would be blamed for its deaths."""
    daemon = make_daemon(quarantine_after="1").start()
    deadly = {"nodes": [node("a", "fatal")]}
    with daemon.client() as client:
        client.send("a-long", "go", plan={"nodes": [node("a", "held")]})
        client.send("deadly", "go", message_id="m", plan=deadly)
    for _ in range(2):
        assert daemon.wait() == 9
        daemon.start()
    with daemon.client() as client:
        with pytest.raises(Problem, match="held back"):
            client.send("deadly", "go", message_id="m", plan=deadly)
        daemon.let_go()
        (reply,) = eventually(lambda: _replies(client, "a-long"), "the reply")
        assert reply["status"] == "completed"
    assert daemon.wait() == 9, "its turn came"
    daemon.start()
    with daemon.client() as client:
        eventually(lambda: client.conversation("deadly")["phase"] == "paused", "the quarantine")
        assert "conversation.quarantined" not in [event["type"] for event in client.events("a-long")]


def test_what_is_held_back_can_be_cancelled_before_it_ends_the_daemon_once_more(make_daemon):
    """Whoever knows who did it need not wait for the trial."""
    daemon = make_daemon(quarantine_after="1").start()
    with daemon.client() as client:
        client.send("a-long", "go", plan={"nodes": [node("a", "held")]})
        client.send("deadly", "go", plan={"nodes": [node("a", "fatal")]})
    for _ in range(2):
        assert daemon.wait() == 9
        daemon.start()
    with daemon.client() as client:
        client.control("cancel", "deadly")
        eventually(lambda: client.conversation("deadly")["phase"] == "cancelled", "the cancellation")
        daemon.let_go()
        (reply,) = eventually(lambda: _replies(client, "a-long"), "the reply")
        assert reply["status"] == "completed"
        client.send("deadly", "again", plan=diamond("wait", 0.01), wait=10)
    assert daemon.stop() == DONE


def test_ends_in_good_order_during_a_trial_single_nobody_out(make_daemon):
    """Of those held back this start's recovery was taken back already."""
    daemon = make_daemon(quarantine_after="1", drain_timeout="0").start()
    names = ("long-1", "long-2")
    with daemon.client() as client:
        for name in names:
            client.send(name, "go", plan={"nodes": [node("a", "wait", seconds=20.0)]})
    daemon.kill()
    daemon.start()
    daemon.kill()
    for _ in range(3):
        daemon.start()
        assert daemon.stop() == DONE
    daemon.start()
    with daemon.client() as client:
        for name in names:
            assert "conversation.quarantined" not in [event["type"] for event in client.events(name)]


def test_the_same_message_id_again_after_a_crash_gives_the_first_result(make_daemon):
    """Idempotency outlives the daemon; another body under the same id is refused."""
    daemon = make_daemon().start()
    with daemon.client() as client:
        first = client.send("c", "go", message_id="m1", plan=diamond("wait", 0.01), wait=10)
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        again = client.send("c", "go", message_id="m1", plan=diamond("wait", 0.01), wait=10)
        assert again == first
        with pytest.raises(Exception, match="message_id_conflict"):
            client.send("c", "something else", message_id="m1")
    starts = [line for line in read_ledger(daemon.ledger) if line[0] == "start"]
    assert len(starts) == 4


def test_a_second_daemon_on_the_same_store_exits_75_and_can_take_over_from_a_dead_one(make_daemon):
    """One owner at a time; the kernel frees the store however its owner ends."""
    first = make_daemon().start()
    second = make_daemon()
    with pytest.raises(AssertionError, match="owned by another live daemon"):
        second.start()
    assert second.wait() == TRY_AGAIN
    first.kill()
    second.start()
    assert second.stop() == DONE


def test_sigterm_drains_and_leaves_the_rest_to_the_next_start(make_daemon):
    """Short work ends, long work is resumed; meanwhile new work is refused with 503 and Retry-After."""
    daemon = make_daemon(drain_timeout="4").start()
    with daemon.client() as client:
        client.send("short", "go", plan=diamond("wait", 0.2))
        client.send("long", "go", plan=diamond("held", 0.0))
        stopped: list[int] = []
        waiter = threading.Thread(target=lambda: stopped.append(daemon.stop()))
        waiter.start()
        with pytest.raises(Exception, match="draining"):
            eventually(lambda: client.send("late", "go", plan=diamond("wait", 0.01)) and False, "the refusal", 10)
        waiter.join(20)
    assert stopped == [DONE]
    daemon.let_go()
    daemon.start()
    with daemon.client() as client:
        assert _replies(client, "short")[0]["status"] == "completed"
        (reply,) = eventually(lambda: _replies(client, "long"), "the resumed work")
        assert reply["status"] == "completed"


def test_ends_in_good_order_say_nothing_against_what_still_runs(make_daemon):
    """A call of an hour, or a retry that is due tomorrow, outlives any number of deployments; deaths are counted on."""
    daemon = make_daemon(drain_timeout="0.1s", quarantine_after="2").start()

    def phase_after_the_next_start() -> str:
        daemon.start()
        with daemon.client() as client:
            eventually(lambda: any(e["type"] == "node.started" for e in client.events("long")), "the node")
            return str(client.conversation("long")["phase"])

    with daemon.client() as client:
        client.send("long", "go", plan={"nodes": [node("a", "wait", seconds=600.0)]})
    for _ in range(3):
        assert daemon.stop() == DONE
        assert phase_after_the_next_start() == "executing_single"
    daemon.kill()
    assert phase_after_the_next_start() == "executing_single"
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        eventually(lambda: client.conversation("long")["phase"] == "paused", "it is quarantined")


def test_a_conversation_that_cannot_be_taken_up_again_is_set_aside_until_a_person_resumes_it(make_daemon):
    """What sets it aside must not stand behind what fails; its node is taken up again when it is resumed."""
    daemon = make_daemon(agents_from="defective_recovery", quarantine_after="1").start()
    with daemon.client() as client:
        client.send("bad", "go", plan={"nodes": [node("a", "held")]})
        eventually(lambda: any(e["type"] == "node.started" for e in client.events("bad")), "the node")
    daemon.environment["DEFECT"] = "bad"
    for _ in range(2):
        daemon.kill()
        daemon.start()
        with daemon.client() as client:
            assert client.send("fine", "go", plan={"nodes": [node("a", "wait", seconds=0.01)]}, wait=10)
    with daemon.client() as client:
        eventually(lambda: client.conversation("bad")["quarantined"], "the quarantine")
        assert client.status()["quarantined"]["count"] == 1
        with pytest.raises(Problem):  # it meets the defect again, and is where it was
            client.control("resume", "bad")
        assert client.conversation("bad")["phase"] == "paused"
    del daemon.environment["DEFECT"]
    daemon.let_go()
    assert daemon.stop() == 0
    daemon.start()
    with daemon.client() as client:
        assert client.conversation("bad")["phase"] == "paused"
        client.control("resume", "bad")
        eventually(lambda: client.conversation("bad")["phase"] == "completed", "the reply")
        types = [e["type"] for e in client.events("bad") if e.get("node") == "a"]
        assert types.count("node.started") == 2
        assert "node.retrying" in types
