"""What supervision spares users: failures they see when one call in five fails for the moment, with and without it.

Run it as `python -m benchmarks.supervision [--quick]`. A request is three independent agents, each of which loses its
connection in a fifth of its calls; without supervision nothing is tried again. A failure seen is a request that is not
complete.
"""

from __future__ import annotations

import argparse
import random
import statistics
from typing import Any

from agents import agent
from benchmarks._lab import Load, percentile, report, running_daemon, scratch, spread
from messages.plan import Plan

RATE = 0.2
_CHANCE = random.Random(7)


@agent(effects="read")
async def unsteady() -> dict[str, str]:
    """Lose the connection now and then."""
    if _CHANCE.random() < RATE:
        raise ConnectionError("reset by peer")
    return {"text": "x"}


PLAN = Plan.model_validate({"nodes": [{"id": name, "agent": "unsteady"} for name in "abc"]})


def measure(retries: int, requests: int, repetitions: int) -> dict[str, Any]:
    """Return one line."""
    loads = [_load(retries, requests) for _ in range(repetitions)]
    failed = [100 * (1 - load.statuses.get("completed", 0) / requests) for load in loads]
    latencies = [latency for load in loads for latency in load.latencies]
    return {
        "supervision": f"{retries} retries" if retries else "none",
        "requests": requests,
        "repetitions": repetitions,
        "failures seen %": round(statistics.median(failed), 2),
        "spread": spread(failed),
        "p50 ms": round(1_000 * percentile(latencies, 0.5), 1),
        "p99 ms": round(1_000 * percentile(latencies, 0.99), 1),
    }


def _load(retries: int, requests: int) -> Load:
    with scratch("sqlite") as store:
        settings = store.settings(
            agents_from=("benchmarks.supervision",),
            max_retries=retries,
            base_retry_delay=0.02,
            max_retry_delay=0.2,
            breaker_failures=0,
            log_level="CRITICAL",
        )
        with running_daemon(settings) as daemon:
            return Load(daemon, PLAN, requests, 50).run()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 requests, once, instead of 2,000, three times")
    options = parser.parse_args()
    requests, repetitions = (500, 1) if options.quick else (2_000, 3)
    rows = [measure(retries, requests, repetitions) for retries in (0, 1, 3)]
    for row in rows:
        row["fewer %"] = round(100 * (1 - row["failures seen %"] / rows[0]["failures seen %"]), 1)
    report("supervision", rows)


if __name__ == "__main__":
    main()
