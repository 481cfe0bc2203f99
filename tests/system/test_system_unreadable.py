"""A real daemon on SQLite meets spoilt rows: it saves what can be saved, says what cannot, and serves all others."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from daemon_process import ROOT, diamond, eventually, node

from gateway.client import Problem


def _spoil(path: Path, conversation_id: str, *, cut: bool) -> bytes:
    """Flip a bit in the snapshot; `cut`: take the second step out of the journal. Return the good snapshot."""
    with closing(sqlite3.connect(path)) as store:
        read = "SELECT snapshot FROM orchestrator_workflow_states WHERE conversation_id = ?"
        (snapshot,) = store.execute(read, (conversation_id,)).fetchone()
        spoilt = bytearray(snapshot)
        spoilt[len(spoilt) // 2] ^= 0x10
        _put(store, conversation_id, bytes(spoilt))
        if cut:
            second = "SELECT max(last_seq) FROM orchestrator_journal WHERE conversation_id = ? AND first_seq <= 3"
            (seq,) = store.execute(second, (conversation_id,)).fetchone()
            away = "DELETE FROM orchestrator_journal WHERE conversation_id = ? AND last_seq = ?"
            store.execute(away, (conversation_id, seq))
        store.commit()
    return bytes(snapshot)


def _put(store: sqlite3.Connection, conversation_id: str, snapshot: bytes) -> None:
    put = "UPDATE orchestrator_workflow_states SET snapshot = ? WHERE conversation_id = ?"
    assert store.execute(put, (snapshot, conversation_id)).rowcount == 1


def check_store(directory: Path) -> tuple[int, dict[str, Any]]:
    """Run `check --store` on a daemon's data."""
    command = [sys.executable, str(ROOT / "run.py"), "check", "--store", "--json", "--data-dir", str(directory)]
    done = subprocess.run(command, cwd=directory, capture_output=True, check=False, timeout=30)
    return done.returncode, json.loads(done.stdout)


def test_every_conversation_can_be_checked_beside_the_daemon_that_owns_them(make_daemon):
    daemon = make_daemon().start()
    with daemon.client() as client:
        assert client.send("c", "go", plan=diamond("wait", 0.01), wait=10)["status"] == "completed"
    assert check_store(daemon.directory) == (0, {"store": "sqlite", "checked": 1, "unreadable": []})


def test_spoilt_rows_of_two_conversations_harm_no_other(make_daemon):
    """One is saved by its journal, one cannot be and is quarantined, until its row is repaired."""
    daemon = make_daemon(log_level="WARNING").start()
    names = ["saved", "lost", "third", "fourth"]
    with daemon.client() as client:
        for name in names:
            assert client.send(name, "go", plan=diamond("wait", 0.01), wait=10)["status"] == "completed"
    assert daemon.stop() == 0
    database = daemon.directory / "orchestrator.db"
    _spoil(database, "saved", cut=False)
    good = _spoil(database, "lost", cut=True)
    code, told = check_store(daemon.directory)
    assert (code, told["checked"]) == (1, 4)
    assert {row["conversation_id"]: row["journal"] for row in told["unreadable"]} == {"saved": True, "lost": False}

    daemon.start()
    with daemon.client() as client:
        for name in ("saved", "third", "fourth"):
            assert client.send(name, "again", plan=diamond("wait", 0.01), wait=10)["status"] == "completed"
        with pytest.raises(Problem, match="cannot be read") as refused:
            client.send("lost", "again")
        assert (refused.value.status, refused.value.code) == (409, "unreadable")
        shown = client.conversation("lost")
        assert (shown["phase"], shown["unfinished"]) == ("paused", False)
        assert "checksum" in shown["quarantined"]
        assert "missing" in shown["quarantined"]
        said = client.status()["quarantined"]
        expected = [{"conversation_id": "lost", "reason": shown["quarantined"]}]
        assert (said["count"], said["conversations"]) == (1, expected)
        assert "conversation.quarantined" in [event["type"] for event in client.events("lost")]
        assert len(list(client.messages("lost"))) == 2
        assert client.plan("lost")["phase"] == "paused"
        with pytest.raises(Problem, match="cannot be read"):
            client.control("resume", "lost")
        assert client.conversation("lost")["seq"] == shown["seq"]
    daemon.wait_for("snapshot_replaced")
    daemon.wait_for("conversation_unreadable")

    daemon.kill()
    with closing(sqlite3.connect(database)) as store:
        _put(store, "lost", good)
        store.commit()
    daemon.start()
    with daemon.client() as client:
        assert client.status()["quarantined"]["count"] == 1
        client.control("resume", "lost")
        answer = eventually(lambda: client.send("lost", "again", plan=diamond("wait", 0.01), wait=10), "an answer")
        assert answer["status"] == "completed"
        assert client.status()["quarantined"]["count"] == 0


def test_a_spoilt_step_is_a_problem_answer_that_names_it_and_never_a_500(make_daemon):
    """What lies before it can be read, and what lies behind it."""
    daemon = make_daemon().start()
    with daemon.client() as client:
        client.send("c", "go", plan=diamond("wait", 0.01), wait=10)
        with closing(sqlite3.connect(daemon.directory / "orchestrator.db", timeout=10)) as store:
            read = "SELECT first_seq, last_seq FROM orchestrator_journal WHERE conversation_id = 'c' ORDER BY 1"
            steps = store.execute(read).fetchall()
            first, last = steps[1]
            spoil = "UPDATE orchestrator_journal SET body = x'00' WHERE conversation_id = 'c' AND first_seq = ?"
            store.execute(spoil, (first,))
            store.commit()
        seen = []
        with pytest.raises(Problem) as told:
            seen.extend(event["seq"] for event in client.events("c"))
        assert (told.value.status, told.value.code, told.value.body["seq"]) == (409, "unreadable", first)
        assert "checksum" in told.value.body["reason"]
        assert seen == list(range(1, first))
        assert next(iter(client.events("c", after=last)))["seq"] == last + 1
        with pytest.raises(Problem) as told:
            client.plan("c")
        assert (told.value.status, told.value.body["seq"]) == (409, first)
        assert client.conversation("c")["unreadable"]["seq"] == first
        assert len(list(client.messages("c"))) == 2


NEWEST = "(SELECT max(last_seq) FROM orchestrator_journal WHERE conversation_id = :c)"
SPOILT = {
    "a result that is a number": (
        "UPDATE orchestrator_agent_results SET result = 7.5 WHERE conversation_id = :c",
        "the result of",
    ),
    "a result that is no JSON": (
        "UPDATE orchestrator_agent_results SET result = x'7b' WHERE conversation_id = :c",
        "the result of",
    ),
    "a text that is not UTF-8": (
        "UPDATE orchestrator_conversation_memory SET text = CAST(x'68ff' AS TEXT) WHERE conversation_id = :c",
        "UTF-8",
    ),
    "a text that is none": (
        "UPDATE orchestrator_conversation_memory SET text = x'00ff' WHERE conversation_id = :c",
        "is no text",
    ),
    "the end of a step that is none": (
        f"UPDATE orchestrator_journal SET last_seq = 'noon' WHERE conversation_id = :c AND last_seq = {NEWEST}",
        "ends at 'noon'",
    ),
    "a question that is gone": (
        "DELETE FROM orchestrator_conversation_memory WHERE conversation_id = :c",
        "what was asked",
    ),
    "a time that is none": (
        "UPDATE orchestrator_journal SET at = 'noon' WHERE conversation_id = :c",
        "not a step",
    ),
}


def test_whatever_is_spoilt_its_conversation_alone_is_set_aside_and_says_why(make_daemon):
    """Each had a request under way, and the daemon is killed: the next one meets the row when it takes that up."""
    spoilt = {f"spoilt-{number}": how for number, how in enumerate(SPOILT.values())}
    names = sorted([*spoilt, "whole"])
    daemon = make_daemon(log_level="WARNING").start()
    plan = {"nodes": [node("a", "wait", seconds=0.01), node("b", "wait", seconds=60.0)]}
    with daemon.client() as client:
        for name in names:
            client.send(name, "go", plan=plan)
        for name in names:
            eventually(lambda c=name: any(e["type"] == "node.succeeded" for e in client.events(c)), "a result")
    daemon.kill()
    with closing(sqlite3.connect(daemon.directory / "orchestrator.db")) as store:
        for name, (statement, _reason) in spoilt.items():
            assert store.execute(statement, {"c": name}).rowcount > 0
        store.commit()
    code, told = check_store(daemon.directory)
    assert code == 1
    found = {row["conversation_id"]: row["reason"] for row in told["unreadable"]}
    assert found.keys() == spoilt.keys()
    daemon.start()
    with daemon.client() as client:
        assert client.send("other", "go", plan=diamond("wait", 0.01), wait=10)["status"] == "completed"
        for name, (_statement, reason) in spoilt.items():
            assert reason in found[name]
            with pytest.raises(Problem, match="cannot be read") as refused:
                client.send(name, "again")
            assert (refused.value.status, refused.value.code) == (409, "unreadable")
            shown = client.conversation(name)
            assert reason in shown["quarantined"]
            with pytest.raises(Problem, match="cannot be read"):
                client.send(name, "once more")
            assert client.conversation(name)["seq"] == shown["seq"]
        assert client.status()["quarantined"]["count"] == len(spoilt)
        assert sorted(row["conversation_id"] for row in client.conversations()) == ["other", *names]
        assert client.conversation("whole")["unfinished"] is True, "it goes on"


def test_open_request_ids_that_are_spoilt_are_had_from_the_inbox(make_daemon):
    """The journal stands in for the snapshot, and nothing that was finished is run again."""
    daemon = make_daemon(log_level="WARNING").start()
    plan = {"nodes": [node("a", "wait", seconds=0.01), node("b", "held")]}
    with daemon.client() as client:
        client.send("c", "go", plan=plan)
        eventually(lambda: any(e["type"] == "node.succeeded" for e in client.events("c")), "a result")
    daemon.kill()
    daemon.let_go()
    with closing(sqlite3.connect(daemon.directory / "orchestrator.db")) as store:
        store.execute("UPDATE orchestrator_workflow_states SET open_request_ids = '[nonsense'")
        store.commit()
    daemon.start()
    with daemon.client() as client:
        eventually(lambda: client.conversation("c")["phase"] == "completed", "the reply")
        events = list(client.events("c"))
        assert [e["node"] for e in events if e["type"] == "node.started"] == ["a", "b", "b"]
        assert next(e for e in events if e["type"] == "reply.sent")["status"] == "completed"
    daemon.wait_for("snapshot_replaced")


def test_one_spoilt_row_does_not_hide_the_list_from_everybody(make_daemon):
    daemon = make_daemon().start()
    with daemon.client() as client:
        for name in ("a", "b"):
            client.send(name, "go", plan=diamond("wait", 0.01), wait=10)
        with closing(sqlite3.connect(daemon.directory / "orchestrator.db", timeout=10)) as store:
            spoil = "UPDATE orchestrator_workflow_states SET user_id = CAST(x'ff' AS TEXT) WHERE conversation_id = 'a'"
            store.execute(spoil)
            store.commit()
        assert {row["conversation_id"] for row in client.conversations()} == {"a", "b"}
        assert client.conversation("a")["phase"] == "completed"
        assert client.status()["quarantined"]["count"] == 0


@pytest.mark.parametrize("column", ["updated_at", "created_at", "last_seq"])
def test_a_number_without_bounds_is_shown_and_keeps_nobody_waiting(make_daemon, column):
    """A time that no calendar holds; a journal so long that looking for its beginning would never end."""
    daemon = make_daemon().start()
    with daemon.client() as client:
        for name in ("a", "b"):
            client.send(name, "go", plan=diamond("wait", 0.01), wait=10)
        with closing(sqlite3.connect(daemon.directory / "orchestrator.db", timeout=10)) as store:
            spoil = f"UPDATE orchestrator_workflow_states SET {column} = {2**62} WHERE conversation_id = 'a'"
            store.execute(spoil)
            store.commit()
        for _ in range(5):  # more than there are threads that read
            assert client.conversation("a")["phase"] == "completed"
        assert {row["conversation_id"] for row in client.conversations()} == {"a", "b"}
        assert client.conversation("b")["request"]["status"] == "completed"
    code, told = check_store(daemon.directory)
    assert told["checked"] == 2
    assert code == int(column == "last_seq")


def test_an_oldest_open_seq_that_is_spoilt_costs_nothing(make_daemon):
    """The journal stands in for the snapshot, and all that was said is read."""
    daemon = make_daemon(log_level="WARNING").start()
    with daemon.client() as client:
        client.send("c", "go", plan={"nodes": [node("a", "held")]})
        eventually(lambda: any(e["type"] == "node.started" for e in client.events("c")), "the node")
    daemon.kill()
    daemon.let_go()
    with closing(sqlite3.connect(daemon.directory / "orchestrator.db")) as store:
        store.execute("UPDATE orchestrator_workflow_states SET oldest_open_seq = 'noon'")
        store.commit()
    daemon.start()
    with daemon.client() as client:
        eventually(lambda: client.conversation("c")["phase"] == "completed", "the reply")
        assert [row["text"] for row in client.messages("c") if row["role"] == "user"] == ["go"]
    daemon.wait_for("snapshot_replaced")
