"""Whatever an agent does, its outcome is told once, and nothing else is disturbed."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import execution_agents as agents
import pytest
from actors_support import DEADLINE, Log, wait_until

from actors.blocking_pool import PoolExhausted
from actors.execution import Execution
from actors.failures import to_failure
from actors.worker_process import WorkerDied
from agents.decorator import make_spec, spec_of
from agents.errors import AgentTimeout, ContractViolation, ResultTooLarge
from messages.agent import NodeResult, RunNode

KINDS = ("double", "double_async", "double_process")


class Outcomes:
    """What `done` was told, and what an agent reported meanwhile."""

    def __init__(self):
        self.told = queue.SimpleQueue()
        self.progress = []

    def get(self):
        return self.told.get(timeout=DEADLINE)


class Rig:
    """An execution, and short ways to use it."""

    def __init__(self, **options):
        self.log = Log()
        self.late = queue.SimpleQueue()
        self.execution = Execution(log=self.log, on_late=lambda call, what: self.late.put((call, what)), **options)
        self.execution.start()

    def run(self, function, timeout=DEADLINE, conversation="c", **inputs):
        spec = spec_of(function) if callable(function) else function
        outcomes = Outcomes()
        message = RunNode(
            conversation, "r", "n", spec.name, 1, inputs, timeout, "text", "u", "", spec.contract.version, "key"
        )  # fmt: skip
        outcomes.call = self.execution.run(spec, message, done=outcomes.told.put, progress=outcomes.progress.append)
        return outcomes

    def result(self, function, **inputs):
        outcome = self.run(function, **inputs).get()
        assert isinstance(outcome, NodeResult), repr(outcome)
        return outcome.result

    def all_work(self):
        for name in KINDS:
            assert self.result(getattr(agents, name), x=4) == 8


def limited(function, most):
    return make_spec(function, {"max_concurrency": most})


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def make():
    agents.RELEASE.clear()
    rigs = []

    def start(**options):
        rigs.append(Rig(**options))
        return rigs[-1]

    yield start
    agents.RELEASE.set()
    for rig in rigs:
        assert rig.execution.stop(DEADLINE) == []


@pytest.fixture
def rig(make):
    return make()


# Outcomes


@pytest.mark.parametrize("name", KINDS)
def test_a_call_gives_its_result_with_its_json_and_its_progress(rig, name):
    outcomes = rig.run(getattr(agents, name), x=21)
    result = outcomes.get()
    assert (result.result, result.result_json) == (42, b"42")
    assert (result.request_id, result.node, result.attempt, result.cached) == ("r", "n", 1, False)
    assert result.duration_ms >= 0 and outcomes.progress == ["doubling 21"]
    assert outcomes.told.empty()


@pytest.mark.parametrize("name", KINDS)
def test_inputs_are_checked_before_the_agent_sees_them(rig, name):
    outcome = rig.run(getattr(agents, name), x="21").get()
    assert "input.x" in str(outcome) and to_failure(outcome).error_class == "permanent"
    assert to_failure(outcome).type == "contract_violation"


def test_results_are_checked(rig):
    assert isinstance(rig.run(agents.wrong).get(), ContractViolation)


@pytest.mark.parametrize("function", [agents.large, agents.large_async, agents.large_process])
def test_a_result_that_is_too_large_is_a_permanent_error(rig, function):
    failure = to_failure(rig.run(function).get())
    assert (failure.type, failure.error_class) == ("result_too_large", "permanent")
    assert ResultTooLarge.error_type == failure.type
    rig.all_work()


@pytest.mark.parametrize("kind", list(agents.RAISES))
def test_whatever_is_raised_is_told_once_and_disturbs_nothing(rig, kind):
    one, two = rig.run(agents.raising, kind=kind), rig.run(agents.raising_async, kind=kind)
    for outcomes in (one, two):
        outcome = outcomes.get()
        assert isinstance(outcome, BaseException) and len(to_failure(outcome).message) <= 500
    assert rig.result(agents.double, x=1) == 2 == rig.result(agents.double_async, x=1)
    assert one.told.empty() and two.told.empty() and rig.late.empty()
    assert rig.execution.stats()["abandoned"] == 0


@pytest.mark.parametrize(
    ("kind", "type_name", "error_class"),
    [
        ("flaky", "Flaky", "transient"),
        ("timeout", "TimeoutError", "permanent"),
        ("value", "ValueError", "permanent"),
        ("exit", "SystemExit", "fatal"),
        ("memory", "MemoryError", "fatal"),
        ("group", "ExceptionGroup", "permanent"),
        ("unprintable", "Unprintable", "transient"),
        ("huge", "ValueError", "permanent"),
        ("interrupt", "KeyboardInterrupt", "fatal"),
    ],
)
def test_what_a_process_raises_keeps_its_type_and_class(rig, kind, type_name, error_class):
    failure = to_failure(rig.run(agents.raising_process, kind=kind).get())
    assert (failure.type, failure.error_class) == (type_name, error_class)
    assert len(failure.message) <= 500
    assert rig.result(agents.double_process, x=1) == 2


def test_log_lines_of_an_agent_carry_the_ids_of_its_call(rig):
    ids = {"conversation_id": "c", "request_id": "r", "node_id": "n", "attempt": 1}
    assert rig.result(agents.logged) == {**ids, "agent": "logged"}
    assert rig.result(agents.logged_async) == {**ids, "agent": "logged_async"}
    assert rig.result(agents.worker, what="log", arg="")["logged"] == {**ids, "agent": "worker"}


def test_asyncio_works_inside_agents(rig):
    assert rig.result(agents.structured, kind="timeout") == "timed out inside"
    assert rig.result(agents.structured, kind="group") == "3"
    assert rig.result(agents.structured, kind="generator") == "abc"
    assert rig.result(agents.structured, kind="to_thread") == "from a thread"
    assert rig.result(agents.structured, kind="exit_in_task") == "went on"
    assert rig.result(agents.structured, kind="stop_loop") == "still here"
    assert isinstance(rig.run(agents.structured, kind="failing_group").get(), ExceptionGroup)
    rig.all_work()


def test_plain_functions_run_too_blocking_or_async(rig):
    async def later():
        await asyncio.sleep(0)
        return "later"

    told = queue.SimpleQueue()
    for function, expected in ((lambda: "now", "now"), (later, "later"), (partial(later), "later")):
        rig.execution.run_function(function, timeout=DEADLINE, done=told.put)
        assert told.get(timeout=DEADLINE) == expected
    rig.execution.run_function(lambda: agents.RELEASE.wait(30), timeout=0.05, done=told.put)
    assert isinstance(told.get(timeout=DEADLINE), AgentTimeout)


def test_a_done_that_raises_ends_no_thread(rig):
    def broken(_outcome):
        raise RuntimeError("whose outcome it was is broken")

    for name in ("double", "double_async"):
        spec = spec_of(getattr(agents, name))
        message = RunNode("c", "r", "n", name, 1, {"x": 1}, 5.0, "", None, "", "", "")
        rig.execution.run(spec, message, done=broken, progress=lambda _: None)
    rig.all_work()
    wait_until(lambda: len(rig.log.named("loop_task_failed")) == 2)


# Time


@pytest.mark.parametrize("function", [agents.blocking, agents.waiting, agents.loop_blocker])
def test_a_timeout_holds_whatever_the_agent_does(rig, function):
    began = time.monotonic()
    outcomes = rig.run(function, timeout=0.1)
    outcome = outcomes.get()
    assert isinstance(outcome, AgentTimeout) and time.monotonic() - began < 5
    assert (to_failure(outcome).type, to_failure(outcome).error_class) == ("timeout", "transient")
    agents.RELEASE.set()
    rig.all_work()
    assert outcomes.progress == ["began"], "progress after the end is not passed on"
    assert outcomes.told.empty()


def test_a_timeout_kills_a_process_and_its_family(rig):
    outcomes = rig.run(agents.worker, what="double", arg="")  # warm: the import is not what is timed
    outcomes.get()
    outcomes = rig.run(agents.worker, timeout=0.8, what="hang", arg="")
    assert isinstance(outcomes.get(), AgentTimeout)
    pids = [int(pid) for pid in outcomes.progress[0].split()]
    wait_until(lambda: not any(map(alive, pids)))
    assert outcomes.told.empty()
    rig.all_work()


def test_who_blocks_the_loop_is_named(make):
    rig = make(loop_blocked_after=0.05)
    outcomes = rig.run(agents.loop_blocker)
    wait_until(lambda: rig.log.named("loop_blocked"))
    _, fields = rig.log.named("loop_blocked")[0]
    assert fields["agent"] == "loop_blocker" and fields["seconds"] >= 0.05
    agents.RELEASE.set()
    assert outcomes.get().result == "late"


def test_waiting_for_a_place_is_not_counted(make):
    rig = make(threads=1)
    first = rig.run(agents.blocking)
    wait_until(lambda: first.progress)
    second = rig.run(agents.double, timeout=0.2, x=1)
    assert first.told.empty()
    threading.Event().wait(0.3)
    agents.RELEASE.set()
    assert second.get().result == 2 and first.get().result == "late"


# Giving up


def test_an_abandoned_task_is_cancelled_and_never_told(rig):
    outcomes = rig.run(agents.waiting)
    wait_until(lambda: outcomes.progress)
    outcomes.call.abandon()
    outcomes.call.abandon()
    rig.all_work()
    assert outcomes.told.empty() and rig.late.empty() and outcomes.progress == ["began"]


def test_an_abandoned_process_is_killed_and_never_told(rig):
    outcomes = rig.run(agents.worker, what="hang", arg="")
    wait_until(lambda: outcomes.progress)
    pids = [int(pid) for pid in outcomes.progress[0].split()]
    outcomes.call.abandon()
    wait_until(lambda: not any(map(alive, pids)))
    rig.all_work()
    assert outcomes.told.empty()


def test_an_abandoned_thread_is_replaced_and_its_late_end_is_told_apart(make):
    rig = make(threads=1)
    outcomes = rig.run(agents.blocking)
    wait_until(lambda: outcomes.progress)
    outcomes.call.abandon()
    assert rig.execution.stats()["abandoned"] == 1
    assert rig.late.empty()
    agents.RELEASE.set()
    call, what = rig.late.get(timeout=DEADLINE)
    assert call.agent == "blocking" and "attempt 1 was given up" in what
    wait_until(lambda: rig.execution.stats()["abandoned"] == 0)
    assert outcomes.told.empty()
    rig.all_work()


def test_a_replaced_thread_serves_while_the_other_hangs(make):
    rig = make(threads=2)
    hung = rig.run(agents.blocking)
    wait_until(lambda: hung.progress)
    hung.call.abandon()
    assert rig.result(agents.double, x=1) == 2
    other = rig.run(agents.blocking)
    wait_until(lambda: other.progress)
    assert rig.result(agents.double, x=1) == 2, "capacity stays at two"


def test_abandoned_threads_are_bounded_and_recover(make):
    rig = make(threads=3)
    for _ in range(3):
        assert isinstance(rig.run(agents.blocking, timeout=0.05).get(), AgentTimeout)
    outcome = rig.run(agents.double, x=1).get()
    assert isinstance(outcome, PoolExhausted) and to_failure(outcome).error_class == "transient"
    assert rig.result(agents.double_async, x=1) == 2, "the loop does not mind"
    assert rig.execution.stats()["abandoned"] == 3
    agents.RELEASE.set()
    wait_until(lambda: rig.execution.stats()["abandoned"] == 0)
    rig.all_work()


def test_a_call_abandoned_before_it_begins_never_does(make):
    rig = make(threads=1)
    first = rig.run(agents.blocking)
    wait_until(lambda: first.progress)
    second = rig.run(agents.double, x=1)
    second.call.abandon()
    agents.RELEASE.set()
    first.get()
    assert rig.result(agents.double, x=2) == 4
    assert second.progress == [] and second.told.empty()


# Gates


def test_places_are_shared_fairly_between_conversations(rig):
    spec = limited(agents.blocking, 1)
    first = rig.run(spec, conversation="a")
    wait_until(lambda: first.progress)
    order = []
    lock = threading.Lock()

    def note(x: int) -> int:
        """Note the order."""
        with lock:
            order.append(x)
        return x

    noted = make_spec(note, {"name": "blocking", "max_concurrency": 1})
    waiting = [rig.run(noted, conversation="a", x=n) for n in range(3)]
    waiting += [rig.run(noted, conversation="b", x=n) for n in (10, 11)]
    assert rig.execution.stats()["agents"]["blocking"] | {"abandoned": 0} == {
        "running": 1,
        "waiting": 5,
        "limit": 1,
        "abandoned": 0,
        "refused": False,
        "breaker": "closed",
        "breaker_left": 0.0,
    }
    agents.RELEASE.set()
    assert sorted(outcome.get().result for outcome in waiting) == [0, 1, 2, 10, 11]
    assert order == [0, 10, 1, 11, 2]


def test_never_more_at_once_than_allowed_and_places_come_back_on_timeout_and_abandonment(rig):
    spec = limited(agents.waiting, 2)
    running = [rig.run(spec) for _ in range(2)]
    wait_until(lambda: all(outcomes.progress for outcomes in running))
    third = rig.run(spec, timeout=0.1)
    fourth = rig.run(spec, timeout=0.1)
    assert rig.execution.stats()["agents"]["waiting"]["waiting"] == 2
    assert third.progress == []
    running[0].call.abandon()
    assert isinstance(third.get(), AgentTimeout) and isinstance(fourth.get(), AgentTimeout)
    fifth = rig.run(spec)
    wait_until(lambda: fifth.progress)
    fifth.call.abandon()
    running[1].call.abandon()
    wait_until(lambda: rig.execution.stats()["agents"]["waiting"]["running"] == 0)


def test_a_thousand_waiting_calls_that_are_given_up_do_no_harm(rig):
    spec = limited(agents.waiting, 1)
    first = rig.run(spec)
    wait_until(lambda: first.progress)
    waiting = [rig.run(spec, conversation=str(n % 7)) for n in range(1000)]
    for outcomes in waiting:
        outcomes.call.abandon()
    first.call.abandon()
    last = rig.run(spec, timeout=0.05)
    assert isinstance(last.get(), AgentTimeout)


# Processes


def test_a_process_stays_warm(rig):
    pids = {rig.result(agents.worker, what="pid", arg="")["pid"] for _ in range(3)}
    assert len(pids) == 1 and rig.execution.stats()["processes"] == 1


def test_whatever_a_process_prints_does_not_disturb(rig):
    assert rig.result(agents.worker, what="flood", arg="") == {"read": ""}
    assert rig.result(agents.worker, what="flood", arg="") == {"read": ""}


def test_what_a_process_prints_is_logged(rig):
    rig.run(agents.worker, what="say", arg="hello from afar").get()
    wait_until(lambda: any("hello from afar" in str(fields) for _, fields in rig.log.named("library_message")))


@pytest.mark.parametrize("what", ["die", "leave"])
def test_a_process_that_dies_is_a_transient_error_and_is_replaced(rig, what):
    outcome = rig.run(agents.worker, what=what, arg="").get()
    assert isinstance(outcome, WorkerDied) and to_failure(outcome).error_class == "transient"
    assert rig.result(agents.worker, what="pid", arg="")["pid"]


def test_a_process_inherits_no_secrets_and_no_descriptors(make, monkeypatch, tmp_path):
    monkeypatch.setenv("ORCHESTRATOR_API_TOKEN", "secret")
    with (tmp_path / "private").open("w") as private:
        os.set_inheritable(private.fileno(), True)
        rig = make()
        names = rig.result(agents.worker, what="environment", arg="")["names"]
        assert not [name for name in names if name.startswith("ORCHESTRATOR") or "TOKEN" in name]
        opened = rig.result(agents.worker, what="descriptors", arg="")["open"]
    assert not [name for name in opened if "private" in name or "socket" in name]
    assert len([name for name in opened if name.startswith("pipe")]) <= 4


def test_the_children_of_a_process_end_with_it(make):
    rig = make()
    family = rig.result(agents.worker, what="family", arg="")
    assert alive(family["pid"]) and alive(family["child"])
    assert rig.execution.stop(DEADLINE) == []
    wait_until(lambda: not alive(family["pid"]) and not alive(family["child"]))


PARENT = """
import queue, sys
sys.path[:0] = [{root!r}, {tests!r}]
import execution_agents as agents
from actors.execution import Execution
from agents.decorator import spec_of
from messages.agent import RunNode
execution = Execution()
execution.start()
call = RunNode("c", "r", "n", "worker", 1, {{"what": "hang", "arg": ""}}, 60.0, "", None, "", "", "")
execution.run(spec_of(agents.worker), call, done=print, progress=lambda text: print(text, flush=True))
queue.SimpleQueue().get()
"""


def test_a_process_dies_with_the_daemon_even_when_that_is_killed():
    here = Path(__file__).parent
    script = PARENT.format(root=str(here.parents[1]), tests=str(here))
    environment = {**os.environ, "PYTHONPATH": f"{here.parents[1]}{os.pathsep}{here}"}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(map(alive, pids))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(DEADLINE)
        parent.stdout.close()
    wait_until(lambda: not any(map(alive, pids)))


# The end


def test_stop_leaves_no_thread_and_no_process():
    before = set(threading.enumerate())
    rig = Rig()
    rig.all_work()
    pid = rig.result(agents.worker, what="pid", arg="")["pid"]
    rig.run(agents.waiting)
    hanging = rig.run(agents.worker, what="hang", arg="")
    wait_until(lambda: hanging.progress)
    assert rig.execution.stop(DEADLINE) == []
    wait_until(lambda: not alive(pid))
    wait_until(lambda: set(threading.enumerate()) <= before)
    assert isinstance(rig.run(agents.double, x=1).get(), PoolExhausted)


def test_stop_names_what_does_not_end():
    agents.RELEASE.clear()
    rig = Rig()
    outcomes = rig.run(agents.blocking)
    wait_until(lambda: outcomes.progress)
    assert any("blocking" in name for name in rig.execution.stop(0.2))
    agents.RELEASE.set()
