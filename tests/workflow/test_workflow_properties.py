"""Whatever happens, in whatever order: the invariants of a conversation hold."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from conversation_driver import PERMANENT, TRANSIENT, Conversation, node, plan
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from messages.agent import NodeFailure, NodeResult, RetryDue
from messages.conversation import Accept, Deadline, Quarantine
from messages.events import Journaled
from messages.inbound import Cancel, Pause, Resume
from messages.lifecycle import Recovered
from messages.plan import ResolvedPlan
from messages.planning import PlannerFailed, PlanReady
from messages.synthesis import Synthesized, SynthesizerFailed
from messages.wire import pack, unpack
from workflow.codec import from_plain, to_plain
from workflow.decide import take
from workflow.errors import NotTaken
from workflow.evolve import fold
from workflow.phases import REST
from workflow.state import NodeStatus, Phase, State
from workflow.wanted import wanted

NAMES = "abcdef"
ROUTES = ["skip", "skip", "fail", "replan", "fallback:other"]


def random_plan(chance: Random) -> ResolvedPlan:
    """A random acyclic plan: every node may depend on any before it, with any join."""
    nodes = []
    for index in range(chance.randint(1, 5)):
        before = NAMES[:index]
        deps = chance.sample(before, chance.randint(0, min(3, index)))
        nodes.append(
            node(
                NAMES[index],
                *deps,
                need=chance.randint(1, len(deps)) if deps else 0,
                on_failure=chance.choice(ROUTES),
                on_unknown_outcome=chance.choice(["retry", "fail"]),
                approval=chance.random() < 0.1,
            )
        )
    return ResolvedPlan(nodes=tuple(nodes), origin="planner")


class World:
    """Makes messages, legal and illegal, from a seed, and keeps the books."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.state = State(conversation_id="c1")
        self.events: list[Journaled] = []
        self.now = 1_000
        self.asked = 0

    def tell(self, message: Any) -> bool:
        self.now += self.chance.randint(0, 5_000)
        before, said = self.state, repr(self.state)
        try:
            events, after = take(before, message, self.now)
        except NotTaken:
            assert repr(before) == said, "what is not taken changes nothing"
            return False
        assert repr(before) == said, "a step changes nothing of the state it began with"
        self.state = after
        self.events.extend(events)
        return True

    def random_message(self) -> Any:
        chance = self.chance
        request = self.state.request
        current = "r0" if request is None else request.request_id
        request_id = chance.choice([current] * 8 + ["r1", "gone"])
        nodes = list(request.nodes) if request is not None and request.nodes else ["a"]
        name = chance.choice(nodes)
        attempts = request.nodes[name].attempts if request is not None and name in request.nodes else 1
        attempt = attempts + chance.choice([0] * 8 + [1, -1])
        retry_in = chance.choice([None, 0.0, 2.0])
        tries = 1 if request is None else request.planning.failures + 1
        writes = 1 if request is None else request.synthesis.failures + 1
        return chance.choice(
            [
                *[self._ask] * 2,
                *[lambda: PlanReady(request_id, tries, random_plan(chance))] * 2,
                lambda: PlannerFailed(request_id, tries, TRANSIENT, retry_in),
                lambda: NodeFailure(request_id, name, attempt, PERMANENT, None, "permanent"),
                lambda: NodeFailure(request_id, name, attempt, TRANSIENT, retry_in, "transient"),
                lambda: RetryDue(request_id, name, attempts + 1),
                lambda: Synthesized(request_id, writes, "words"),
                lambda: SynthesizerFailed(request_id, writes, TRANSIENT, retry_in),
                lambda: Deadline(request_id) if chance.random() < 0.3 else Recovered(),
                Recovered,
                lambda: chance.choice([Cancel, Pause])(conversation_id="c1"),
                lambda: Quarantine("often") if chance.random() < 0.2 else Recovered(),
                *[lambda: Resume(conversation_id="c1")] * 2,
                *[lambda: NodeResult(request_id, name, attempt, 1, b"1", 1.0)] * 4,
            ]
        )()

    def _ask(self) -> Accept:
        self.asked += 1
        policy = self.chance.choice(["enqueue", "reject", "interrupt", "rollback"])
        resolved = self.chance.choice([None, ResolvedPlan(answer="hi"), random_plan(self.chance)])
        return Accept(f"m{self.asked}", f"r{self.asked}", "text", None, resolved, policy)

    def finish(self) -> None:
        """Let everything that is open come to its end, kindly: resume, and have every child succeed."""
        for _ in range(500):
            request = self.state.request
            if self.state.phase in (Phase.PAUSED, Phase.AWAITING_APPROVAL):
                self.tell(Resume(conversation_id="c1"))
                continue
            if request is None:
                return
            want = wanted(self.state, self.now + 10_000)
            for timer in want.timers:
                assert timer.message is not None
                self.tell(timer.message)
            for child in want.children:
                self.tell(self._kind_answer(child))
            assert want.children or want.timers, f"stuck in {self.state.phase}"
        raise AssertionError("never came to rest")

    def _kind_answer(self, child: Any) -> Any:
        if child.role == "planner":
            return PlanReady(child.request_id, child.attempt, ResolvedPlan(nodes=(node("z"),)))
        if child.role == "synthesizer":
            return Synthesized(child.request_id, child.attempt, "words")
        return NodeResult(child.request_id, child.node, child.attempt, 1, b"1", 1.0)


def check(events: list[Journaled]) -> None:
    """The invariants, read from the journal alone."""
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    accepted = [e.request_id for e in events if e.type == "message.accepted"]
    replied = Counter(e.request_id for e in events if e.type == "reply.sent")
    assert all(count == 1 for count in replied.values()), "one reply per request"
    assert set(replied) <= set(accepted)
    succeeded: set[tuple[Any, str]] = set()
    specs: dict[tuple[Any, str], Any] = {}
    running: dict[tuple[Any, str], int] = {}
    answered: set[Any] = set()
    at_work: set[tuple[Any, str]] = set()
    for event in events:
        if event.type == "plan.drafted":
            for spec in event.nodes:
                if (event.request_id, spec.id) not in succeeded | at_work:
                    specs[event.request_id, spec.id] = spec
        elif event.type == "node.started":
            key = (event.request_id, event.node)
            assert key not in succeeded, "no node runs again after it succeeded"
            assert event.request_id not in answered, "nothing starts for an answered request"
            spec = specs[key]
            done = sum((event.request_id, dep) in succeeded for dep in spec.depends_on)
            assert done >= spec.need, "no node runs before its dependencies"
            assert event.attempt == running.get(key, 0) + 1, "attempts count every try"
            running[key] = event.attempt
            at_work.add(key)
        elif event.type == "node.failed":
            at_work.discard((event.request_id, event.node))
        elif event.type == "node.retrying":
            at_work.add((event.request_id, event.node))
        elif event.type == "reply.sent":
            answered.add(event.request_id)
        elif event.type == "node.succeeded":
            assert running[event.request_id, event.node] == event.attempt
            succeeded.add((event.request_id, event.node))
    for event in events:
        if event.type == "reply.sent" and event.status in ("completed", "partial"):
            assert all((event.request_id, name) in succeeded for name in event.nodes)
            assert (event.status == "completed") == (not event.missing)


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 2**32))
def test_no_sequence_of_messages_breaks_the_invariants(seed):
    """Legal, illegal, stale and repeated messages in any order; then everything accepted is answered."""
    world = World(seed)
    for _ in range(world.chance.randint(0, 60)):
        world.tell(world.random_message())
    check(world.events)
    assert fold(State(conversation_id="c1"), world.events) == world.state
    world.finish()
    check(world.events)
    accepted = {e.request_id for e in world.events if e.type == "message.accepted"}
    replied = {e.request_id for e in world.events if e.type == "reply.sent"}
    assert accepted == replied, "everything accepted is answered"
    assert world.state.phase in REST
    assert wanted(world.state, world.now).children == ()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_every_prefix_survives_encoding_and_goes_on_to_the_same_end(seed):
    """Stop anywhere, store the state, load it, fold the rest: the end is the same."""
    world = World(seed)
    for _ in range(world.chance.randint(1, 40)):
        world.tell(world.random_message())
    cut = world.chance.randint(0, len(world.events))
    half = fold(State(conversation_id="c1"), world.events[:cut])
    plain = unpack(pack(to_plain(half)), max_bytes=1_000_000)
    if half.request is None:
        assert plain == TypeAdapter(State).dump_python(half, mode="json"), "the short way is the long one"
    texts = {e.seq: e.text for e in world.events if e.type == "message.accepted"}
    results = {(e.request_id, e.node): e.result for e in world.events[:cut] if e.type == "node.succeeded"}
    loaded = from_plain(plain, texts=texts, results=results)
    assert loaded == half
    assert fold(loaded, world.events[cut:]) == world.state


def test_the_check_itself_can_fail():
    """A journal in which a finished node runs again is caught."""
    talk = Conversation()
    talk.ask(plan(node("a"), node("b")))
    talk.succeed("a")
    started = talk.of("node.started")[0]
    again = started.changed(seq=len(talk.events) + 1, attempt=2)
    with pytest.raises(AssertionError, match="no node runs again"):
        check([*talk.events, again])


def test_node_statuses_are_all_reached_by_the_stories():
    """Every status has a meaning that something uses."""
    assert {status.value for status in NodeStatus} == {
        "pending",
        "running",
        "backing_off",
        "succeeded",
        "failed",
        "skipped",
    }
