"""What the command line shows a person, and prints for programs."""

from __future__ import annotations

import io
import json
import re
import threading

from gateway_support import row
from rich.console import Console

from cli.rendering import conversation_view, status_view
from messages.events import MessageAccepted, NodeFailed, NodeRetrying, NodeStarted, PhaseChanged, PlanDrafted
from messages.failure import Failure
from messages.plan import NodeSpec


def test_lists_are_one_object_per_line(orch, router):
    router.rows = [row("c1", 1), row("c2", 2, "failed")]
    router.letters = [{"id": 1, "at": "t", "address": "/x", "kind": "k", "reason": "late"}]
    assert [json.loads(line)["conversation_id"] for line in orch("conversations", "--json").stdout.splitlines()] == [
        "c2",
        "c1",
    ]
    failed = orch("conversations", "--where", "phase=failed", "--limit", "5")
    assert "c2" in failed.stdout and "c1" not in failed.stdout
    assert json.loads(orch("deadletters", "--json").stdout)["reason"] == "late"
    assert "late" in orch("deadletters").stdout
    assert orch("conversations", "--where", "phase=' OR 1=1").exit_code == 2
    assert json.loads(orch("status", "--json").stdout)["phases"] == {"completed": 2}
    router.status = lambda: {"readiness": {"store": {"ok": True}, "journal": {"ok": False, "detail": "full"}}, "n": 1.5}
    assert orch("status").stdout.split() == ["n", "1.5", "readiness", "store=ok", "journal=FAILED", "(full)"]


def test_actors_are_shown_as_a_tree_without_control_codes(orch, router):
    cause = "ValueError: \x1b]0;gotcha\x07\x1b[31mred"
    idle = dict.fromkeys(("oldest_age", "current", "current_age", "last_cause")) | {"mailbox": 0, "restarts": 0}
    router.actor_rows = [
        {**idle, "path": "/conversations", "kind": "router", "state": "idle"},
        {
            **idle,
            "path": "/conversations/c1",
            "kind": "supervisor",
            "state": "running",
            "last_cause": cause,
            "restarts": 2,
        },
    ]
    result = orch("actors")
    assert "\n  /conversations/c1" in result.stdout and "supervisor" in result.stdout
    assert "\x1b" not in result.output and "\x07" not in result.output
    assert [json.loads(line)["path"] for line in orch("actors", "--json").stdout.splitlines()] == [
        "/conversations",
        "/conversations/c1",
    ]
    assert "\x1b" not in orch("actors", "--json").stdout


def node(name, status="pending", depends_on=(), **fields):
    base = {"id": name, "agent": f"{name}_agent", "depends_on": list(depends_on), "status": status, "attempts": 0}
    return {**base, "duration_ms": None, "error": None, "reason": None, "retry_at": None, **fields}


def test_show_draws_the_plan_with_states_attempts_reply_and_what_is_pending(orch, router):
    nodes = [
        node("find", "succeeded", attempts=2, duration_ms=12.3),
        node("stock", "running", ["find"], attempts=1),
        node("price", "backing_off", ["find"], attempts=1, reason="TimeoutError: slow", retry_at="soon"),
        node("join", "pending", ["stock", "price"]),
    ]
    reply = {
        "seq": 9,
        "status": "partial",
        "text": "in stock",
        "missing": [{"node": "price", "reason": "gone", "attempts": 4}],
    }
    request = {"text": "is it there?", "origin": "planner", "nodes": nodes, "reply": reply}
    router.conversation = lambda _: {
        "conversation_id": "c1",
        "phase": "executing_parallel",
        "seq": 9,
        "request": request,
    }
    shown = orch("show", "c1").stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "c1 executing_parallel seq 9" in lines and "message is it there?" in lines
    assert any("find succeeded find_agent 2 attempts 12 ms" in line for line in lines)
    assert any("join pending join_agent 0 attempts (also after stock)" in line for line in lines)
    assert any(line.startswith("pending stock runs; price is tried again at soon; join waits for") for line in lines)
    assert "in stock" in lines and any("missing price: gone (4 attempts)" in line for line in lines)
    assert shown.index("find") < shown.index("price ") < shown.index("join")
    assert json.loads(orch("show", "c1", "--json").stdout)["request"]["nodes"][0]["id"] == "find"
    router.conversation = lambda _: None
    assert orch("show", "c1").exit_code == 3


def test_show_says_how_to_go_on_where_only_a_person_does(orch, router):
    """Without the words of `resume` on the screen nobody finds out what a plan that awaits approval waits for."""
    request = {"text": "paint it", "origin": "planner", "nodes": [node("paint", "pending")], "reply": None}
    for phase, words in (("awaiting_approval", "agrees to it"), ("paused", "goes on"), ("executing_single", None)):
        answer = {"conversation_id": "c1", "phase": phase, "seq": 4, "request": request}
        router.conversation = lambda _, answer=answer: answer
        shown = " ".join(orch("show", "c1").stdout.split())
        assert ("orch resume c1" in shown and "orch cancel c1" in shown) is (words is not None), phase
        assert words is None or words in shown


def test_show_does_not_say_that_anything_of_a_quarantined_conversation_runs(orch, router):
    request = {"text": "go", "origin": "client", "nodes": [node("deadly", "running", attempts=6)], "reply": None}
    answer = {"conversation_id": "c1", "phase": "paused", "seq": 4, "quarantined": "it kills", "request": request}
    router.conversation = lambda _: answer
    shown = orch("show", "c1").stdout
    assert "it kills" in shown and "orch resume c1" in shown and "deadly runs" not in shown


def test_why_draws_the_tree_of_causes_with_times_delays_and_rules(orch, router):
    error = Failure(type="ConnectionError", error_class="transient", message="went \x1b[31maway")
    spec = NodeSpec(id="stock", agent="stock_agent", timeout=1.0, retries=3)
    late = NodeSpec(id="price", agent="price_agent", timeout=1.0, retries=3, depends_on=("stock",), need=1)
    told = {"request_id": "r1", "node": "stock", "agent": "stock_agent"}
    router.emit("c1", MessageAccepted, request_id="r1", message_id="m1", text="is it \x1b[2J there?")
    router.emit("c1", PlanDrafted, request_id="r1", cause=1, nodes=(spec, late))
    router.emit("c1", PhaseChanged, request_id="r1", cause=2, from_phase="planning", to_phase="executing_single")
    router.emit("c1", NodeStarted, cause=2, attempt=1, **told)
    router.emit("c1", NodeFailed, cause=4, attempt=1, error=error, **told)
    router.emit("c1", NodeRetrying, cause=5, attempt=2, delay=0.5, due=1, reason="backoff min(5, 0.5)", **told)
    shown = orch("why", "c1").stdout
    lines = [re.sub(r"\+[0-9.]+ s", "+T", " ".join(line.split())) for line in shown.splitlines()]
    assert "\x1b" not in shown
    assert lines[0].startswith('message "is it')
    assert [line.lstrip("│├└─ ").partition(" took")[0] for line in lines[1:]] == [
        "+T plan by the planner: 2 nodes",
        "node stock backing_off stock_agent",
        "+T attempt 1 failed",
        "+T failed: ConnectionError (transient): went \N{REPLACEMENT CHARACTER}[31maway",
        "+T restart after 0.5 s: backoff min(5, 0.5)",
        "node price pending price_agent needs stock",
    ]
    assert json.loads(orch("why", "c1", "--json").stdout)["roots"][0]["children"][0]["kind"] == "plan"
    assert orch("why", "c1", "--all").stdout == shown
    assert orch("why", "c1", "--request", "r1").stdout == shown
    assert orch("why", "c1", "--request", "r2").exit_code == 3


def test_a_plan_that_has_no_order_is_shown_all_the_same():
    request = {"nodes": [node("a", depends_on=["b"]), node("b", depends_on=["a"]), node("c", depends_on=["gone"])]}
    console = Console(width=100, file=io.StringIO())
    console.print(conversation_view({"conversation_id": "x", "phase": "p", "request": request}))
    assert all(f"{name}_agent" in console.file.getvalue() for name in "abc")


def test_figures_are_written_out():
    text = _plain(status_view({"store": {"bytes": 9289728.0, "commit_ms": 2.0874}}))
    assert "bytes=9289728" in text and "commit_ms=2.0874" in text


def test_one_attempt_is_one_attempt():
    missing = [{"node": "a", "reason": "gone", "attempts": 1}, {"node": "b", "reason": "gone", "attempts": 0}]
    reply = {"status": "failed", "text": "no", "missing": missing}
    text = _plain(conversation_view({"conversation_id": "c", "phase": "failed", "request": {"reply": reply}}))
    assert "a: gone (1 attempt)" in text and "b: gone (0 attempts)" in text


def _plain(renderable):
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()


def test_show_says_why_a_conversation_is_quarantined_and_what_cannot_be_read():
    console = Console(width=100, file=io.StringIO())
    broken = {"quarantined": "the reason", "unreadable": {"seq": 7, "reason": "the checksum"}, "request": None}
    console.print(conversation_view({"conversation_id": "x", "phase": "paused", **broken}))
    assert "the reason" in console.file.getvalue()
    assert "at 7: the checksum" in console.file.getvalue()
    assert "held back" not in console.file.getvalue()
    console.print(conversation_view({"conversation_id": "y", "phase": "planning", "held_back": True}))
    assert "held back  others are tried first" in console.file.getvalue()


def test_events_prints_the_journal_and_follows(orch, router, monkeypatch):
    for _ in range(3):
        router.tick("c1")
    assert [json.loads(line)["seq"] for line in orch("events", "c1", "--json").stdout.splitlines()] == [1, 2, 3]
    assert orch("events", "c1", "--after", "1", "--limit", "1").stdout.split()[0] == "2"
    assert orch("events", "nobody").exit_code == 3
    assert orch("events", "c1", "--follow", "--limit", "3").exit_code == 2

    def stop_after(line, count=[0]):  # noqa: B006  # counts over the calls
        count[0] += 1
        if count[0] == 5:
            raise KeyboardInterrupt
        heard.append(line)

    heard: list[str] = []
    monkeypatch.setattr("cli.looking.result", stop_after)
    timer = threading.Timer(0.1, lambda: [router.tick("c1"), router.tick("c1")])
    timer.start()
    assert orch("events", "c1", "--follow").exit_code == 130
    assert [line.split()[0] for line in heard] == ["1", "2", "3", "4"]
