"""Defects that the simulation found, each as the shortest story that shows it."""

from __future__ import annotations

import conversations
from actors.envelope import Envelope
from messages.conversation import Submit
from messages.inbound import Accepted, Pause, Refused, Resume, UserMessage
from messages.lifecycle import Crash, Passivate
from messages.plan import ResolvedPlan
from simulation.quiet_world import QuietWorld
from workflow.state import Phase


def test_a_message_behind_an_order_to_passivate_is_worked_on():
    """The supervisor ended with a step under way: the message was accepted, and nobody was left to answer it."""
    world = QuietWorld()
    world.say("m1")
    world.go_on(lambda: world.replied("m1"))
    world.go_on(lambda: world.life.router.working() == 0 and not world.runnable)
    world.tell(Passivate())
    world.say("m2")
    world.go_on(lambda: world.replied("m2"))
    assert [type(answer) for answer in world.answers["m2"]] == [Accepted]


def test_a_conversation_that_has_just_gone_to_rest_is_not_sent_there_again():
    """With many at rest one look follows another before all reports are in: each order was a dead letter."""
    world = QuietWorld()
    world.say("m1")
    world.go_on(lambda: world.replied("m1"))
    world.go_on(lambda: world.life.router.working() == 0 and not world.runnable)
    assert world.life is not None
    system = world.life.system
    supervisor, parent = system._actors["/conversations/c"], system._actors["/conversations"]
    world.tell(Passivate())
    supervisor.run_batch(64)
    assert "/conversations/c" not in system._actors
    parent._passivate_after = -1.0
    parent._sweep()
    assert system.dead_letters.total == 0
    world.go_on(lambda: world.life.router.live() == 0)


def test_a_message_is_answered_although_the_core_fails_on_it():
    """It had been taken out of the line and was in nobody's hands: its sender waited for ever."""
    world = QuietWorld()
    world.say("m1")
    world.go_on(lambda: world.replied("m1"))
    world.say("m2")
    assert world.life is not None
    supervisor = world.life.system._actors["/conversations/c"]

    def broken(*_args):
        raise RuntimeError("a defect")

    supervisor.tell_core = broken
    world.go_on(lambda: world.answers["m2"])
    assert [type(answer) for answer in world.answers["m2"]] == [Refused]
    world.say("m2")
    world.go_on(lambda: world.replied("m2"))


def test_what_the_store_tells_an_earlier_life_does_not_reach_the_next():
    """Two refused steps cost two lives, and eight would have had the conversation put aside."""
    world = QuietWorld()
    world.say("m0")
    world.go_on(lambda: world.replied("m0"))
    world.faults.away_until = world.clock.now + 0.5
    world.say("m1")
    assert world.life is not None
    pending = world.life.writer._pending
    world.go_on(lambda: not world.life.writer.available)
    for number in range(2, 6):
        world.clients.policies["c", f"m{number}"] = "enqueue"
        body = UserMessage(conversation_id="c", text="<m>", message_id=f"m{number}")
        submit = Submit(body, world.answers.setdefault(f"m{number}", []).append, f"m{number}", f"x{number}")
        world.tell(submit)  # past the doors, which are shut: it had come in before
    world.go_on(lambda: len(pending) >= 4)
    world.faults.poisoned = pending[0][0]
    world.go_on(lambda: all(world.answers[f"m{number}"] for number in range(1, 6)))
    world.go_on(lambda: world.life.router.working() == 0)
    assert world.seen["log: actor_crashed"] == 1


def test_a_load_asked_for_by_an_earlier_life_is_not_woken_from():
    """The next life woke twice, the second time from what was older than its own first step."""
    world = QuietWorld()
    world.say("m1")
    world.go_on(lambda: world.ledger.of("c").seq >= 2)
    world.kill(world.life)
    world.go_on(lambda: world.life is not None)
    world.go_on(lambda: world.life.system.find("/conversations/c") is not None)
    supervisor = world.life.system._actors["/conversations/c"]
    world.go_on(lambda: supervisor.actor_inbox.depth == 1)  # the load has come
    supervisor.actor_inbox.put_first(Envelope(Crash(by="somebody")))
    world.go_on(lambda: world.replied("m1"))
    assert world.seen["log: recovered"] == 1


def test_a_planner_is_asked_again_although_the_clock_was_set_back():
    """It was looked at again after its delay, found not due by the wall clock, and set down for another delay."""
    world = QuietWorld()
    tried: list[int] = []

    def planner(draft):
        tried.append(draft.attempt)
        if draft.attempt == 1:
            raise ConnectionError("refused")
        return ResolvedPlan(answer="hello")

    world.planner = planner
    world.say("m1")
    world.go_on(lambda: world.seen["event: plan.failed"])
    world.clock.jump(-90_000.0)
    world.clock_was_set = True
    world.go_on(lambda: world.replied("m1"), seconds=10.0)
    assert tried == [1, 2]


def test_an_unstorable_row_after_an_outage_does_not_leave_the_doors_shut():
    """The store had answered, but only a commit that succeeds opened the doors, and nobody was let in to make one."""
    world = QuietWorld()
    world.faults.away_until = world.clock.now + 0.5
    world.say("m1")
    world.go_on(lambda: not world.life.writer.available)
    world.faults.poison = 1
    world.go_on(lambda: world.seen["fault: row cannot be stored"])
    assert world.life.writer.available
    world.say("m2")
    world.go_on(lambda: world.replied("m2"))


def test_a_child_is_not_stopped_for_a_state_that_is_over():
    """A step on its way stood still behind the newest one: the attempt was ended and made once more."""
    world = QuietWorld()
    world.say("m1")
    world.go_on(lambda: world.life is not None and world.life.system.find("/conversations/c/agents/a") is not None)
    assert world.life is not None
    supervisor = world.life.system._actors["/conversations/c"]
    crew = supervisor._crew
    durable, newest = supervisor._durable, supervisor.state
    aside = newest.changed(quarantined="often", phase=Phase.PAUSED, paused_from=newest.phase)
    assert crew._working
    assert not list(crew.reconcile(aside, durable, supervisor._memory))
    assert not crew._leaving, "the newest state wants it"
    assert not list(crew.reconcile(aside, aside, supervisor._memory))
    assert crew._leaving


def test_a_synthesizer_that_ends_during_a_pause_is_asked_again_after_it():
    """Its words are not taken while paused; when the pause ended before it did, nobody asked again."""
    world = QuietWorld()
    world.say("m1")
    world.go_on(lambda: world.life is not None and world.life.system.find("/conversations/c/synthesizer") is not None)
    assert world.life is not None
    supervisor = world.life.system._actors["/conversations/c"]
    synthesizer = world.life.system._actors["/conversations/c/synthesizer"]
    ended = synthesizer.stop
    synthesizer.stop = lambda: None  # it takes its time to end
    world.clients.control(Pause(conversation_id="c"))
    world.go_on(lambda: supervisor._durable.phase is Phase.PAUSED)
    world.go_on(lambda: supervisor._crew and synthesizer._call is None and not world.runnable)
    world.clients.control(Resume(conversation_id="c"))
    world.go_on(lambda: supervisor._durable.phase is Phase.SYNTHESIZING and not world.runnable)
    ended()
    world.go_on(lambda: world.replied("m1"))


def test_who_is_busy_at_a_reload_is_looked_at_alone_and_asked_only_when_it_has_nothing_to_do(monkeypatch):
    """Every look went over all that were awake, and one that was busy found a mailbox full of these looks."""
    world = QuietWorld()
    world.passivate_after = 1_000.0
    assert world.life is not None
    router, system = world.life.router, world.life.system
    for number in range(20):
        world.say("m", f"i{number}")
    world.go_on(lambda: all(world.replied("m", f"i{number}") for number in range(20)))
    world.go_on(lambda: router.working() == 0 and not world.runnable)
    tries: list[int] = []

    def planner(draft):
        tries.append(draft.attempt)
        if draft.attempt < 3:
            raise ConnectionError("refused")
        return ResolvedPlan(answer="hello")

    world.planner = planner
    world.say("m", "busy")
    world.go_on(lambda: tries)
    asked: list[str] = []
    passivate = conversations._passivate

    def spy(record):
        asked.append(record.ref.path)
        passivate(record)

    monkeypatch.setattr(conversations, "_passivate", spy)
    parts = world.life._parts()
    began = world.clock.now
    router.reconfigure(parts, 1_000.0)
    world.go_on(lambda: world.replied("m", "busy"))
    replied = world.clock.now
    assert replied > began + 1.5, "it was not busy for several looks"
    assert {f"/conversations/i{number}" for number in range(20)} == set(asked)
    assert system._actors["/conversations"]._outdated == {"busy"}
    world.go_on(lambda: router.live() == 0)
    assert world.clock.now < replied + 1.1, "the second look at the latest finds it with nothing to do"
    world.say("again", "busy")
    world.go_on(lambda: world.replied("again", "busy"))
    assert router._live["busy"].parts is parts
    assert "renew" not in system._actors["/conversations"]._timers
