"""Where the quick lane's attempts run: as bare tasks on the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from actors.blocking_pool import BlockingPool
from actors.bounds import Bounds
from actors.breakers import Breakers
from actors.call import reporter
from actors.call_ids import bind_ids
from actors.event_loop import EventLoop
from actors.gate import Gate, Gates
from actors.quick import SLOW_AFTER, Batch, QuickCall
from actors.timers import TimerService
from agents.call import arguments, finish
from agents.spec import AgentSpec
from messages.agent import NodeResult, Progress, RunNode


class QuickHost:
    """The `Host` of actors/quick.py, with the gates, breakers and clock of all other calls."""

    def __init__(
        self,
        *,
        loop: EventLoop,
        pools: tuple[BlockingPool, BlockingPool],
        gates: Gates,
        breakers: Breakers,
        timers: TimerService,
        bounds: Bounds,
        late: Callable[[RunNode, Any], None],
    ) -> None:
        self.quick_timers = timers
        self.stopped = False
        """Nothing more is admitted."""
        self._loop = loop
        self._pool, self._to_thread = pools
        self._gates = gates
        self._breakers = breakers
        self._bounds = bounds
        self._late = late

    def now(self) -> float:
        """As for any call."""
        return time.monotonic()

    def admit_quick(self, spec: AgentSpec, order: RunNode) -> tuple[AgentSpec, Gate, int] | None:
        """Take what runs on the event loop and needs nothing looked up, waited for or tried out before it begins."""
        if not spec.is_async or spec.cache_ttl is not None or order.timeout < 2 * SLOW_AFTER:
            return None
        era = self._breakers.closed(spec.name)
        if era is None or self.stopped or self._loop.stubborn or self._pool.abandoned or self._to_thread.abandoned:
            return None
        gate = self._gates.of(spec)
        return (spec, gate, era) if gate.try_enter() else None

    def begin_quick(self, batch: Batch) -> None:
        """Make a task of each attempt, on the loop."""
        calls = batch.calls  # handed over, when the loop comes to them late, they have to be begun all the same

        def begin() -> None:
            for call in calls:
                if not call.over:
                    self._begin_quick(call, batch)
            self._loop.soon(batch.flush)

        self._loop.post(begin)

    def flush_quick(self, batch: Batch) -> None:
        """After what the loop has before it now: agents that waited for the same time end one after the other."""
        self._loop.soon(batch.flush)

    def _begin_quick(self, call: QuickCall, batch: Batch) -> None:
        order = call.order
        name = f"{order.agent}@{order.conversation_id}/{order.node}"
        call.work = self._loop.spawn(name, partial(self._attempt, call, batch), call.end)
        if call.over:  # given up meanwhile, by somebody who could not know the task yet
            self.stop_quick(call.work)

    async def _attempt(self, call: QuickCall, batch: Batch) -> NodeResult:
        spec, order = call.spec, call.order
        bind_ids(order)
        report: Callable[[str], None] = _unheard
        if spec.contract.context_parameter is not None:  # only who gets a context can say anything
            said = partial(Progress, order.request_id, order.node, order.agent, order.attempt)
            report = reporter(call, lambda text: batch.progress(said(text)))
        given = arguments(spec, order, progress=report, deadline=time.time() + order.timeout)
        data, body = finish(spec, await spec.function(**given), self._bounds.result_bytes)
        return NodeResult(order.request_id, order.node, order.attempt, data, body, call.elapsed_ms)

    def stop_quick(self, work: Any) -> None:
        """Cancel the task."""
        if work is not None:
            self._loop.post(lambda: self._loop.cancel(work))

    def judge_quick(self, spec: AgentSpec, era: int, outcome: Any) -> None:
        """As for any call."""
        if not isinstance(outcome, NodeResult) or self._breakers.learns(spec.name):
            self._breakers.leave(spec, era, outcome)

    def late_quick(self, order: RunNode, outcome: Any) -> None:
        """As for any call."""
        self._late(order, outcome)


def _unheard(_text: str) -> None:
    """Hear nothing: without a context an agent has nothing to say it with."""
