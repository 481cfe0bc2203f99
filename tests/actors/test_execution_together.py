"""Calls of all kinds beside each other: what asyncio offers inside agents, places, progress, and the end of it all."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import execution_agents as agents
import pytest
from actors_support import DEADLINE, wait_until
from execution_support import is_alive, run

from actors.blocking_pool import PoolExhausted
from actors.execution import Execution
from agents.decorator import spec_of
from agents.errors import AgentTimeout
from messages.agent import NodeResult


@pytest.fixture
def execution():
    agents.RELEASE.clear()
    made = Execution()
    made.start()
    yield made
    agents.RELEASE.set()
    assert made.stop(DEADLINE) == []


def all_work(execution):
    for agent in (agents.double, agents.double_async, agents.double_process):
        told = run(execution, agent, x=4)
        assert told.outcome().result == 8
        assert told.progress == ["doubling 4"]


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("timeout", "timed out inside"),
        ("group", "3"),
        ("generator", "abc"),
        ("to_thread", "from a thread"),
        ("exit_in_task", "went on"),
        ("stop_loop", "still here"),
    ],
)
def test_what_asyncio_offers_works_inside_agents(execution, kind, result):
    assert run(execution, agents.structured, kind=kind).outcome().result == result
    all_work(execution)


def test_a_task_group_that_fails_inside_an_agent_is_its_outcome(execution):
    assert isinstance(run(execution, agents.structured, kind="failing_group").outcome(), ExceptionGroup)
    all_work(execution)


@pytest.mark.parametrize("agent", [agents.blocking, agents.waiting, agents.loop_blocker])
def test_progress_after_the_end_is_not_passed_on(execution, agent):
    told = run(execution, agent, timeout=0.1)
    assert isinstance(told.outcome(), AgentTimeout)
    agents.RELEASE.set()
    wait_until(lambda: execution.stats()["agents"][agent.__name__]["abandoned"] == 0)
    all_work(execution)
    assert told.progress == ["began"]


def test_never_more_at_once_than_allowed_and_places_come_back_on_timeout_and_abandonment(execution):
    spec = replace(spec_of(agents.waiting), max_concurrency=2)

    def begin(**options):
        return run(execution, agents.waiting, spec=spec, **options)

    def stats(figure):
        return execution.stats()["agents"]["waiting"][figure]

    first, second = begin(), begin()
    wait_until(lambda: first.progress and second.progress)
    third, fourth = begin(timeout=0.1), begin(timeout=0.1)
    assert stats("waiting") == 2
    assert third.progress == []
    first.call.abandon()
    assert isinstance(third.outcome(), AgentTimeout)
    assert isinstance(fourth.outcome(), AgentTimeout)
    fifth = begin()
    wait_until(lambda: fifth.progress)
    fifth.call.abandon()
    second.call.abandon()
    wait_until(lambda: stats("running") == 0)


def test_a_process_inherits_no_descriptors(execution, tmp_path):
    with (tmp_path / "private").open("w") as private:
        os.set_inheritable(private.fileno(), True)
        opened = run(execution, agents.worker, what="descriptors").outcome().result["open"]
    assert not [name for name in opened if "private" in name or "socket" in name]
    assert len([name for name in opened if name.startswith("pipe")]) <= 4


@pytest.mark.parametrize("agent", [agents.double, agents.double_async, agents.double_process])
def test_the_size_of_a_result_may_be_changed_while_agents_are_warm(execution, agent):
    for most, fits in ((2, False), (10, True), (3, False)):
        execution.bounds.result_bytes = most
        outcome = run(execution, agent, x=1000).outcome()
        assert isinstance(outcome, NodeResult) is fits, outcome
        assert fits or "at most" in str(outcome)


def test_stop_leaves_no_thread_and_no_process_of_any_call():
    before = set(threading.enumerate())
    execution = Execution()
    execution.start()
    all_work(execution)
    waits, hangs = run(execution, agents.waiting), run(execution, agents.worker, what="hang")
    wait_until(lambda: waits.progress and hangs.progress)
    pid = int(hangs.progress[0])
    assert execution.stop(DEADLINE) == []
    wait_until(lambda: not is_alive(pid))
    wait_until(lambda: set(threading.enumerate()) <= before)
    assert isinstance(run(execution, agents.double, x=1).outcome(), PoolExhausted)
