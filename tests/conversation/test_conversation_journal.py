"""From the core to the store and back: what was appended is what wakes."""

from __future__ import annotations

from typing import Any

import pytest
from conversation_driver import DIAMOND, Conversation, node, plan
from hypothesis import given, settings
from hypothesis import strategies as st
from test_workflow_properties import World

from conversation import journal
from conversation.plan_view import newest_request, plan_view, tree_order
from messages.agent import NodeResult
from messages.conversation import Accept, Submit
from messages.inbound import Cancel, UserMessage
from messages.lifecycle import Recovered
from persistence.contract import Committed
from persistence.entry import CorruptEntry
from persistence.history import read_events
from persistence.memory_store import MemoryStore
from persistence.snapshot import SnapshotCorrupt
from workflow.decide import take
from workflow.errors import NotTaken
from workflow.memory import Memory, MemoryLimits
from workflow.state import LOST, NodeStatus, State


class Books:
    """Journals every step of a conversation, as its supervisor does."""

    def __init__(self, every: int = 100, *, keep_results: bool = True) -> None:
        self.store = MemoryStore()
        self.store.open("test")
        self.memory = Memory()
        self.snapshot_seq = 0
        self.every = every
        self.keep_results = keep_results

    def write(self, before: int, events: list[Any], state: State, cause: Any) -> None:
        submit = None
        if isinstance(cause, Accept):
            message = UserMessage(conversation_id="c1", text=cause.text)
            submit = Submit(message, lambda _: None, cause.message_id, cause.request_id, None, "print")
        self.memory, note = journal.remember(self.memory, events, state, MemoryLimits())
        due = journal.snapshot_due(state, self.snapshot_seq, self.every)
        append = journal.append(
            before,
            events,
            state,
            causes=[cause],
            submit=submit,
            note=note,
            snapshot=due,
            keep_results=self.keep_results,
        )
        if due:
            self.snapshot_seq = state.seq
        assert self.store.commit([append]) == [Committed("c1", state.seq)]

    def wake(self) -> journal.Woken:
        return journal.wake(self.store.load("c1", recent=50))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 7, 1000]))
def test_whatever_happened_the_state_that_wakes_is_the_state_that_was(seed, every):
    """With a snapshot after each step, now and then, or only at the end of turns."""
    world, books = World(seed), Books(every)
    for _ in range(world.chance.randint(1, 40)):
        message = world.random_message()
        if isinstance(message, Accept) and message.plan is not None and message.plan.answer:
            continue
        before = world.state
        try:
            events, after = take(before, message, world.now)
        except NotTaken:
            continue
        if not events:
            continue
        if any(e.type == "node.succeeded" for e in events):
            assert isinstance(message, NodeResult)
        world.state = after
        books.write(before.seq, events, after, message)
        world.events.extend(events)
    assert books.wake().state == world.state
    assert journal.wake(books.store.load("c1", recent=50, whole=True)).state == world.state
    assert read_events(books.store, "c1", after=0, limit=10_000) == [
        e.changed(data=dict.fromkeys(e.nodes, 1)) if e.type == "reply.sent" else e for e in world.events
    ]


def _told(talk: Conversation, books: Books) -> None:
    """Let every step of this conversation be written."""
    tell = talk.tell

    def and_write(message: Any) -> list[Any]:
        before = talk.state.seq
        events = tell(message)
        if events:
            books.write(before, events, talk.state, message)
        return events

    talk.tell = and_write  # type: ignore[method-assign]  # a recording stand-in


def test_results_that_were_not_kept_are_lost_and_their_nodes_run_again():
    """With `persist_agent_state` off the recovery knows what it does not know."""
    talk, books = Conversation(), Books(keep_results=False)
    _told(talk, books)
    talk.ask(DIAMOND)
    talk.succeed("a", {"sku": "X"})
    state = books.wake().state
    assert state.request.nodes["a"].result is LOST
    events, after = take(state, Recovered(), 0)
    assert {e.node for e in events if e.type == "node.started"} == {"a", "b", "c"}
    assert after.request.nodes["a"].status is NodeStatus.RUNNING


def test_a_step_that_was_changed_in_the_store_is_never_guessed():
    """A flipped byte in an entry or a snapshot is an error that names the place."""
    talk, books = Conversation(), Books()
    _told(talk, books)
    talk.ask(plan(node("a")))
    held = books.store.data.conversations["c1"]
    entry = held.entries[-1]
    held.entries[-1] = type(entry)(entry.first_seq, entry.last_seq, entry.at, entry.body[:-3] + b"x" + entry.body[-2:])
    with pytest.raises(CorruptEntry, match="journal of c1 at 1"):
        books.wake()
    held.entries[-1] = entry
    talk.succeed("a")
    talk.synthesize()
    held.snapshot = held.snapshot[:-1] + bytes([held.snapshot[-1] ^ 1])
    with pytest.raises(SnapshotCorrupt):
        books.wake()


def test_memory_that_wakes_is_what_was_said_without_what_was_rolled_back():
    """A rolled-back request is in the journal and not in the memory."""
    talk, books = Conversation(), Books()
    _told(talk, books)
    talk.ask(plan(node("a")), text="first")
    talk.succeed("a")
    talk.synthesize("one")
    talk.ask(plan(node("b")), text="undo me")
    talk.ask(plan(node("c")), "rollback", text="second")
    talk.succeed("c")
    talk.synthesize("two")
    assert [r.text for r in books.wake().memory.remarks] == ["first", "one", "second", "two"]
    assert books.memory.remarks == books.wake().memory.remarks


def test_the_plan_as_people_see_it_follows_the_events():
    """The newest request that has begun, each node with its state, the reply at the end."""
    talk = Conversation()
    talk.ask(DIAMOND, text="q")
    talk.ask(DIAMOND, text="waits")
    request_id = newest_request(talk.events)
    talk.succeed("a")
    talk.fail("b", retry_in=2.0)
    view = plan_view(talk.events, request_id)
    assert {n["id"]: n["status"] for n in view["nodes"]} == {
        "a": "succeeded",
        "b": "backing_off",
        "c": "running",
        "d": "pending",
    }
    assert tree_order({n["id"]: n for n in view["nodes"]}) == ["a", "b", "c", "d"]
    talk.retry("b")
    for name in "bcd":
        talk.succeed(name)
    talk.synthesize("words")
    view = plan_view(talk.events, request_id)
    assert view["status"] == "completed"
    assert view["reply"]["text"] == "words"


def test_the_plan_as_people_see_it_has_nothing_going_on_after_the_reply():
    """What a cancel cut off was shown as running for ever."""
    talk = Conversation()
    talk.ask(DIAMOND)
    request_id = newest_request(talk.events)
    talk.succeed("a")
    talk.fail("b", retry_in=2.0)
    talk.tell(Cancel(conversation_id="c1"))
    view = plan_view(talk.events, request_id)
    assert {n["id"]: (n["status"], n["retry_at"]) for n in view["nodes"]} == {
        "a": ("succeeded", None),
        "b": ("given_up", None),
        "c": ("given_up", None),
        "d": ("given_up", None),
    }
    assert view["nodes"][1]["reason"] == "cancelled"
