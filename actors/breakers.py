"""One circuit breaker per agent, shared by all conversations; the rules are in supervision/breaker.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any

from actors.blocking_pool import PoolExhausted
from agents.spec import AgentSpec
from messages.agent import NodeResult
from supervision.breaker import Breaker, BreakerSpec, BreakerState, Health, admit, health, left, report
from supervision.errors import classify


class CircuitOpen(Exception):
    """The agent failed so often that it is left alone for a while: nothing was called."""

    error_class = "transient"
    error_type = "circuit_open"

    def __init__(self, agent: str, retry_after: float) -> None:
        super().__init__(f"agent {agent} failed too often lately; it was not called and is left alone for now")
        self.retry_after = max(0.001, ceil(retry_after * 1_000) / 1_000)
        """Seconds: the backoff of the attempt waits at least as long."""


class Breakers:
    """Every method may be called from any thread; the lock is never held while an agent runs or a line is logged."""

    def __init__(
        self,
        default: BreakerSpec,
        *,
        log: Callable[..., None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.default = default
        """For agents that say nothing else; may be changed while running."""
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}

    def refusal(self, agent: str) -> CircuitOpen | None:
        """Return why a call would be refused now."""
        breaker = self._breakers.get(agent)
        seconds = 0.0 if breaker is None else left(breaker, self._clock())
        return CircuitOpen(agent, seconds) if seconds > 0 else None

    def closed(self, agent: str) -> int | None:
        """Return the era of a breaker that lets every call through; None of one that does not."""
        breaker = self._breakers.get(agent, _FRESH)
        return breaker.era if breaker.state is BreakerState.CLOSED else None

    def learns(self, agent: str) -> bool:
        """Return whether a success would change anything."""
        breaker = self._breakers.get(agent, _FRESH)
        return breaker.state is not BreakerState.CLOSED or bool(breaker.failed_at)

    def enter(self, spec: AgentSpec) -> int:
        """Let a call through; return the era to `leave` with. Raises `CircuitOpen`."""
        with self._lock:
            before = self._breakers.get(spec.name, _FRESH)
            now = self._clock()
            after = admit(before, now)
            if after is None:
                raise CircuitOpen(spec.name, left(before, now))
            if after is not before:
                self._breakers[spec.name] = after
        self._tell(spec, before, after)
        return after.era

    def leave(self, spec: AgentSpec, era: int, outcome: NodeResult | BaseException | None) -> None:
        """Note the outcome of a call that was let through; None when it was given up. Never raises."""
        self._report(spec, era, _health(spec, outcome))

    def _report(self, spec: AgentSpec, era: int, said: Health) -> None:
        with self._lock:
            before = self._breakers.get(spec.name, _FRESH)
            after = report(before, self._spec(spec), era, said, self._clock())
            if after is before:
                return
            self._breakers[spec.name] = after
        self._tell(spec, before, after)

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return each agent's state and, when it is open, the seconds left."""
        now = self._clock()
        with self._lock:
            breakers = dict(self._breakers)
        return {
            agent: {"breaker": breaker.state.value, "breaker_left": round(left(breaker, now), 3)}
            for agent, breaker in breakers.items()
        }

    def _spec(self, spec: AgentSpec) -> BreakerSpec:
        own = {"failures": spec.breaker_failures, "reset": spec.breaker_reset}
        given = {name: value for name, value in own.items() if value is not None}
        return replace(self.default, **given) if given else self.default  # type: ignore[arg-type]  # each as its field

    def _tell(self, spec: AgentSpec, before: Breaker, after: Breaker) -> None:
        if before.state is after.state:
            return
        if after.state is BreakerState.OPEN:
            seconds = round(after.until - self._clock(), 3)
            failures = 1 if before.state is BreakerState.HALF_OPEN else self._spec(spec).failures
            self._log("breaker_opened", agent=spec.name, seconds=seconds, failures=failures)
        elif after.state is BreakerState.HALF_OPEN:
            self._log("breaker_half_open", agent=spec.name)
        else:
            self._log("breaker_closed", agent=spec.name)


_FRESH = Breaker()


def _health(spec: AgentSpec, outcome: NodeResult | BaseException | None) -> Health:
    if outcome is None or isinstance(outcome, PoolExhausted):
        return Health.NOTHING  # the threads are ours: that says nothing about the agent
    if isinstance(outcome, NodeResult):
        return Health.GOOD
    return health(classify(outcome, transient=spec.transient, permanent=spec.permanent, now_s=time.time()))
