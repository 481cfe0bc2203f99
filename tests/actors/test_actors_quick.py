"""The quick lane: what ends at once comes back together; all else is handed over as it is."""

from __future__ import annotations

import queue
import threading
from types import SimpleNamespace

import execution_agents as agents
import pytest
from actors_support import DEADLINE, wait_until
from execution_support import node

from actors.execution import Execution
from actors.quick import SLOW_AFTER, QuickEnded, QuickLane, QuickSlow
from agents.decorator import spec_of
from agents.errors import AgentTimeout
from messages.agent import NodeResult, Progress
from supervision.breaker import BreakerSpec

NAMES = ("double_async", "meeting", "raising_async", "waiting", "loop_blocker", "double")


class Lane:
    """An execution with some agents, and everything the lane tells."""

    def __init__(self, **changes):
        self.late = queue.SimpleQueue()
        self.execution = Execution(
            on_late=lambda _order, reason: self.late.put(reason), breaker=BreakerSpec(failures=2)
        )
        self.specs = {name: spec_of(getattr(agents, name)) for name in NAMES} | changes
        self.lane = self.execution.quick_lane(self.specs.get)
        self.execution.start()
        self.told = queue.SimpleQueue()

    def run(self, *orders):
        return self.lane.run(orders, self.told.put)

    def next(self, kind):
        """The next thing told of a kind, past all others."""
        while True:
            told = self.told.get(timeout=DEADLINE)
            if isinstance(told, kind):
                return told

    def running(self, name):
        return self.execution.stats()["agents"][name]["running"]


class Slept:
    """A host that stands still between two steps."""

    def __init__(self, host):
        self._host = host

    def __getattr__(self, name):
        return getattr(self._host, name)

    def now(self):
        """Each look at the clock is a second after the one before."""
        self.time = getattr(self, "time", 0.0) + 1.0
        return self.time

    def begin_quick(self, batch):
        self.before_it_begins()
        self._host.begin_quick(batch)


@pytest.fixture
def lane():
    agents.RELEASE.clear()
    lane = Lane()
    yield lane
    agents.RELEASE.set()
    assert lane.execution.stop(DEADLINE) == []


def test_what_ends_late_or_fails_comes_with_its_outcome_and_progress_comes_before(lane):
    calls = lane.run(node("double_async", name="a", x=4), node("raising_async", name="b", kind="value"))
    ended, said = {}, []
    while len(ended) < 2:
        told = lane.told.get(timeout=DEADLINE)
        if isinstance(told, QuickEnded):
            ended |= {call.order.node: call.outcome for call in told.calls}
        else:
            said.append((told.node, told.text))
    assert said == [("a", "doubling 4")]
    assert isinstance(ended["b"], ValueError)
    assert (ended["a"].result, ended["a"].result_json, ended["a"].attempt) == (8, b"8", 2)
    assert all(call.over for call in calls)
    assert lane.running("double_async") == 0


def test_what_ends_at_its_first_step_comes_back_in_one_message(lane):
    orders = [node("raising_async", name=name, kind="value") for name in "abc"]
    lane.run(*orders)
    assert [call.order.node for call in lane.next(QuickEnded).calls] == ["a", "b", "c"]


def test_what_waits_for_the_same_thing_comes_back_in_one_message(lane):
    """One step of the journal for all of it, as when nothing waits."""
    lane.run(*(node("meeting", name=name) for name in "abc"))
    assert sorted(call.order.node for call in lane.next(QuickEnded).calls) == ["a", "b", "c"]


def test_what_takes_its_time_is_handed_over_and_keeps_its_timeout_on_a_blocked_loop(lane):
    """The clock runs from the beginning, whoever holds the loop up."""
    calls = lane.run(node("loop_blocker", name="blocks"), node("waiting", name="waits", timeout=2.5 * SLOW_AFTER))
    slow = lane.next(QuickSlow)
    assert list(slow.calls) == calls
    outcomes = queue.SimpleQueue()
    calls[1].adopt(outcomes.put)
    assert isinstance(outcomes.get(timeout=DEADLINE), AgentTimeout)
    calls[0].adopt(outcomes.put)
    agents.RELEASE.set()
    assert outcomes.get(timeout=DEADLINE).result == "late"
    assert lane.told.empty() or not isinstance(lane.told.get_nowait(), QuickEnded), "the heir was told, nobody else is"


def test_an_outcome_that_came_before_the_heir_is_told_to_it(lane):
    (call,) = lane.run(node("double_async", x=1))
    lane.next(QuickEnded)
    outcomes = queue.SimpleQueue()
    call.adopt(outcomes.put)
    assert isinstance(outcomes.get_nowait(), NodeResult)


def test_what_is_given_up_is_stopped_frees_its_place_and_tells_nothing(lane):
    (call,) = lane.run(node("waiting"))
    lane.next(Progress)
    assert lane.running("waiting") == 1
    call.abandon()
    assert lane.running("waiting") == 0
    call.adopt(lambda _outcome: pytest.fail("it was given up"))
    wait_until(lambda: call.outcome is None and not lane.execution._loop._tasks)
    assert lane.late.empty(), "its cancellation is our own doing, and no late result"


def test_what_ends_after_it_was_given_up_is_late(lane):
    (call,) = lane.run(node("loop_blocker"))
    lane.next(Progress)
    call.abandon()
    agents.RELEASE.set()
    assert "given up" in lane.late.get(timeout=DEADLINE)


def test_what_was_given_up_before_it_began_is_never_run(lane):
    (blocker,) = lane.run(node("loop_blocker"))
    lane.next(Progress)
    (call,) = lane.run(node("double_async", x=3))
    call.abandon()
    agents.RELEASE.set()
    assert lane.next(QuickEnded).calls[0] is blocker
    lane.run(node("raising_async", kind="value"))
    assert lane.next(QuickEnded).calls[0].order.agent == "raising_async"
    assert call.outcome is None


def test_what_is_handed_over_before_the_loop_was_told_of_it_is_begun_all_the_same(lane):
    """A thread may stand still at any place for longer than an attempt may take before it is handed over."""
    host, looks = Slept(lane.execution._quick), queue.SimpleQueue()
    host.quick_timers = SimpleNamespace(schedule=lambda _seconds, look: looks.put(look))
    host.before_it_begins = lambda: looks.empty() or looks.get_nowait()()
    lane.lane = QuickLane(host, lane.specs.get)
    lane.run(node("double_async", x=4))
    assert lane.next(QuickEnded).calls[0].outcome.result == 8


def test_blocking_agents_unknown_ones_short_timeouts_and_full_gates_are_not_for_this_lane():
    spec = spec_of(agents.waiting)
    lane = Lane(waiting=type(spec)(**{**vars_of(spec), "max_concurrency": 1}))
    try:
        orders = [
            node("double", x=1),
            node("nobody"),
            node("double_async", x=1, timeout=SLOW_AFTER),
            node("waiting"),
            node("waiting"),
        ]
        made = lane.run(*orders)
        assert [call is None for call in made] == [True, True, True, False, True]
        assert lane.running("waiting") == 1
    finally:
        agents.RELEASE.set()
        assert lane.execution.stop(DEADLINE) == []


def vars_of(spec):
    return {name: getattr(spec, name) for name in type(spec).__dataclass_fields__}


def test_failures_open_the_breaker_and_an_open_one_keeps_the_agent_off_the_lane(lane):
    for _ in range(2):
        lane.run(node("raising_async", kind="flaky"))
        lane.next(QuickEnded)
    # An error of unknown kind counts, and the second opened it.
    assert lane.execution.stats()["agents"]["raising_async"]["breaker"] == "open"
    assert lane.run(node("raising_async", kind="value")) == [None]


def test_many_threads_use_the_lane_at_once_and_each_hears_of_its_own(lane):
    def use(number):
        told = queue.SimpleQueue()
        calls = lane.lane.run([node("double_async", name=f"n{i}", x=i) for i in range(20)], told.put)
        left = set(calls)
        while left:
            message = told.get(timeout=DEADLINE)
            if isinstance(message, QuickEnded):
                left -= set(message.calls)
        results[number] = [call.outcome.result for call in calls]

    results = {}
    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert results == {number: [2 * i for i in range(20)] for number in range(8)}
    assert lane.running("double_async") == 0
