"""Where agents' code would run: calls that end in virtual time as the seed says, with the real fences and gates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from actors.call import Call
from actors.gate import Gate
from actors.quick import Batch, QuickCall, QuickLane
from agents.spec import AgentSpec
from messages.agent import NodeResult, RunNode
from simulation.script import REGISTRY, agent_error
from simulation.virtual_time import VirtualTimers

if TYPE_CHECKING:
    from simulation.life import Life


class SimExecution:
    """The part of `actors.execution.Execution` that actors use."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._world = life.world
        self._timers = VirtualTimers(life.world.agenda, life, "timeout")
        self._gates: dict[str, Gate] = {}
        self.calls: dict[int, str] = {}
        """Calls that are not over."""
        self.quick = QuickLane(self, REGISTRY.find)
        self.quick_calls: list[QuickCall] = []
        """Every call that went that way."""

    def run(
        self,
        spec: AgentSpec,
        call: RunNode,
        *,
        done: Callable[[NodeResult | BaseException], None],
        progress: Callable[[str], None],
    ) -> Call:
        world = self._world
        world.ledger.call_made(self._life, call)
        running = self._call(
            f"{call.agent}@{call.conversation_id}/{call.node}#{call.attempt}", call.timeout, done, call
        )
        seconds = world.chance.random() * world.chance.choice((0.01, 0.3, 3.0))
        fault, outcome = self._fate(call, seconds)
        if world.chance.random() < 0.05:
            world.agenda.add(seconds / 2, self._life, "progress", lambda: progress("half of it"))
        gate = self._gates.setdefault(spec.name, Gate(spec.max_concurrency))
        gate.enter(call.conversation_id, running, lambda: self._begin(running, seconds, fault, outcome))
        return running

    def run_function(self, function: Callable[[], Any], *, timeout: float, done: Callable[[Any], None]) -> Call:
        world = self._world
        running = self._call("function", timeout, done, None)
        seconds = world.chance.random() * world.chance.choice((0.01, 0.3))
        fault: str | None = None
        try:
            outcome = function()
            if world.unlucky(0.03):
                fault = world.chance.choice(("hang", "late"))
        except BaseException as error:  # noqa: BLE001  # as the real one: what was raised is the outcome
            outcome = error
        self._begin(running, seconds, fault, outcome)
        return running

    # The quick lane

    @property
    def quick_timers(self) -> VirtualTimers:
        return self._timers

    def now(self) -> float:
        return self._world.clock.now

    def admit_quick(self, spec: AgentSpec, _order: RunNode) -> tuple[AgentSpec, Gate, int] | None:
        if self._world.chance.random() < 0.3:
            return None
        gate = self._gates.setdefault(spec.name, Gate(spec.max_concurrency))
        return (spec, gate, 0) if gate.try_enter() else None

    def begin_quick(self, batch: Batch) -> None:
        self.quick_calls += batch.calls
        for call in batch.calls:
            self._world.ledger.call_made(self._life, call.order)
        wait = self._world.chance.choice((0.0, 0.01, 0.3))
        self._world.agenda.add(wait, self._life, "quick lane", lambda: self._begin_batch(batch))

    def _begin_batch(self, batch: Batch) -> None:
        world = self._world
        for call in batch.calls:
            if call.over:
                continue
            seconds = world.chance.random() * world.chance.choice((0.0, 0.0, 0.05, 3.0))
            fault, outcome = self._fate(call.order, seconds)
            if fault == "hang":
                world.saw("fault: agent: hangs")
                continue
            if fault == "late":
                world.saw("fault: agent: answers after its timeout")
                seconds = call.order.timeout + world.chance.random() * 3.0
            if seconds == 0.0:
                world.saw("branch: ended at its first step")
                call.end(outcome)
                continue
            handle = world.agenda.add(seconds, self._life, f"ends: {call.order.node}", partial(call.end, outcome))
            if world.chance.random() < 0.5:
                call.work = handle
        batch.flush()

    def flush_quick(self, batch: Batch) -> None:
        self._world.agenda.add(0.0, self._life, "quick lane gathers", batch.flush)

    def stop_quick(self, work: Any) -> None:
        if work is not None:
            work.cancel()

    def judge_quick(self, spec: AgentSpec, era: int, outcome: Any) -> None:
        """There is no breaker in this world."""

    def late_quick(self, order: RunNode, outcome: Any) -> None:
        self._world.saw("branch: a late outcome was fenced off")
        self._life.late(order.node, outcome)

    def _fate(self, call: RunNode, seconds: float) -> tuple[str | None, Any]:
        world, chance = self._world, self._world.chance
        if world.unlucky(world.agent_faults):
            kind = chance.randrange(6)
            if kind == 0:
                return "hang", None
            if kind > 1:
                name, error = agent_error(chance)
                world.saw(f"fault: {name}")
                return None, error
            return "late", self._result(call, seconds)
        return None, self._result(call, seconds)

    @staticmethod
    def _result(call: RunNode, seconds: float) -> NodeResult:
        value = f"{call.request_id}/{call.node}/{call.attempt}"
        return NodeResult(call.request_id, call.node, call.attempt, value, to_json(value), round(seconds * 1000, 3))

    def _begin(self, running: Call, seconds: float, fault: str | None, outcome: Any) -> None:
        world = self._world
        if not running.begin():
            return
        if fault == "hang":
            world.saw("fault: agent: hangs")
            return
        if fault == "late":
            world.saw("fault: agent: answers after its timeout")
            seconds = running.timeout + world.chance.random() * 3.0
        handle = world.agenda.add(seconds, self._life, f"ends: {running.name}", lambda: running.end(outcome))
        if world.chance.random() < 0.5:
            running.when_stopped(handle.cancel)  # a task; the others are threads, which go on

    def _call(self, name: str, timeout: float, done: Callable[[Any], None], call: RunNode | None) -> Call:
        def late(outcome: Any) -> None:
            self._world.saw("branch: a late outcome was fenced off")
            self._life.late(name, outcome)

        def forget(over: Call) -> None:
            del self.calls[id(over)]

        running = Call(name, timeout, timers=self._timers, done=done, late=late, forget=forget)
        self.calls[id(running)] = name
        return running
