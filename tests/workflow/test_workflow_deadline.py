"""The time a request may take as a whole: a timer that the state knows, and a truthful end when it is over."""

from __future__ import annotations

import pytest
from conversation_driver import TRANSIENT, Conversation, node, plan
from hypothesis import given, settings
from hypothesis import strategies as st
from test_workflow_properties import World, check

from messages.conversation import Deadline
from messages.inbound import Pause, Resume
from workflow.codec import from_plain, to_plain
from workflow.errors import NotTaken
from workflow.state import Phase
from workflow.wanted import wanted

TIMEOUT = 60.0


def deadline(talk):
    """The deadline that the state wants now."""
    timers = wanted(talk.state, talk.now, TIMEOUT).timers
    return next((timer for timer in timers if isinstance(timer.message, Deadline)), None)


def missing(talk):
    return {branch.node: branch.reason for branch in talk.of("reply.sent")[-1].missing}


def test_what_is_finished_is_given_and_what_is_not_is_named():
    talk = Conversation()
    talk.ask(plan(node("a"), node("b"), node("c", "b"), node("d", retries=9)))
    talk.succeed("a", "found")
    talk.fail("d", TRANSIENT, retry_in=5.0)
    talk.tell(deadline(talk).message)
    reply = talk.of("reply.sent")[0]
    assert (reply.status, reply.data) == ("partial", {"a": "found"})
    assert missing(talk) == {"b": "deadline", "c": "deadline", "d": "deadline"}
    assert "time for this request was over" in reply.text
    assert talk.state.phase is Phase.COMPLETED
    assert wanted(talk.state, talk.now, TIMEOUT).children == ()


def test_with_nothing_finished_it_has_failed():
    talk = Conversation()
    talk.ask(plan(node("a")))
    talk.tell(deadline(talk).message)
    assert talk.of("reply.sent")[0].status == "failed"
    assert talk.state.phase is Phase.FAILED


def test_a_planner_and_a_synthesizer_that_hang_are_named():
    talk = Conversation()
    talk.ask()
    talk.tell(deadline(talk).message)
    assert (talk.of("reply.sent")[0].status, missing(talk)) == ("failed", {"planner": "deadline"})
    talk.ask(plan(node("a")))
    talk.succeed("a")
    talk.tell(deadline(talk).message)
    assert (talk.of("reply.sent")[1].status, missing(talk)) == ("partial", {"synthesizer": "deadline"})


def test_the_time_begins_when_its_turn_comes():
    """A queued message does not lose its time to those before it."""
    talk = Conversation()
    talk.ask(plan(node("a")))
    first = deadline(talk)
    talk.now += 30_000
    talk.ask(plan(node("a")))
    assert deadline(talk) == first
    talk.succeed("a")
    talk.synthesize()
    second = deadline(talk)
    assert (second.message.request_id, second.due) == ("r2", talk.now + 60_000)
    with pytest.raises(NotTaken):
        talk.tell(first.message)


def test_while_paused_nothing_is_said_and_after_resume_it_is_due():
    talk = Conversation()
    talk.ask(plan(node("a")))
    due = deadline(talk)
    talk.tell(Pause(conversation_id="c1"))
    assert deadline(talk) is None
    assert talk.tell(due.message) == []
    talk.tell(Resume(conversation_id="c1"))
    assert deadline(talk) == due
    talk.tell(due.message)
    assert missing(talk) == {"a": "deadline"}


def test_without_the_setting_there_is_no_deadline():
    talk = Conversation()
    talk.ask(plan(node("a")))
    assert wanted(talk.state, talk.now).timers == ()


def test_snapshots_of_before_are_read_and_have_no_deadline():
    """The field is newer than snapshots that exist."""
    talk = Conversation()
    talk.ask(plan(node("a")))
    old = to_plain(talk.state)
    del old["request"]["begun_at"]
    state = from_plain(old, texts={1: "hello"}, results={})
    assert state.request.begun_at is None
    assert wanted(state, talk.now, TIMEOUT).timers == ()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_a_running_request_always_has_its_deadline_and_dies_of_it(seed):
    """In every state: one deadline unless paused, the same after a restart, and it ends the request at once."""
    world = World(seed)
    for _ in range(world.chance.randint(1, 40)):
        world.tell(world.random_message())
    state = world.state
    timers = [t for t in wanted(state, world.now, TIMEOUT).timers if isinstance(t.message, Deadline)]
    running = state.request is not None and state.phase is not Phase.PAUSED and state.quarantined is None
    assert len(timers) == running
    texts = {e.seq: e.text for e in world.events if e.type == "message.accepted"}
    results = {(e.request_id, e.node): e.result for e in world.events if e.type == "node.succeeded"}
    woken = from_plain(to_plain(state), texts=texts, results=results)
    assert [t for t in wanted(woken, world.now, TIMEOUT).timers if isinstance(t.message, Deadline)] == timers
    for timer in timers:
        assert timer.due <= world.now + TIMEOUT * 1000
        assert world.tell(timer.message)
        ended = timer.message.request_id
        reply = next(e for e in world.events if e.type == "reply.sent" and e.request_id == ended)
        assert reply.status in ("partial", "failed")
        assert reply.missing
    check(world.events)
