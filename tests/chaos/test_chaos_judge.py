"""The judge sees every kind of failure, and only failures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.judge import Life, Sent, judge
from chaos.ledger import Line

AT = "2026-01-01T00:00:00.{:03d}Z"
BASE = 1767225600000


def journal():
    """One request of two nodes: `a` is run again after the daemon's death, `b` is not."""
    facts = [
        {"type": "message.accepted", "message_id": "m"},
        {"type": "plan.drafted", "nodes": [{"id": "a"}, {"id": "b"}]},
        {"type": "node.started", "node": "a", "attempt": 1},
        {"type": "node.started", "node": "b", "attempt": 1},
        {"type": "node.succeeded", "node": "b", "attempt": 1},
        {"type": "node.started", "node": "a", "attempt": 2},
        {"type": "node.succeeded", "node": "a", "attempt": 2},
        {"type": "reply.sent", "message_id": "m", "text": "t", "status": "completed", "data": {"a": 1, "b": 2}},
    ]
    return [{"seq": n, "at": AT.format(n * 10), "request_id": "r", **fact} for n, fact in enumerate(facts, 1)]


def line(what, node="", attempt=1, life=0, key=None):
    return Line(what, life, "c", "r", node, attempt, node if key is None else key)


LEDGER = [
    line("start", "a"),
    line("start", "b"),
    line("finish", "b"),
    line("recorded", "b"),
    line("killed", key="result, after"),
    line("start", "a", 2, life=1),
    line("finish", "a", 2, life=1),
    line("recorded", "a", 2, life=1),
]
LIVES = [Life(0, "result, after", BASE + 55), Life(1, "", BASE + 1000, 0)]
SENT = [Sent("c", "m", 0, "r", {"seq": 8, "text": "t"})]


def verdict(sent=SENT, events=None, ledger=LEDGER, lives=LIVES):
    return judge(sent, {"c": journal() if events is None else events}, ledger, lives)


def faults(**changed):
    return [(finding.fault, finding.life) for finding in verdict(**changed).findings]


def test_nothing_is_found_where_all_held_and_what_was_in_flight_is_counted():
    """A node cut off in flight ran again: no fault. One message was acknowledged, and open at the kill."""
    found = verdict()
    assert found.held
    assert (dict(found.accepted), dict(found.open), dict(found.repeated)) == ({0: 1}, {0: 1}, {0: 1})


def test_an_acknowledged_message_without_a_reply_is_lost():
    """Also when the conversation itself is gone."""
    assert faults(events=journal()[:-1]) == [("lost", 0)]
    assert ("lost", 0) in faults(events=[])


@pytest.mark.parametrize("change", [{"status": "partial"}, {"data": {"a": 1}}])
def test_a_reply_that_lacks_something_is_lost(change):
    """Nothing here fails for good, so every reply is complete."""
    assert faults(events=[*journal()[:-1], {**journal()[-1], **change}]) == [("lost", 0)]


def test_two_replies_are_doubled():
    """Whatever they say."""
    assert faults(events=[*journal(), {**journal()[-1], "seq": 9}]) == [("doubled", 0)]


def test_a_message_accepted_twice_is_doubled():
    """The same id is one message."""
    assert ("doubled", 0) in faults(events=[*journal(), {**journal()[0], "seq": 9}])


def test_a_node_that_succeeded_twice_is_doubled():
    """In the journal."""
    assert ("doubled", -1) in faults(events=[*journal(), {**journal()[4], "seq": 9}])


@pytest.mark.parametrize("told", [{"seq": 8, "text": "else"}, {"seq": 7, "text": "t"}])
def test_a_client_that_was_told_another_reply_is_doubled(told):
    """What a client heard is what the journal has."""
    assert faults(sent=[replace(SENT[0], reply=told)]) == [("doubled", 0)]


def test_a_message_acknowledged_as_one_request_and_answered_as_another_is_doubled():
    """The first was run, and forgotten."""
    assert faults(sent=[replace(SENT[0], request="other")]) == [("doubled", 0)]


def test_a_start_after_the_result_was_durable_is_redone():
    """By the order of the ledger, and it is the fault of the death before."""
    assert faults(ledger=[*LEDGER, line("start", "b", 1, life=1)]) == [("redone", 0)]


def test_a_start_after_the_result_was_durable_is_redone_even_if_the_journal_has_only_the_second_success():
    """The ledger alone tells it: the store said that the first was durable."""
    events = [{**e, "attempt": 2} if e.get("node") == "b" and e["type"] == "node.succeeded" else e for e in journal()]
    again = [line("start", "b", 2, life=1), line("finish", "b", 2, life=1)]
    assert faults(events=events, ledger=[*LEDGER, *again]) == [("redone", 0)]


def test_a_start_above_the_attempt_that_succeeded_is_redone():
    """Even if nobody lived to write that the result was recorded."""
    unrecorded = [each for each in LEDGER if each.what != "recorded"]
    assert faults(ledger=[*unrecorded, line("start", "b", 2, life=1)]) == [("redone", 0)]


def test_one_attempt_started_twice_is_redone():
    """A new try has a new number, which is durable before it starts."""
    unrecorded = [each for each in LEDGER if each.what != "recorded"]
    assert faults(ledger=[*unrecorded, line("start", "b", 1, life=1)]) == [("redone", 0)]


def test_another_key_for_the_same_node_is_redone():
    """An outside system would take it for other work."""
    assert faults(ledger=[replace(each, key="k2") if each.attempt == 2 else each for each in LEDGER]) == [("redone", 0)]


def test_a_success_that_never_ran_is_lost():
    """The journal may not invent work."""
    assert faults(ledger=[each for each in LEDGER if each.what != "finish"]) == [("lost", -1)] * 2


def test_a_missing_event_is_a_hole():
    """At the front, in the middle, or twice the same."""
    for events in (journal()[1:], journal()[:3] + journal()[4:], [*journal()[:4], *journal()[3:]]):
        assert ("hole", -1) in faults(events=events)


def test_a_daemon_that_ends_by_itself_is_seen():
    """It was to be killed."""
    assert faults(lives=[replace(LIVES[0], exit_code=1), LIVES[1]]) == [("ended", 0)]
