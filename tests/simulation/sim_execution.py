"""Where agents' code would run: calls that end in virtual time as the seed says, with the real fences and gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from actors.breakers import Breakers, CircuitOpen
from actors.call import Call
from actors.gate import Gate
from actors.quick import Batch, QuickCall, QuickLane
from agents.spec import AgentSpec
from messages.agent import NodeResult, RunNode
from simulation.left_alone import MAX_RESET, RESET, WINDOW, LeftAlone
from simulation.script import REGISTRY, agent_error
from simulation.virtual_time import VirtualTimers
from supervision.breaker import BreakerSpec

if TYPE_CHECKING:
    from simulation.life import Life


class SimExecution:
    """The part of `actors.execution.Execution` that actors use."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._world = life.world
        self._timers = VirtualTimers(life.world.agenda, life, "timeout")
        self._gates: dict[str, Gate] = {}
        patience = BreakerSpec(life.world.breaker_failures, WINDOW, RESET, MAX_RESET)
        self._breakers = Breakers(patience, log=life.log, clock=life.world.clock.monotonic)
        self._left_alone = LeftAlone(life.world)
        self._quick_eras: list[tuple[str, int, Any]] = []
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
        running = self._call(
            f"{call.agent}@{call.conversation_id}/{call.node}#{call.attempt}", call.timeout, done, call
        )
        refusal = self._breakers.refusal(spec.name)
        if refusal is not None:
            self._refuse(spec, running, refusal)
            return running
        world.ledger.call_made(self._life, call)
        seconds = world.chance.random() * world.chance.choice((0.01, 0.3, 3.0))
        fault, outcome = self._fate(call, seconds)
        if world.chance.random() < 0.05:
            world.agenda.add(seconds / 2, self._life, "progress", lambda: progress("half of it"))
        gate = self._gates.setdefault(spec.name, Gate(spec.max_concurrency))
        begin = partial(self._begin, running, seconds, fault, outcome)
        gate.enter(call.conversation_id, running, lambda: self._guarded(spec, call, running, begin))
        return running

    def _guarded(self, spec: AgentSpec, call: RunNode, running: Call, begin: Callable[[], None]) -> None:
        """As `Execution` does."""
        try:
            era = self._breakers.enter(spec)
        except CircuitOpen as refusal:
            self._refuse(spec, running, refusal)
            return
        entered = self._left_alone.entered(spec.name)
        self._world.ledger.call_entered(call)

        def judge(outcome: Any) -> None:
            self._breakers.leave(spec, era, outcome)
            self._left_alone.ended(spec.name, entered, outcome)

        if running.when_judged(judge):
            begin()
        else:
            judge(None)

    def _refuse(self, spec: AgentSpec, running: Call, refusal: CircuitOpen) -> None:
        self._left_alone.refused(spec.name, refusal.retry_after)
        running.end(refusal)

    def run_function(
        self, function: Callable[[], Any], *, timeout: float, done: Callable[[Any], None], name: str = "function"
    ) -> Call:
        world = self._world
        running = self._call(name, timeout, done, None)
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

    def admit_quick(self, spec: AgentSpec, order: RunNode) -> tuple[AgentSpec, Gate, int] | None:
        if self._world.chance.random() < 0.3:
            return None
        era = self._breakers.closed(spec.name)
        if era is None:
            return None
        gate = self._gates.setdefault(spec.name, Gate(spec.max_concurrency))
        if not gate.try_enter():
            return None
        self._world.ledger.call_entered(order)
        # To the lane an era is a number and no more: this one stands for both, the breaker's and the referee's.
        self._quick_eras.append((spec.name, era, self._left_alone.entered(spec.name)))
        return spec, gate, len(self._quick_eras) - 1

    def begin_quick(self, batch: Batch) -> None:
        self.quick_calls += batch.calls
        for call in batch.calls:
            self._world.ledger.call_made(self._life, call.order)
        wait = self._world.chance.choice((0.0, 0.01, 0.3))
        calls = batch.calls  # as the host of the daemon: handed over meanwhile, they are begun all the same
        self._world.agenda.add(wait, self._life, "quick lane", lambda: self._begin_batch(batch, calls))

    def _begin_batch(self, batch: Batch, calls: Sequence[QuickCall]) -> None:
        world = self._world
        for call in calls:
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
        name, own, entered = self._quick_eras[era]
        if not isinstance(outcome, NodeResult) or self._breakers.learns(name):
            self._breakers.leave(spec, own, outcome)
        self._left_alone.ended(name, entered, outcome)

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
