"""What does one agent call cost? Calls per second and milliseconds per call, by where the agent runs.

Run it as `python -m benchmarks.execution [--quick]`. The agents do nothing, so what is measured is the way there and
back: binding inputs, the queue, the contract, the outcome.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import time
from dataclasses import replace
from typing import Any, Final

from actors.execution import Execution
from agents import agent
from agents.decorator import spec_of
from benchmarks._lab import report, spread
from messages.agent import NodeResult, RunNode

CALLS: Final = {"async": 20_000, "thread": 20_000, "process": 4_000}
SINGLE_CALLS: Final = 500
QUICK: Final = 20
"""By how much fewer calls `--quick` makes, and once instead of five times."""


@agent
async def on_loop(x: int) -> int:
    """Give it back on the event loop."""
    return x


@agent
def on_thread(x: int) -> int:
    """Give it back on a thread."""
    return x


@agent(isolation="process", max_concurrency=2)
def in_process(x: int) -> int:
    """Give it back in another process."""
    return x


AGENTS: Final = {"async": on_loop, "thread": on_thread, "process": in_process}


class Caller:
    """Makes calls of one agent and waits for all of them."""

    def __init__(self, execution: Execution, kind: str) -> None:
        spec = spec_of(AGENTS[kind])
        assert spec is not None
        self._spec = replace(spec, module="benchmarks.execution")  # a process cannot import __main__
        self._execution = execution
        self._told: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def make(self, calls: int) -> None:
        """Return when all have given their result. Raises what any of them raised."""
        for number in range(calls):
            self._execution.run(self._spec, self._call(number), done=self._told.put, progress=print)
        for _ in range(calls):
            outcome = self._told.get(timeout=60)
            if not isinstance(outcome, NodeResult):
                raise outcome

    def _call(self, number: int) -> RunNode:
        return RunNode(
            conversation_id=f"c{number % 10}",
            request_id="r",
            node="n",
            agent=self._spec.name,
            attempt=1,
            inputs={"x": number},
            timeout=60.0,
            text="",
            user_id=None,
            context="",
            contract=self._spec.contract.version,
            idempotency_key="k",
        )


def measure(kind: str, calls: int, single_calls: int, repetitions: int) -> dict[str, Any]:
    """Return the figures of one kind of agent."""
    execution = Execution()
    execution.start()
    try:
        caller = Caller(execution, kind)
        began = time.perf_counter()
        caller.make(1)
        first = time.perf_counter() - began
        rates, singles = [], []
        for _ in range(repetitions):
            began = time.perf_counter()
            caller.make(calls)
            rates.append(calls / (time.perf_counter() - began))
            for _ in range(single_calls):
                began = time.perf_counter()
                caller.make(1)
                singles.append((time.perf_counter() - began) * 1000)
    finally:
        execution.stop(10.0)
    return {
        "agent": kind,
        "calls": calls,
        "repetitions": repetitions,
        "calls/s": spread(rates),
        "first call ms": round(first * 1000, 2),
        "p50 ms": round(statistics.median(singles), 3),
        "p99 ms": round(statistics.quantiles(singles, n=100)[98], 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"make {QUICK} times fewer calls")
    fewer = QUICK if parser.parse_args().quick else 1
    repetitions = 1 if fewer > 1 else 5
    singles = max(100, SINGLE_CALLS // fewer)
    report("execution", [measure(kind, calls // fewer, singles, repetitions) for kind, calls in CALLS.items()])


if __name__ == "__main__":
    main()
