"""What is added to agents that wait 50 ms each: latency above the ideal, at 1, 100 and 1,000 requests at once.

Run it as `python -m benchmarks.waiting_agents [--quick] [--store sqlite]`. A request is three independent agents and
one that needs all three, each of which sleeps for 50 ms: ideally it takes 100 ms. All requests are sent at once.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from agents import agent
from benchmarks._lab import KILOBYTE, Load, percentile, report, running_daemon, scratch
from messages.plan import Plan

KINDS = ("sqlite", "postgres", "redis")
WAIT = 0.05
IDEAL = 2 * WAIT


@agent(effects="read")
async def waits() -> dict[str, str]:
    """Wait, and give a kilobyte."""
    await asyncio.sleep(WAIT)
    return {"text": KILOBYTE}


@agent(effects="read")
async def waits_and_joins(a: str, b: str, c: str) -> dict[str, str]:
    """Wait, and need three results."""
    await asyncio.sleep(WAIT)
    return {"text": a[:300] + b[:300] + c[:400]}


PLAN = Plan.model_validate(
    {
        "nodes": [
            *({"id": name, "agent": "waits"} for name in "abc"),
            {
                "id": "d",
                "agent": "waits_and_joins",
                "inputs": {name: {"$from": f"{name}.text"} for name in "abc"},
            },
        ]
    }
)


def measure(kind: str, at_once: int, repetitions: int) -> dict[str, Any]:
    """Return one line."""
    with (
        scratch(kind) as store,
        running_daemon(store.settings(agents_from=("benchmarks.waiting_agents",))) as daemon,
    ):
        Load(daemon, PLAN, min(100, at_once * 5), min(20, at_once), prefix="warm").run()
        latencies: list[float] = []
        for number in range(repetitions):
            # One request at a time is measured several times over; a crowd is one crowd.
            total = 20 if at_once == 1 else at_once
            latencies += Load(daemon, PLAN, total, at_once, prefix=f"r{number}-").run().latencies
    above = [1_000 * (latency - IDEAL) for latency in latencies]
    return {
        "store": kind,
        "at once": at_once,
        "requests": len(above),
        "median above ideal ms": round(percentile(above, 0.5), 1),
        "p99 above ideal ms": round(percentile(above, 0.99), 1),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once instead of five times")
    parser.add_argument("--store", choices=KINDS, help="this one only")
    options = parser.parse_args()
    repetitions = 1 if options.quick else 5
    kinds = [options.store] if options.store else KINDS
    report("waiting_agents", [measure(kind, at_once, repetitions) for kind in kinds for at_once in (1, 100, 1_000)])


if __name__ == "__main__":
    main()
