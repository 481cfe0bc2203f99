"""What the interpreter's lock costs: one daemon, and two of them on two stores with the conversations split.

Run it as `python -m benchmarks.two_daemons [--quick]`. Each daemon is a process that sends itself requests (three
agents and one that needs all three, 256 at once); two of them run at the same time. That is what a second daemon would
give to a team that splits its conversations by their ids.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Measure, and print; `--child` is one of the daemons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once instead of five times, and a fifth as long")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    from benchmarks._lab import report, spread  # noqa: PLC0415  # the children need less

    requests, repetitions = (1_500, 1) if options.quick else (8_000, 5)
    paces: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repetitions):
        for daemons, found in paces.items():
            found.append(_together(daemons, requests // daemons))
    alone = statistics.median(paces[1])
    rows: list[dict[str, Any]] = [
        {
            "daemons": daemons,
            "repetitions": repetitions,
            "requests/s": spread(found),
            "beside one": round(statistics.median(found) / alone, 2),
        }
        for daemons, found in paces.items()
    ]
    report("two_daemons", rows)


def _together(daemons: int, requests: int) -> float:
    """Return requests a second of so many daemons that begin at the same moment."""
    command = [sys.executable, "-m", "benchmarks.two_daemons", "--child", str(requests)]
    children = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  # this file
        for _ in range(daemons)
    ]
    for one in children:
        assert one.stdout is not None
        one.stdout.readline()  # it is warm
    for one in children:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    seconds = []
    for one in children:
        assert one.stdout is not None
        seconds.append(float(json.loads(one.stdout.readline())["seconds"]))
        one.wait()
    return daemons * requests / max(seconds)


def child(requests: int) -> None:
    """Be one daemon: warm up, wait for the word, answer so many requests."""
    from benchmarks._lab import DIAMOND, Load, running_daemon, scratch  # noqa: PLC0415  # as above

    with scratch("sqlite") as store, running_daemon(store.settings()) as daemon:
        Load(daemon, DIAMOND, 500, 64, prefix="warm").run()
        print("warm", flush=True)
        sys.stdin.readline()
        load = Load(daemon, DIAMOND, requests, 256).run()
        print(json.dumps({"seconds": load.seconds}), flush=True)


if __name__ == "__main__":
    main()
