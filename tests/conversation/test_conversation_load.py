"""How much is unfinished: exact, bounded, and right again after whatever happened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from conversation_driver import Conversation, node, plan
from hypothesis import given, settings
from hypothesis import strategies as st
from test_workflow_properties import World

from conversation.load import Load
from workflow.state import State


def test_no_more_are_admitted_than_the_limit_and_a_reply_makes_room():
    load = Load(2)
    talk = Conversation()
    assert load.admit("c1") and load.admit("c1") and not load.admit("c2")
    talk.ask(plan(node("a")))
    talk.ask(plan(node("a")))
    load.note(talk.state)
    assert (load.total, load.full) == (2, True)
    talk.succeed("a")
    talk.synthesize()
    load.note(talk.state)
    assert (load.total, load.full) == (1, False)


def test_a_request_that_was_admitted_and_then_refused_is_not_counted():
    load = Load(1)
    assert load.admit("c1")
    load.note(State("c1"))
    assert load.total == 0


def test_what_is_to_be_woken_counts_until_it_says_its_number_or_leaves():
    load = Load(3)
    load.expect(["c1", "c2", "c3"])
    assert load.full and not load.admit("c4")
    talk = Conversation()
    for _ in range(4):
        talk.ask(plan(node("a")))
    load.note(talk.state)
    assert load.total == 6, "more than the limit, and none of them is dropped"
    load.forget("c1")
    load.forget("c2")
    load.forget("c3")
    assert load.total == 0


def test_the_limit_holds_however_many_ask_at_once():
    load = Load(100)
    with ThreadPoolExecutor(8) as pool:
        admitted = list(pool.map(lambda n: load.admit(f"c{n % 7}"), range(1_000)))
    assert (sum(admitted), load.total) == (100, 100)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_the_number_is_that_of_accepted_messages_without_a_reply(seed):
    """Read from the journal alone, after every message."""
    world = World(seed)
    load = Load()
    for _ in range(40):
        world.tell(world.random_message())
        load.note(world.state)
        accepted = sum(e.type == "message.accepted" for e in world.events)
        replied = sum(e.type == "reply.sent" for e in world.events)
        assert load.total == accepted - replied
