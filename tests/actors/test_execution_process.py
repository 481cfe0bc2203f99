"""Calls of agents in worker processes: what comes back, what they may know, how they die, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import misbehaving_agents as agents
import pytest
from actors_support import DEADLINE, Log, wait_until
from execution_support import descriptors, is_alive, pids_in, run, threads, took

from actors.bounds import Bounds
from actors.execution import Execution
from actors.worker_process import ENVIRONMENT, WorkerDied, WorkerProcess
from agents.decorator import spec_of
from agents.errors import AgentTimeout
from supervision.errors import ErrorClass, classify

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def log():
    return Log()


@pytest.fixture(scope="module")
def execution(log):
    """One execution for all tests, so that its warm processes serve them all; it must end with all it started."""
    before = threads()
    made = Execution(max_result_bytes=2_000_000, log=log)
    made.start()
    yield made
    pids = made._workers.pids()
    assert pids
    assert made.stop(DEADLINE) == []
    assert not any(is_alive(pid) for pid in pids)
    wait_until(lambda: threads() <= before)


# What comes back


@pytest.mark.parametrize("how", ["return", "raise"])
def test_a_copy_that_the_agent_forked_answers_for_nobody(execution, how):
    """Its answer would be that of the next call, which is another conversation's."""
    for _ in range(3):
        told = run(execution, agents.split, how=how)
        assert told.outcome().result == "from the worker"
        assert told.progress == []


def test_a_result_comes_back_as_from_a_thread(execution):
    result = run(execution, agents.add_process, a=2, b=3).outcome()
    assert (result.result, result.result_json, result.node, result.attempt) == (5, b"5", "n1", 2)


def test_a_process_serves_many_calls(execution):
    pids = {run(execution, agents.pid).outcome().result for _ in range(20)}
    assert len(pids) == 1
    assert is_alive(pids.pop())


def test_two_calls_run_at_once_and_no_more(execution):
    """Without a `max_concurrency` an agent has two processes at most."""
    told = [run(execution, agents.pid) for _ in range(20)]
    assert len({one.outcome().result for one in told}) <= 2
    assert execution.stats()["agents"]["pid"]["limit"] == 2


@pytest.mark.parametrize("value", [2**70, -(2**63), 1.5, "\N{SNOWMAN}\x00", [{"a": [None, True]}], "x" * 1_000_000])
def test_inputs_and_results_of_any_kind_travel(execution, value):
    assert run(execution, agents.echo, value=value).outcome().result == value


def test_the_agent_knows_its_call_and_so_do_its_log_lines(execution):
    told = run(execution, agents.told_process)
    assert told.outcome().result == {
        "conversation_id": "c1",
        "request_id": "r1",
        "node_id": "n1",
        "agent": "told_process",
        "attempt": 2,
        "key": "key-1",
    }
    assert told.progress == ["half way"]


@pytest.mark.parametrize(
    ("agent", "inputs", "kind"),
    [
        (agents.add_process, {"a": "two"}, "contract_violation"),
        (agents.large, {"size": 2_000_001}, "result_too_large"),
        (agents.echo, {"value": float("nan")}, "contract_violation"),
    ],
)
def test_contract_and_size_are_checked_in_the_process(execution, agent, inputs, kind):
    found = classify(run(execution, agent, **inputs).outcome())
    assert (found.type, found.error_class) == (kind, "permanent")


@pytest.mark.parametrize("kind", sorted(agents.RAISED))
def test_what_is_raised_there_is_classed_as_if_it_had_been_raised_here(execution, kind):
    spec = replace(spec_of(agents.fail_process), name="fail_process")
    here = agents.RAISED[kind]()
    expected = classify(here, transient=spec.transient, permanent=spec.permanent)
    error = run(execution, agents.fail_process, kind=kind).outcome()
    found = classify(error)
    assert found == expected
    assert error.remote_type == type(here).__name__
    assert run(execution, agents.add_process, a=1).outcome().result == 2


def test_an_agent_that_cannot_be_imported_says_so(execution):
    spec = replace(spec_of(agents.add_process), qualname="gone", name="gone")
    error = run(execution, agents.add_process, spec=spec, a=1).outcome()
    assert (error.remote_type, classify(error).error_class) == ("AttributeError", "permanent")


# What it may know


def test_a_process_knows_no_secrets(execution, monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_REDIS_PASSWORD", "hush")
    monkeypatch.setenv("GITHUB_TOKEN", "hush")
    monkeypatch.setenv("DATABASE_DSN", "hush")
    known = run(execution, agents.environment).outcome().result
    assert "hush" not in known.values()
    assert set(known) <= {"PYTHONPATH", "LC_CTYPE", *ENVIRONMENT}  # Python itself may set LC_CTYPE


def test_programs_that_an_agent_starts_inherit_no_descriptors(execution):
    opened = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(opened, True)
    try:
        assert run(execution, agents.descriptors).outcome().result in ([], [3])  # 3: the listing itself
    finally:
        os.close(opened)


def test_a_flood_of_output_stops_nobody_and_harms_no_answer(execution, log):
    assert run(execution, agents.flood).outcome().result == ""
    wait_until(lambda: log.named("library_message"))
    lines = [fields for _, fields in log.named("library_message") if fields["agent"] == "flood"]
    assert 1 <= len(lines) <= 60
    assert all(len(fields["message"]) <= 500 for fields in lines)


# How it dies


@pytest.mark.parametrize(
    ("how", "words"),
    [("exit", "ended with status 7"), ("SIGKILL", "was killed by SIGKILL"), ("SIGSEGV", "was killed by SIGSEGV")],
)
def test_a_process_that_dies_in_mid_call_is_an_error_that_may_pass(execution, how, words):
    error = run(execution, agents.die, how=how).outcome()
    assert isinstance(error, WorkerDied)
    assert str(error) == f"the agent's process {words}; its last words: goodbye"
    assert classify(error).error_class == "transient"


@pytest.mark.parametrize("how", ["SIGABRT", "SIGSEGV", "SIGKILL", "exit"])
def test_a_process_that_dies_under_a_limit_of_memory_names_it(execution, how):
    """A C library that gets no memory aborts, and says no more than that."""
    error = run(execution, agents.die_limited, how=how).outcome()
    assert isinstance(error, WorkerDied)
    assert "its memory_mb is 300" in str(error)


def test_output_over_the_limit_is_an_error_that_would_come_again(execution):
    """It is not read at all: its length is known before."""
    found = classify(run(execution, agents.shout, size=1 << 30).outcome())
    assert (found.type, found.error_class) == ("result_too_large", "permanent")
    limit = 2_000_000 + (1 << 20)
    assert found.message == f"shout: an output of {1 << 30} bytes is over the limit of {limit}"
    assert run(execution, agents.add_process, a=1).outcome().result == 2


def test_progress_of_any_length_is_told_in_short(execution):
    told = run(execution, agents.long_winded)
    assert told.outcome().result == 1
    assert [len(told.progress[0]), *told.progress[1:]] == [500, "a?"]


def test_a_hung_process_is_killed_with_all_it_started(execution, tmp_path):
    """Worker, guard, a child deaf to SIGTERM, and a grandchild that left the group and the session."""
    told = run(execution, agents.hang, timeout=3.0, path=str(tmp_path / "pids"))
    pids = pids_in(tmp_path / "pids", 4)
    assert len(pids) == 4 and all(is_alive(pid) for pid in pids)
    error = told.outcome()
    since = time.monotonic()
    assert isinstance(error, AgentTimeout)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    assert took(since) < 5
    assert told.count == 1


def test_an_abandoned_call_takes_its_process_along(execution, tmp_path):
    told = run(execution, agents.hang, path=str(tmp_path / "pids"))
    pids = pids_in(tmp_path / "pids", 4)
    told.call.abandon()
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    assert told.count == 0


def test_a_call_abandoned_before_it_began_leaves_the_process_warm(execution):
    spec = replace(spec_of(agents.pid), max_concurrency=1, name="pid_alone")
    told = run(execution, agents.pid, spec=spec)
    told.call.abandon()
    assert run(execution, agents.pid, spec=spec).outcome().result > 0
    assert told.count == 0


def test_nothing_leaks_however_often_processes_die(execution):
    for _ in range(2):
        run(execution, agents.die, how="exit").outcome()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "worker-of-die"])
    before = descriptors(), threading.active_count(), execution.stats()["processes"]
    for _ in range(5):
        run(execution, agents.die, how="exit").outcome()
    wait_until(lambda: (descriptors(), threading.active_count(), execution.stats()["processes"]) == before)


def test_an_idle_process_ends(tmp_path):
    execution = Execution(worker_idle=0.05)
    result = run(execution, agents.leave_child, path=str(tmp_path / "pid")).outcome()
    wait_until(lambda: execution.stats()["processes"] == 0)
    assert not is_alive(result.result)
    assert execution.stop(DEADLINE) == []


def test_stop_ends_a_hung_process(tmp_path):
    execution = Execution()
    run(execution, agents.hang, path=str(tmp_path / "pids"))
    pids = pids_in(tmp_path / "pids", 4)
    since = time.monotonic()
    assert execution.stop(DEADLINE) == []
    assert took(since) < 5
    assert not any(is_alive(pid) for pid in pids)


def test_stop_while_a_process_starts_leaves_nothing():
    execution = Execution()
    told = run(execution, agents.add_process, a=1)
    wait_until(lambda: execution.stats()["processes"] == 1)
    assert execution.stop(DEADLINE) == []
    assert execution.stats()["processes"] == 0
    assert told.count == 0


DAEMON = """
import sys, threading
import misbehaving_agents as agents
from execution_support import run
from actors.execution import Execution
execution = Execution()
told = run(execution, agents.hang, path=sys.argv[1])
threading.Event().wait()
"""


def test_kill_9_of_the_daemon_takes_every_process_along(tmp_path):
    """Nobody is left to clean up: the guard sees the lifeline close."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, str(tmp_path / "pids")], env=environment)
    try:
        pids = pids_in(tmp_path / "pids", 4)
    finally:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait(DEADLINE)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_killed_guard_takes_its_worker_along(tmp_path):
    """The kernel tells the worker, which then cannot outlive its call's keeper."""
    execution = Execution()
    told = run(execution, agents.hang, path=str(tmp_path / "pids"))
    pids = pids_in(tmp_path / "pids", 4)
    worker, guard, *rest = pids
    os.kill(guard, signal.SIGKILL)
    for pid in rest:
        os.kill(pid, signal.SIGKILL)  # their guard is gone: this is the one case in which they would stay
    assert isinstance(told.outcome(), WorkerDied)
    wait_until(lambda: not is_alive(worker))
    assert execution.stop(DEADLINE) == []


def test_a_process_that_answers_nonsense_is_killed(monkeypatch, tmp_path):
    """Whatever arrives in place of an answer ends that process and that call only."""
    package = tmp_path / "agents"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "worker.py").write_text(
        "import json, os, sys\n"
        "setup = json.loads(sys.argv[1])\n"
        "os.write(setup['answers'], b'\\xff\\xff\\xff\\xff' + b'x' * 100)\n"
        "sys.stdin.read()\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    worker = WorkerProcess(spec_of(agents.add_process), bounds=Bounds(100), output=print)
    monkeypatch.undo()
    with pytest.raises(WorkerDied, match="no answer"):
        worker.wait_ready()
    assert worker.close(1.0)


def test_the_setup_of_a_process_is_readable(execution):
    """An operator who lists processes sees which agent each one serves."""
    pid = run(execution, agents.pid).outcome().result
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert command[2:4] == [b"-m", b"agents.worker"]
    assert json.loads(command[4])["function"] == "misbehaving_agents:pid"


# What one agent is given


def test_an_agent_that_wants_more_memory_than_it_may_have_is_told_so_and_its_process_replaced(execution):
    """The limit holds for its process alone; the next call has a new one."""
    assert run(execution, agents.greedy, megabytes=50).outcome().result == 50 << 20
    refused = run(execution, agents.greedy, megabytes=2_000).outcome()
    assert "greedy may have 256 MB, its memory_mb" in str(refused)
    assert classify(refused).error_class is ErrorClass.FATAL
    assert run(execution, agents.greedy, megabytes=50).outcome().result == 50 << 20


def test_a_process_gets_the_variables_its_agent_names_and_no_other(execution, monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_TEST_KEY", "hush")
    monkeypatch.setenv("ORCHESTRATOR_TEST_OTHER", "hush")
    assert run(execution, agents.keyholder, variable="ORCHESTRATOR_TEST_KEY").outcome().result == "hush"
    assert run(execution, agents.keyholder, variable="ORCHESTRATOR_TEST_OTHER").outcome().result is None
