"""How many durable requests a second, and how quickly, beside the same work written by hand without anything else.

Run it as `python -m benchmarks.requests [--quick] [--store sqlite]`. A request is a plan of three independent agents
and one that needs all three, a kilobyte each, sent through the router; 1, 32 and 256 callers at once. The stick
(benchmarks/_stick.py) runs before and after in the same process; `ratio` is the daemon's median beside the stick's.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks import _stick
from benchmarks._lab import DIAMOND, Load, Scratch, percentile, report, running_daemon, scratch, spread
from daemon import Daemon

KINDS = ("sqlite", "postgres", "redis")
CALLERS = (1, 32, 256)


def measure(kind: str, many: tuple[int, ...], seconds: float, repetitions: int) -> list[dict[str, Any]]:
    """Return one line for the stick and one for the daemon, for each number of callers."""
    with scratch(kind) as store, running_daemon(store.settings()) as daemon:
        Load(daemon, DIAMOND, 200, 32, prefix="warm").run()
        return [line for callers in many for line in _measure(store, daemon, callers, seconds, repetitions)]


def _measure(store: Scratch, daemon: Daemon, callers: int, seconds: float, repetitions: int) -> list[dict[str, Any]]:
    ours: list[tuple[float, Load, float]] = []
    stick: list[tuple[float, _stick.Figures]] = []
    pace_ours, pace_stick = (250.0, 700.0) if callers == 1 else (700.0, 3_000.0)
    for number in range(repetitions):
        disk = _stick.disk(store)
        figures = _stick.run(disk, max(callers * 2, round(pace_stick * seconds)), callers)
        disk.close()
        pace_stick = len(figures.latencies) / figures.seconds
        stick.append((pace_stick, figures))
        before = daemon.writer.stats()["commits"]
        total = max(callers * 2, round(pace_ours * seconds))
        load = Load(daemon, DIAMOND, total, callers, f"r{callers}-{number}-").run()
        pace_ours = load.total / load.seconds
        ours.append((pace_ours, load, (daemon.writer.stats()["commits"] - before) / load.total))
    kind = store.kind
    hand = _line(kind, callers, "by hand", [pace for pace, _ in stick], [f for _, f in stick])
    hand["commits"] = round(statistics.median(f.commits / len(f.latencies) for _, f in stick), 3)
    line = _line(kind, callers, "daemon", [pace for pace, _, _ in ours], [load for _, load, _ in ours])
    line["commits"] = round(statistics.median(commits for _, _, commits in ours), 3)
    line["ratio"] = round(statistics.median(p for p, _, _ in ours) / statistics.median(p for p, _ in stick), 3)
    return [hand, line]


def _line(kind: str, callers: int, who: str, paces: list[float], runs: list[Any]) -> dict[str, Any]:
    latencies = [latency for run in runs for latency in run.latencies]
    return {
        "store": kind,
        "callers": callers,
        "who": who,
        "repetitions": len(paces),
        "requests/s": spread(paces),
        "p50 ms": round(1_000 * percentile(latencies, 0.5), 2),
        "p99 ms": round(1_000 * percentile(latencies, 0.99), 2),
        "cpu ms": round(1_000 * statistics.median(run.processor / len(run.latencies) for run in runs), 3),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="0.3 seconds per figure, twice, instead of four, five times"
    )
    parser.add_argument("--store", choices=KINDS, help="this one only")
    parser.add_argument("--callers", type=int, help="so many only")
    options = parser.parse_args()
    seconds, repetitions = (0.3, 2) if options.quick else (4.0, 5)
    rows: list[dict[str, Any]] = []
    many = (options.callers,) if options.callers else CALLERS
    for kind in [options.store] if options.store else KINDS:
        rows.extend(measure(kind, many, seconds, repetitions))
    report("requests", rows)


if __name__ == "__main__":
    main()
