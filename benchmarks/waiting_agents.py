"""What is added to agents that wait 50 ms each: latency above the ideal, at 1, 100 and 1,000 requests at once.

Run it as `python -m benchmarks.waiting_agents [--quick] [--store sqlite]`. A request is three independent agents and
one that needs all three, each of which sleeps for 50 ms: ideally it takes 100 ms. All requests are sent at once.
`ratio` is how many times as much is added as by the stick (benchmarks/_stick.py), whose agents wait as long.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from typing import Any

from agents import agent
from benchmarks import _stick
from benchmarks._lab import KILOBYTE, Load, percentile, report, running_daemon, scratch, spread
from messages.plan import Plan

KINDS = ("sqlite", "postgres", "redis")
AT_ONCE = (1, 100, 1_000)
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


def measure(kind: str, many: tuple[int, ...], repetitions: int) -> list[dict[str, Any]]:
    """Return one line for the stick and one for the daemon, for each number of requests at once."""
    with (
        scratch(kind) as store,
        running_daemon(store.settings(agents_from=("benchmarks.waiting_agents",))) as daemon,
    ):
        Load(daemon, PLAN, 100, 20, prefix="warm").run()
        rows: list[dict[str, Any]] = []
        for at_once in many:
            # One request at a time is measured several times over; a crowd is one crowd.
            total = 20 if at_once == 1 else at_once
            taken: dict[str, list[list[float]]] = {"by hand": [], "daemon": []}
            for number in range(repetitions):
                disk = _stick.disk(store)
                taken["by hand"].append(_stick.run(disk, total, at_once, WAIT).latencies)
                disk.close()
                taken["daemon"].append(
                    Load(daemon, PLAN, total, at_once, prefix=f"r{at_once}-{number}-").run().latencies
                )
            rows.extend({"store": kind, "at once": at_once, "who": who, **_line(runs)} for who, runs in taken.items())
            rows[-1]["ratio"] = round(rows[-1]["p50 above ideal ms"] / rows[-2]["p50 above ideal ms"], 2)
        return rows


def _line(runs: list[list[float]]) -> dict[str, Any]:
    above = [[1_000 * (latency - IDEAL) for latency in run] for run in runs]
    medians = [percentile(run, 0.5) for run in above]
    return {
        "repetitions": len(runs),
        "p50 above ideal ms": round(statistics.median(medians), 2),
        "spread": spread(medians),
        "p99 above ideal ms": round(percentile([one for run in above for one in run], 0.99), 1),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once instead of five times, on SQLite alone")
    parser.add_argument("--store", choices=KINDS, help="this one only")
    options = parser.parse_args()
    repetitions = 1 if options.quick else 5
    kinds = [options.store] if options.store else KINDS[:1] if options.quick else KINDS
    report("waiting_agents", [row for kind in kinds for row in measure(kind, AT_ONCE, repetitions)])


if __name__ == "__main__":
    main()
