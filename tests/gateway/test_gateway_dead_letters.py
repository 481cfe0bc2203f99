"""Dead letters over HTTP, sent again or thrown away; and the line that every change by hand leaves."""

from __future__ import annotations

import json

from gateway_support import MESSAGES, letter, problem

from messages.inbound import Refused, UserMessage
from persistence.contract import StoreUnavailable


def test_a_dead_letter_is_sent_again_and_gone_once_it_is_accepted(http, router):
    said = {"type": "user_message", "conversation_id": "c1", "text": "hello", "user_id": None, "plan": None}
    router.letters = [letter(3, json.dumps(said)), letter(4, json.dumps(said))]
    router.refuse = Refused(code="store_unavailable", detail="full", retry_after=2.0)
    problem(http.post("/api/v1/deadletters/3/replay"), 503, "store_unavailable")
    assert [one["id"] for one in router.letters] == [3, 4], "what is refused again stays"
    router.refuse = None
    answer = http.post("/api/v1/deadletters/3/replay", json={"by": "ann", "reason": "fixed"})
    assert (answer.status_code, answer.json()["status"], answer.json()["id"]) == (202, "accepted", 3)
    assert router.submitted[-1] == UserMessage(conversation_id="c1", text="hello", message_id="deadletter-3")
    assert [one["id"] for one in router.letters] == [4]
    problem(http.post("/api/v1/deadletters/3/replay"), 404, "not_found")


def test_what_is_no_message_cannot_be_sent_again_but_thrown_away(http, router):
    router.letters = [letter(1, '{"what":"late"}', "NodeResult"), letter(2, "null", "RunNode")]
    for number in (1, 2):
        assert (
            f"dead letter {number}"
            in problem(http.post(f"/api/v1/deadletters/{number}/replay"), 409, "wrong_state")["detail"]
        )
    assert http.post("/api/v1/deadletters/1/drop").json() == {"id": 1, "status": "dropped"}
    problem(http.post("/api/v1/deadletters/1/drop"), 404, "not_found")
    for strange in ("0", "x", str(2**63)):
        problem(http.post(f"/api/v1/deadletters/{strange}/drop"), 400, "invalid_field", "number")
    assert [one["id"] for one in router.letters] == [2]
    assert not router.submitted
    for wrong in ("0", "-1", "x", "1e3", "9" * 30):
        assert http.post(f"/api/v1/deadletters/{wrong}/replay").status_code in (400, 404), wrong
    problem(http.post("/api/v1/deadletters/2/drop", json={"by": 5}), 400, "invalid_field")
    problem(http.post("/api/v1/deadletters/2/drop", json={"who": "x"}), 400, "invalid_field")


def test_a_change_that_the_store_does_not_confirm_says_that_nobody_knows(http, router, told):
    """It may be done all the same; a message that was accepted stays accepted, whatever becomes of its letter."""
    said = {"type": "cancel", "conversation_id": "c1"}
    router.letters = [letter(1, json.dumps(said))]
    http.post(MESSAGES, json={"text": "x"})

    def gone(_number):
        raise StoreUnavailable("gone fishing")

    router.drop_dead_letter = gone
    answer = http.post("/api/v1/deadletters/1/drop")
    assert problem(answer, 503, "store_unavailable")["outcome"] == "unknown"
    answer = http.post("/api/v1/deadletters/1/replay")
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    assert "gone fishing" in answer.json()["letter"]
    lines = [(f["action"], f["outcome"]) for event, f in told if event == "operator_action"]
    assert lines == [("drop", "store_unavailable"), ("replay", "accepted, not removed")]


def test_an_accepted_repetition_whose_reply_cannot_be_read_is_accepted(http, router):
    router.echo = True
    first = http.post(f"{MESSAGES}?wait=5", json={"text": "x", "message_id": "m"})
    assert first.json()["type"] == "reply.sent"

    def gone(*_args):
        raise StoreUnavailable("gone fishing")

    router.events = gone
    again = http.post(f"{MESSAGES}?wait=5", json={"text": "x", "message_id": "m"})
    assert (again.status_code, again.json()["message_id"]) == (202, "m")


def test_every_change_leaves_a_line_of_who_and_why_whatever_came_of_it(http, router, told):
    router.letters = [letter(1, "null")]
    http.post(MESSAGES, json={"text": "x"})
    http.post("/api/v1/conversations/c1/cancel", json={"by": "ann", "reason": "asked to"})
    http.post("/api/v1/conversations/c1/pause")
    http.post("/api/v1/actors/restart", json={"path": "/nowhere", "by": "ann"})
    http.post("/api/v1/deadletters/1/replay")
    http.post("/api/v1/deadletters/1/drop", json={"reason": "old"})
    lines = [(f["action"], f["by"], f["reason"], f["outcome"]) for event, f in told if event == "operator_action"]
    assert lines == [
        ("cancel", "ann", "asked to", "done"),
        ("pause", "http 127.0.0.1", None, "done"),
        ("restart", "ann", None, "not_found"),
        ("replay", "http 127.0.0.1", None, "wrong_state"),
        ("drop", "http 127.0.0.1", "old", "done"),
    ]
    assert [m.by for m in router.submitted[1:]] == ["ann", "http 127.0.0.1"], "the journal says it too"
