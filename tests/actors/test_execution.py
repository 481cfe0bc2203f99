"""Calls of async and blocking agents: results, timeouts, what they raise, how many run at once, and how it all ends."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import misbehaving_agents as agents
import pytest
from actors_support import DEADLINE, Log, wait_until
from execution_support import node, run, threads, took

from actors.blocking_pool import PoolExhausted
from actors.execution import Execution
from actors.remote_error import RemoteError
from agents.decorator import spec_of
from agents.errors import AgentTimeout, ContractViolation, ResultTooLarge
from messages.agent import NodeResult
from supervision.errors import classify

RAISED = sorted(agents.RAISED)
CLOSED = {"breaker": "closed", "breaker_left": 0.0, "refused": False}


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def late():
    return []


@pytest.fixture
def execution(log, late):
    """An execution that must end, with every thread it started."""
    agents.RELEASE.clear()
    before = threads()
    made = Execution(
        threads=4,
        max_result_bytes=100_000,
        log=log,
        on_late=lambda call, text: late.append((call, text)),
        loop_blocked_after=0.05,
    )
    made.start()
    yield made
    agents.RELEASE.set()
    assert made.stop(DEADLINE) == []
    wait_until(lambda: threads() <= before)
    agents.RELEASE.clear()


# Results


@pytest.mark.parametrize("agent", [agents.add, agents.add_async])
def test_a_result_is_plain_data_with_its_json(execution, agent):
    told = run(execution, agent, a=2, b=3)
    result = told.outcome()
    assert isinstance(result, NodeResult)
    assert (result.result, result.result_json, result.node, result.attempt) == (5, b"5", "n1", 2)
    assert result.duration_ms >= 0


@pytest.mark.parametrize("agent", [agents.add, agents.add_async])
def test_inputs_that_break_the_contract_are_told_not_raised(execution, agent):
    error = run(execution, agent, a="two").outcome()
    assert isinstance(error, ContractViolation)
    assert "a" in str(error) and "two" in str(error)


def test_a_copy_that_an_agent_forked_ends_where_the_agent_ends(execution):
    """It has none of the daemon's other threads: it waited for ever, with the daemon's memory."""
    assert run(execution, agents.split_thread).outcome().result == 0


def test_a_result_that_breaks_the_contract_is_an_error(execution):
    assert isinstance(run(execution, agents.wrong).outcome(), ContractViolation)


@pytest.mark.parametrize("agent", [agents.add, agents.add_async])
def test_a_result_too_large_is_an_error(agent):
    execution = Execution(max_result_bytes=2)
    execution.start()
    assert isinstance(run(execution, agent, a=1000).outcome(), ResultTooLarge)
    assert execution.stop(DEADLINE) == []


def test_agents_run_on_threads_of_their_own(execution):
    """Neither binding nor encoding happens on the caller's thread."""
    for agent in (agents.add, agents.add_async):
        told = run(execution, agent, a="two")
        told.outcome()
        assert threading.current_thread() not in told.threads


@pytest.mark.parametrize("agent", [agents.told, agents.told_async])
def test_the_agent_knows_its_call_and_so_do_its_log_lines(execution, agent):
    told = run(execution, agent)
    assert told.outcome().result == {
        "conversation_id": "c1",
        "request_id": "r1",
        "node_id": "n1",
        "agent": agent.__name__,
        "attempt": 2,
        "key": "key-1",
    }
    assert told.progress == ["half way"]


def test_nothing_of_a_call_is_left_in_its_thread(execution):
    """The next job in the same thread starts with an empty context."""
    import structlog

    run(execution, agents.told).outcome()
    seen = []
    ended = threading.Event()
    execution.run_function(
        structlog.contextvars.get_contextvars, timeout=5, done=lambda value: (seen.append(value), ended.set())
    )
    assert ended.wait(DEADLINE)
    assert seen == [{}]


def test_progress_is_limited(execution):
    told = run(execution, agents.chatty)
    told.outcome()
    assert 1 <= len(told.progress) <= 60  # 20 a second, and the seconds may change meanwhile


# Timeouts


@pytest.mark.parametrize(
    "agent", [agents.block, agents.block_loop, agents.wait_async, agents.to_thread, agents.stubborn]
)
def test_a_timeout_holds_whatever_the_agent_does(execution, agent):
    """Also when it blocks its thread, when it blocks the loop, and when it ignores being cancelled."""
    since = time.monotonic()
    told = run(execution, agent, timeout=0.1)
    error = told.outcome()
    assert isinstance(error, AgentTimeout)
    assert str(error) == "no result within 0.1 s"
    assert took(since) < 1.0
    agents.RELEASE.set()
    wait_until(lambda: execution.stats()["agents"][agent.__name__]["abandoned"] == 0)
    assert told.count == 1


@pytest.mark.parametrize("agent", [agents.block, agents.stubborn, agents.block_loop])
def test_a_late_result_is_told_as_late_and_nothing_else(execution, late, log, agent):
    told = run(execution, agent, timeout=0.05)
    told.outcome()
    agents.RELEASE.set()
    wait_until(lambda: late)
    assert [(call.node, text) for call, text in late] == [("n1", "a result came after attempt 2 was given up")]
    assert told.count == 1
    assert len(log.named("late_result")) == 1


def test_a_cancelled_task_is_no_late_result(execution, late):
    run(execution, agents.wait_async, timeout=0.05).outcome()
    wait_until(lambda: execution.stats()["agents"]["wait_async"]["abandoned"] == 0)
    assert late == []


def test_waiting_for_a_thread_does_not_count(execution):
    """The timeout begins when the agent does."""
    held = [run(execution, agents.block) for _ in range(4)]
    wait_until(lambda: execution.stats()["busy"] == 4)
    waiting = run(execution, agents.add, a=1, timeout=0.01)
    assert execution.stats()["waiting"] == 1
    assert not threading.Event().wait(0.05)
    agents.RELEASE.set()
    assert waiting.outcome().result == 2
    assert [told.outcome().result for told in held] == ["late"] * 4


# Abandoned threads


def test_abandoned_threads_are_replaced_up_to_a_limit(execution, log):
    """Capacity stays while threads hang; beyond as many as the pool has, calls are refused until they end."""
    for count in range(1, 5):
        run(execution, agents.block, timeout=0.01).outcome()
        wait_until(lambda count=count: execution.stats()["abandoned"] == count)
        if count < 4:
            assert run(execution, agents.add, a=count).outcome().result == count + 1
    refused = run(execution, agents.add, a=1).outcome()
    assert isinstance(refused, PoolExhausted)
    assert classify(refused).error_class == "transient"
    assert execution.stats()["agents"]["block"]["abandoned"] == 4
    assert execution.stats()["agents"]["add"]["running"] == 0
    wait_until(lambda: len(log.named("agent_abandoned")) == 4)
    assert run(execution, agents.add_async, a=1).outcome().result == 2
    agents.RELEASE.set()
    wait_until(lambda: execution.stats()["abandoned"] == 0)
    assert run(execution, agents.add, a=1).outcome().result == 2


def test_a_queued_call_gets_the_place_of_one_that_is_abandoned(execution):
    held = [run(execution, agents.block) for _ in range(4)]
    wait_until(lambda: execution.stats()["busy"] == 4)
    queued = run(execution, agents.add, a=1)
    held[2].call.abandon()
    assert queued.outcome().result == 2
    assert execution.stats()["busy"] == 3


def test_every_queued_call_runs_however_many_threads_are_abandoned(execution):
    blocked = [run(execution, agents.block, timeout=0.05) for _ in range(3)]
    added = [run(execution, agents.add, a=number) for number in range(200)]
    assert [told.outcome().result for told in added] == list(range(1, 201))
    assert all(isinstance(told.outcome(), AgentTimeout) for told in blocked)


def test_hung_threads_of_asyncio_are_replaced(execution):
    """`asyncio.to_thread` goes through a pool of ours: hung calls do not use its threads up."""
    for _ in range(3):
        run(execution, agents.to_thread, timeout=0.02).outcome()
    wait_until(lambda: execution._to_thread.stats()["abandoned"] == 3)
    told = run(execution, agents.to_thread)
    wait_until(lambda: execution._to_thread.stats()["busy"] == 1)
    agents.RELEASE.set()
    assert told.outcome().result == "late"


def test_a_call_given_up_in_the_queue_never_runs(execution):
    held = [run(execution, agents.block) for _ in range(4)]
    wait_until(lambda: execution.stats()["busy"] == 4)
    ran = []
    call = execution.run_function(ran.append, 1, timeout=5, done=ran.append)
    call.abandon()
    agents.RELEASE.set()
    assert all(told.outcome().result == "late" for told in held)
    assert run(execution, agents.add, a=1).outcome().result == 2
    assert ran == []


# Whatever is raised


@pytest.mark.parametrize("agent", [agents.fail, agents.fail_async, agents.fail_in_subtask])
@pytest.mark.parametrize("kind", RAISED)
def test_whatever_is_raised_is_the_outcome_and_disturbs_nobody(execution, agent, kind):
    error = run(execution, agent, kind=kind).outcome()
    expected = (
        "RuntimeError" if kind == "StopIteration" and agent is not agents.fail else type(agents.RAISED[kind]()).__name__
    )
    assert type(error).__name__ == expected
    for other in (agents.add, agents.add_async):
        assert run(execution, other, a=1).outcome().result == 2
    assert execution.stats()["threads"] <= 2


def test_a_done_that_raises_disturbs_nobody(execution, log):
    def done(_outcome):
        raise RuntimeError("not my day")

    for agent in (agents.add, agents.add_async):
        execution.run(spec_of(agent), node(agent.__name__, a=1), done=done, progress=print)
        assert run(execution, agent, a=1).outcome().result == 2
    # The other call of the same agent may have ended on another thread before.
    wait_until(lambda: len(log.named("loop_task_failed")) == 2)
    assert [fields["error_message"] for _, fields in log.named("loop_task_failed")] == ["not my day"] * 2


# Giving up


@pytest.mark.parametrize("agent", [agents.wait_async, agents.block])
def test_an_abandoned_call_is_never_told(execution, agent):
    told = run(execution, agent)
    wait_until(lambda: told.call.began is not None)
    told.call.abandon()
    told.call.abandon()
    agents.RELEASE.set()
    wait_until(lambda: execution.stats()["agents"][agent.__name__]["abandoned"] == 0)
    assert told.count == 0
    assert execution.stats()["agents"][agent.__name__]["running"] == 0


# How many at once


def test_an_agent_runs_so_many_times_at_once_and_conversations_take_turns(execution):
    """Three of c1 are waiting before c2 comes; c2 is second all the same."""
    spec = replace(spec_of(agents.block), max_concurrency=1)
    order = []
    told = [run(execution, agents.block, spec=spec)]
    wait_until(lambda: execution.stats()["busy"] == 1)
    for conversation, name in (("c1", "a"), ("c1", "b"), ("c1", "c"), ("c2", "d"), ("c2", "e")):
        one = run(execution, agents.block, spec=spec, conversation=conversation, name=name)
        one.outcomes = _Names(order, name)
        told.append(one)
    assert execution.stats()["agents"]["block"] == {"running": 1, "waiting": 5, "limit": 1, "abandoned": 0, **CLOSED}
    assert execution.stats()["busy"] == 1
    told[3].call.abandon()  # c
    agents.RELEASE.set()
    wait_until(lambda: len(order) == 4)
    assert order == ["a", "d", "b", "e"]
    wait_until(lambda: execution.stats()["agents"]["block"]["running"] == 0)


class _Names:
    """In place of the queue of outcomes: puts a name into a list."""

    def __init__(self, order, name):
        self.order, self.name = order, name

    def put(self, _outcome):
        self.order.append(self.name)


def test_a_thousand_waiting_calls_that_are_given_up_let_the_next_one_in(execution):
    spec = replace(spec_of(agents.block), max_concurrency=1)
    first = run(execution, agents.block, spec=spec)
    waiting = [run(execution, agents.block, spec=spec, conversation=f"c{n}") for n in range(3000)]
    for told in waiting[:-1]:
        told.call.abandon()
    agents.RELEASE.set()
    assert first.outcome().result == "late"
    assert waiting[-1].outcome().result == "late"


def test_thousands_of_calls_that_fail_at_once_do_not_pile_up(execution):
    """Each one that is refused lets the next one in; that must not be a recursion."""
    spec = replace(spec_of(agents.block), name="one_at_a_time", max_concurrency=1)
    first = run(execution, agents.block, spec=spec)
    waiting = [run(execution, agents.block, spec=spec) for _ in range(3000)]
    for _ in range(3):
        run(execution, agents.block, timeout=0.01).outcome()
    first.call.abandon()
    assert all(isinstance(told.outcome(), PoolExhausted) for told in waiting)


# Functions


def test_functions_of_any_kind_run(execution):
    told = []
    ended = threading.Semaphore(0)

    def done(outcome):
        told.append(outcome)
        ended.release()

    async def later(number):
        return number

    for function, arguments in ((abs, (-1,)), (later, (2,)), (lambda: later(3), ()), (int, ("x",))):
        execution.run_function(function, *arguments, timeout=5, done=done)
        assert ended.acquire(timeout=DEADLINE)
    assert told[:3] == [1, 2, 3]
    assert isinstance(told[3], ValueError)


def test_a_function_is_held_to_its_timeout(execution):
    told = []
    ended = threading.Event()
    execution.run_function(agents.RELEASE.wait, 30, timeout=0.05, done=lambda error: (told.append(error), ended.set()))
    assert ended.wait(DEADLINE)
    assert isinstance(told[0], AgentTimeout)


# The watchdog


@pytest.mark.parametrize("agent", [agents.block_loop, agents.block_loop_in_subtask])
def test_the_agent_that_blocks_the_loop_is_named(execution, log, agent):
    told = run(execution, agent)
    wait_until(lambda: log.named("loop_blocked"))
    agents.RELEASE.set()
    assert told.outcome().result == "late"
    blocked = log.named("loop_blocked")
    assert len(blocked) == 1
    fields = blocked[0][1]
    assert fields["agent"] == agent.__name__
    assert "misbehaving_agents.py" in fields["stack"]
    assert fields["seconds"] >= 0.05


def test_an_agent_that_holds_the_interpreter_is_named(execution, log):
    """Nothing runs meanwhile, not even the watchdog; it says so afterwards."""
    assert run(execution, agents.hold_interpreter).outcome().result == "done"
    wait_until(lambda: log.named("loop_blocked"))
    fields = log.named("loop_blocked")[0][1]
    assert fields["agent"] is None
    assert fields["stack"].startswith("the whole interpreter stood still")
    assert fields["seconds"] >= 0.05


def test_an_agent_that_stops_the_loop_stops_nothing(execution):
    async def stop_loop():
        import asyncio

        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return 1

    ended = threading.Event()
    execution.run_function(stop_loop, timeout=5, done=lambda _outcome: ended.set())
    assert ended.wait(DEADLINE)
    assert run(execution, agents.add_async, a=1).outcome().result == 2


# The end


def test_stop_names_what_does_not_end_and_takes_nothing_more():
    agents.RELEASE.clear()
    agents.HOLDING.clear()
    before = threads()
    execution = Execution(threads=2, loop_blocked_after=0.05)
    execution.start()
    blocked, looping = run(execution, agents.block), run(execution, agents.block_loop)
    wait_until(lambda: blocked.call.began is not None and agents.HOLDING.is_set())
    since = time.monotonic()
    assert execution.stop(0.2) == ["block_loop@c1/n1", "block@c1/n1"]
    assert took(since) < 2
    assert isinstance(run(execution, agents.add, a=1).outcome(), PoolExhausted)
    agents.RELEASE.set()
    wait_until(lambda: threads() <= before)
    assert (blocked.count, looping.count) == (0, 0)
    assert execution.stop(DEADLINE) == []
    agents.RELEASE.clear()


def test_stop_cancels_async_calls_without_a_word():
    execution = Execution()
    execution.start()
    told = run(execution, agents.wait_async)
    wait_until(lambda: told.call.began is not None)
    assert execution.stop(DEADLINE) == []
    assert told.count == 0


def test_an_execution_that_was_never_started_can_be_stopped():
    execution = Execution()
    told = run(execution, agents.add_async, a=1)
    assert execution.stop(DEADLINE) == []
    assert told.count == 0


def test_remote_errors_survive_nonsense():
    """What a broken worker process says is still only an error."""
    for nonsense in (
        {},
        {"mro": 3},
        {"mro": ["builtins.BaseExceptionGroup"], "errno": "x"},
        {"leaves": [{}], "text": 5},
    ):
        assert classify(RemoteError(nonsense)).error_class == "transient"
