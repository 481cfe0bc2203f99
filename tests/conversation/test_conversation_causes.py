"""The tree of causes: every event once, below a parent that is there, with the words a person needs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from conversation_driver import TRANSIENT, Conversation, node, plan
from hypothesis import given, settings
from hypothesis import strategies as st
from test_workflow_properties import World

from conversation.causes import Causes
from conversation.why import why_all, why_request
from messages.inbound import Cancel, Pause, Resume
from messages.lifecycle import Recovered

ROOTS = {
    "message.accepted",
    "message.refused",
    "conversation.paused",
    "conversation.resumed",
    "conversation.quarantined",
}


def grow(events: list[Any], **options: Any) -> Causes:
    causes = Causes(**options)
    for event in events:
        causes.add(event)
    return causes


def walk(items: list[dict[str, Any]], depth: int = 0) -> list[tuple[int, dict[str, Any]]]:
    return [pair for item in items for pair in [(depth, item), *walk(item["children"], depth + 1)]]


def shape(item: dict[str, Any]) -> Any:
    """The tree without phases, as nested (title, [children])."""
    return item["title"], [shape(child) for child in item["children"] if child["kind"] != "phase"]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_every_event_is_placed_once_and_only_messages_and_control_stand_at_the_top(seed):
    """Over random conversations: nothing is lost, nothing doubled, no node and no event without a parent."""
    world = World(seed)
    for _ in range(world.chance.randint(0, 60)):
        world.tell(world.random_message())
    if world.chance.random() < 0.5:
        world.finish()
    causes = grow(world.events)
    placed = walk(causes.roots)
    assert Counter(item["seq"] for _, item in placed if item["kind"] != "node") == Counter(e.seq for e in world.events)
    by_seq = {event.seq: event for event in world.events}
    assert [by_seq[item["seq"]].type in ROOTS for item in causes.roots] == [True] * len(causes.roots)
    assert {item["seq"] for item in causes.roots} == {e.seq for e in world.events if e.type in ROOTS}
    assert max((depth for depth, _ in placed), default=0) <= 6
    assert all(item["after_ms"] >= 0 for _, item in placed)
    for _, parent in placed:
        if parent["kind"] == "node":
            assert parent["cause"] in by_seq
        for child in parent["children"]:
            assert child["request_id"] == parent["request_id"], "no event stands in another request's tree"
            assert child["seq"] is None or parent["seq"] is None or child["seq"] > parent["seq"]


def pages(events: list[Any], step: int = 7) -> Any:
    """The journal behind a reader that gives at most `step` events at once."""
    return lambda after, limit: [e for e in events if e.seq > after][: min(limit, step)]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_pages_and_single_requests_show_what_the_whole_shows(seed, limit):
    """Page by page nothing is lost and nothing doubled; each request alone looks as it does in the whole."""
    world = World(seed)
    for _ in range(40):
        world.tell(world.random_message())
    whole = {item["seq"]: item for item in grow(world.events).roots}
    found: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = why_all(pages(world.events), after, limit)
        found += page["roots"]
        assert page["next"] is None or page["next"] > after
        after = page["next"]
    assert {item["seq"]: item for item in found} == whole
    assert len(found) == len(whole)
    last = len(world.events)
    for request_id in {event.request_id for event in world.events} - {None}:
        alone = why_request(pages(world.events, 1_000), last, request_id)
        assert alone is not None
        assert {item["request_id"] for item in alone["roots"]} == {request_id}
        assert all(item == whole[item["seq"]] for item in alone["roots"])
    assert why_request(pages(world.events, 1_000), last, "nobody") is None


def test_the_newest_request_is_found_far_back_in_a_long_journal():
    """Its message may be thousands of events before its newest one."""
    talk = Conversation()
    talk.ask(plan(node("a")), text="old")
    talk.succeed("a")
    talk.synthesize()
    talk.ask(plan(node("a", retries=1000)), text="new")
    for _ in range(600):
        talk.fail("a", TRANSIENT, retry_in=1.0)
        talk.retry("a")
    found = why_request(pages(talk.events, 10_000), len(talk.events), None)
    assert found is not None
    assert [item["request_id"] for item in found["roots"]] == ["r2"]
    assert sum(item["kind"] == "attempt" for _, item in walk(found["roots"])) == 601


def test_a_story_reads_from_the_message_to_the_reply():
    """Failure, restart with its delay and rule, the attempt after it, what was skipped and why, the reply."""
    talk = Conversation()
    talk.ask(plan(node("a"), node("b", "a"), node("c")), text="how much?")
    talk.fail("a", TRANSIENT, retry_in=1.5)
    talk.retry("a")
    talk.fail("a")
    talk.succeed("c")
    talk.synthesize()
    [root] = grow(talk.events).roots
    assert shape(root) == (
        'message "how much?"',
        [
            (
                "plan by the client: 3 nodes",
                [
                    (
                        "node a",
                        [
                            (
                                "attempt 1",
                                [
                                    (
                                        "failed: ConnectionError (transient): refused",
                                        [("restart after 1.5 s: test", [])],
                                    )
                                ],
                            ),
                            ("attempt 2", [("failed: ValueError (permanent): no such thing", [])]),
                        ],
                    ),
                    ("node b", [("skipped: needs a, which failed", [])]),
                    ("node c", [("attempt 1", [("result after 1 ms", [])])]),
                ],
            ),
            ("reply: partial", []),
        ],
    )
    assert root["status"] == "partial"
    nodes = {item["node"]: item for _, item in walk([root]) if item["kind"] == "node"}
    assert [nodes[key]["status"] for key in "abc"] == ["failed", "skipped", "succeeded"]
    assert nodes["b"]["needs"] == ["a"]


def test_what_never_ended_says_so():
    """A running attempt is running; cut off by a cancel it is given up, with the reason from the reply."""
    talk = Conversation()
    talk.ask(plan(node("a"), node("b", "a")))
    nodes = {item["node"]: item for _, item in walk(grow(talk.events).roots) if item["kind"] == "node"}
    assert (nodes["a"]["status"], nodes["b"]["status"]) == ("running", "pending")
    talk.tell(Recovered())
    talk.tell(Cancel(conversation_id="c1", by="ann"))
    placed = walk(grow(talk.events).roots)
    nodes = {item["node"]: item for _, item in placed if item["kind"] == "node"}
    assert {item["reason"] for item in nodes.values()} == {"cancelled by ann"}
    assert [a["status"] for _, a in placed if a["kind"] == "attempt"] == ["cut_off", "given_up"]


def test_control_messages_stand_beside_the_requests_they_touched():
    """A pause during a request is a root of its own, and belongs to the request."""
    talk = Conversation()
    talk.ask(plan(node("a")))
    talk.tell(Pause(conversation_id="c1", by="ann", reason="lunch"))
    talk.tell(Resume(conversation_id="c1"))
    roots = grow(talk.events).roots
    assert [(item["kind"], item["title"]) for item in roots] == [
        ("message", 'message "hello"'),
        ("pause", "pause by ann: lunch"),
        ("resume", "resume"),
    ]


def test_a_journal_whose_beginning_is_gone_is_shown_as_such():
    """Nothing is dropped because its parent was deleted."""
    talk = Conversation()
    talk.ask(plan(node("a")))
    talk.succeed("a")
    talk.synthesize()
    causes = grow(talk.events[3:])
    assert [item["kind"] for item in causes.roots] == ["forgotten"]
    seqs = sorted(item["seq"] for _, item in walk(causes.roots) if item["seq"] is not None)
    assert seqs == [event.seq for event in talk.events[3:]]


def test_memory_is_bounded_and_what_is_left_out_is_counted():
    """Beyond the bound events are counted; the reply is shown all the same."""
    talk = Conversation()
    talk.ask(plan(node("a", retries=1000)))
    for _ in range(50):
        talk.fail("a", TRANSIENT, retry_in=1.0)
        talk.retry("a")
    talk.succeed("a")
    talk.synthesize()
    causes = grow(talk.events, max_events=30)
    placed = [item for _, item in walk(causes.roots) if item["kind"] != "node"]
    assert len(placed) == 31
    assert placed[-1]["kind"] == "reply"
    assert causes.left_out == len(talk.events) - 31
    assert causes.unanswered() == frozenset()
