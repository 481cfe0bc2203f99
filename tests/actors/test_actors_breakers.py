"""Breakers and gates around real calls: agents that fail are left alone, waiting is fair, nobody is serialised."""

from __future__ import annotations

import threading
from dataclasses import replace

import misbehaving_agents as agents
import pytest
from actors_support import DEADLINE, Log, wait_until
from execution_support import node, run

from actors import event_loop
from actors.breakers import CircuitOpen
from actors.execution import Execution
from agents.decorator import make_spec, spec_of
from agents.errors import AgentTimeout, TransientError
from messages.agent import NodeResult
from supervision.breaker import BreakerSpec
from supervision.errors import classify


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def execution(log):
    agents.RELEASE.clear()
    made = Execution(threads=8, log=log, breaker=BreakerSpec(failures=3, window=60.0, reset=0.2, max_reset=0.4))
    made.start()
    yield made
    agents.RELEASE.set()
    assert made.stop(DEADLINE) == []


class Patient:
    """An agent that does as it is told, and how often it was called."""

    def __init__(self, **options):
        self.calls = 0
        self.error = ConnectionError("gone")
        self.free = threading.Event()
        self.free.set()

        def patient() -> str:
            """Fail, wait or answer."""
            self.calls += 1
            assert self.free.wait(DEADLINE)
            if self.error is not None:
                raise self.error
            return "well"

        self.spec = make_spec(patient, options)

    def run(self, execution, **options):
        return run(execution, None, spec=self.spec, **options)


def trip(execution, patient):
    for _ in range(3):
        assert isinstance(patient.run(execution).outcome(), ConnectionError)


def state(execution):
    return execution.stats()["agents"]["patient"]["breaker"]


def test_a_refusal_never_says_to_come_again_at_once():
    """Half a millisecond is a whole one: a delay of none would be no wait."""
    assert [CircuitOpen("a", left).retry_after for left in (0.0, 0.0004, 0.0012, 2.0)] == [0.001, 0.001, 0.002, 2.0]


def test_an_agent_that_fails_again_and_again_is_left_alone_and_tried_later(execution, log):
    """The refusal comes at once, is transient, and says when another try makes sense."""
    patient = Patient()
    trip(execution, patient)
    refusal = patient.run(execution, conversation="another").outcome()
    assert isinstance(refusal, CircuitOpen)
    judged = classify(refusal)
    assert (judged.type, str(judged.error_class)) == ("circuit_open", "transient")
    assert 0 < judged.retry_after <= 0.2
    assert (patient.calls, state(execution)) == (3, "open")
    patient.error = None
    wait_until(lambda: execution.breakers.refusal("patient") is None)
    assert isinstance(patient.run(execution).outcome(), NodeResult)
    assert state(execution) == "closed"
    assert [name for name, _, _ in log.events] == ["breaker_opened", "breaker_half_open", "breaker_closed"]


def test_one_probe_at_a_time_and_a_probe_given_up_makes_room(execution):
    """While the probe is under way others are refused; its conversation being cancelled does not block the agent."""
    patient = Patient()
    trip(execution, patient)
    wait_until(lambda: execution.breakers.refusal("patient") is None)
    patient.free.clear()
    probe = patient.run(execution)
    wait_until(lambda: patient.calls == 4)
    assert isinstance(patient.run(execution).outcome(), CircuitOpen)
    probe.call.abandon()
    second = patient.run(execution)
    wait_until(lambda: patient.calls == 5)
    patient.error = None
    patient.free.set()
    assert isinstance(second.outcome(), NodeResult)
    assert state(execution) == "closed"


def test_polite_refusals_are_not_counted(execution):
    """A 429 or a Retry-After is waited out by the backoff; the breaker has nothing to do with it."""
    patient = Patient()
    patient.error = TransientError("slowly", retry_after=1.0)
    for _ in range(10):
        assert isinstance(patient.run(execution).outcome(), TransientError)
    assert (patient.calls, state(execution)) == (10, "closed")


def test_those_that_wait_for_a_place_are_refused_when_their_turn_comes(execution):
    """A queue before an agent that has just been given up does not run it dry against a dead service."""
    patient = Patient(max_concurrency=1)
    patient.free.clear()
    told = [patient.run(execution, conversation=f"c{n}") for n in range(20)]
    patient.free.set()
    outcomes = [each.outcome() for each in told]
    assert sum(isinstance(each, ConnectionError) for each in outcomes) == 3
    assert sum(isinstance(each, CircuitOpen) for each in outcomes) == 17
    assert patient.calls == 3


def test_an_agent_may_say_how_patient_we_are_to_be(execution):
    """Its own options win; 0 switches its breaker off."""
    patient = Patient(breaker_failures=0)
    for _ in range(20):
        patient.run(execution).outcome()
    assert patient.calls == 20
    hasty = Patient(breaker_failures=1, breaker_reset=60.0)
    hasty.spec = replace(hasty.spec, name="hasty")
    hasty.run(execution).outcome()
    assert hasty.run(execution).outcome().retry_after > 50


def test_calls_through_one_breaker_run_side_by_side(execution):
    """Eight calls are inside the agent at the same moment."""
    spec = spec_of(agents.block)
    told = [run(execution, agents.block, spec=spec) for _ in range(8)]
    wait_until(lambda: execution.stats()["busy"] == 8)
    agents.RELEASE.set()
    assert all(isinstance(each.outcome(), NodeResult) for each in told)


def test_a_conversation_with_a_hundred_waiting_nodes_does_not_starve_another(execution):
    """The second conversation is served second, not hundred and first; waiting does not count as the agent's time."""
    order = []

    def slow(who: str) -> str:
        """Take a while."""
        order.append(who)
        time_passes.wait(0.01)
        return who

    time_passes = threading.Event()
    spec = make_spec(slow, {"max_concurrency": 1})
    hog = [run(execution, None, spec=spec, conversation="hog", timeout=0.5, who="hog") for _ in range(100)]
    other = [run(execution, None, spec=spec, conversation="other", timeout=0.5, who="other") for _ in range(3)]
    assert execution.stats()["agents"]["slow"]["waiting"] > 90
    assert all(isinstance(each.outcome(), NodeResult) for each in other)
    assert order.count("hog") < 30
    assert all(isinstance(each.outcome(), NodeResult) for each in hog), "the last one waited longer than its timeout"


def test_an_agent_that_leaves_threads_behind_is_refused_until_they_end(execution):
    """Two of its calls hang for good: it gets no third thread, others get theirs, and it is called again afterwards."""
    execution.abandoned_limit = 2
    patient = Patient(breaker_failures=0)
    patient.error = None
    patient.free.clear()
    for _ in range(2):
        assert isinstance(patient.run(execution, timeout=0.01).outcome(), AgentTimeout)
    refusal = patient.run(execution).outcome()
    judged = classify(refusal)
    assert (judged.type, str(judged.error_class)) == ("too_many_abandoned", "transient")
    assert "2 calls of patient were given up and still run" in judged.message
    shown = execution.stats()["agents"]["patient"]
    assert (shown["abandoned"], shown["refused"], patient.calls) == (2, True, 2)
    assert run(execution, agents.add, a=2, b=3).outcome().result == 5
    patient.free.set()
    wait_until(lambda: not execution.stats()["agents"]["patient"]["refused"])
    assert isinstance(patient.run(execution).outcome(), NodeResult)


def test_an_agent_whose_tasks_do_not_obey_is_refused_until_they_end(execution, monkeypatch):
    """Each of them goes on running on the loop; the limit on threads alone would let them become more for ever."""
    monkeypatch.setattr(event_loop, "_CLEAN_UP", 0.01)
    execution.abandoned_limit = 2
    execution.breakers.default = BreakerSpec(failures=0)
    lane = execution.quick_lane(lambda _name: spec_of(agents.add_async))
    assert lane.run([node("add_async", a=1)], lambda _told: None) != [None]
    for _ in range(2):
        assert isinstance(run(execution, agents.stubborn, timeout=0.01).outcome(), AgentTimeout)
    wait_until(lambda: execution.stats()["agents"]["stubborn"]["refused"])
    refusal = run(execution, agents.stubborn).outcome()
    assert classify(refusal).type == "too_many_abandoned"
    assert execution.stats()["agents"]["stubborn"]["abandoned"] == 2
    assert lane.run([node("add_async", a=1)], lambda _told: None) == [None], "the lane looks at no limits"
    assert run(execution, agents.add_async, a=2, b=3).outcome().result == 5
    agents.RELEASE.set()
    wait_until(lambda: not execution.stats()["agents"]["stubborn"]["refused"])
    assert run(execution, agents.stubborn).outcome().result == "late"


def test_a_task_that_obeys_in_its_time_is_not_left_behind(execution, monkeypatch):
    """Many calls given up at once, as by a cancelled plan, must not refuse the next one."""
    execution.abandoned_limit = 2
    execution.breakers.default = BreakerSpec(failures=0)
    for _ in range(5):
        assert isinstance(run(execution, agents.wait_async, timeout=0.01).outcome(), AgentTimeout)
    monkeypatch.setattr(event_loop, "_CLEAN_UP", 0.0)
    assert isinstance(run(execution, agents.wait_async, timeout=0.01).outcome(), AgentTimeout)
    assert not execution.stats()["agents"]["wait_async"]["refused"]


def test_a_planner_that_hangs_takes_no_more_threads_than_an_agent_may(execution):
    """The threads are the agents' too: without a bound a few dozen hanging plans stopped every blocking agent."""
    execution.abandoned_limit = 2

    def think():
        ended, told = threading.Event(), []
        execution.run_function(
            agents.RELEASE.wait,
            30,
            timeout=0.01,
            done=lambda outcome: (told.append(outcome), ended.set()),
            name="planner",
        )
        assert ended.wait(DEADLINE)
        return told[0]

    assert [type(think()) for _ in range(2)] == [AgentTimeout] * 2
    for _ in range(10):
        assert classify(think()).type == "too_many_abandoned"
    assert run(execution, agents.add, a=2, b=3).outcome().result == 5
    agents.RELEASE.set()
    wait_until(lambda: execution.stats()["abandoned"] == 0)
    assert think() is True


def test_threads_that_an_async_agent_leaves_behind_are_counted_to_it(execution):
    """What waits in `asyncio.to_thread`, or for a name to be looked up, holds one of the threads that all share."""
    execution.abandoned_limit = 2
    execution.breakers.default = BreakerSpec(failures=0)
    for _ in range(2):
        assert isinstance(run(execution, agents.to_thread, timeout=0.05).outcome(), AgentTimeout)
    wait_until(lambda: execution.stats()["agents"]["to_thread"]["refused"])
    assert execution.stats()["agents"]["to_thread"]["abandoned"] == 2
    assert classify(run(execution, agents.to_thread).outcome()).type == "too_many_abandoned"
    assert run(execution, agents.add_async, a=2, b=3).outcome().result == 5
    agents.RELEASE.set()
    wait_until(lambda: not execution.stats()["agents"]["to_thread"]["refused"])
    assert run(execution, agents.to_thread).outcome().result == "late"
