"""What a request costs a user: over HTTP, and over the Redis streams, to a daemon in a process of its own.

Run it as `python -m benchmarks.doors [--quick] [--store sqlite] [--door http]`. A request is that of `requests.py`
(three independent agents, one that needs all three, a kilobyte each); a load program in a third process has 1, 32 and
256 callers. Over HTTP a caller posts the message with `wait` and has the reply as its answer; over Redis it adds it to
`orch:inbox` and hears the reply on `orch:events:<conversation>`. The daemon has its default settings, but for a log
that says warnings only; Redis has `appendfsync always`. The stick (benchmarks/_stick.py) runs in between.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _stick
from benchmarks._callers import LoadProgram, Order, Told
from benchmarks._lab import DIAMOND, Scratch, Taken, redis_server, report, scratch

ROOT = Path(__file__).parents[1]
KINDS = ("sqlite", "postgres", "redis")
DOORS = ("http", "stream")
CALLERS = (1, 32, 256)
PACE = {"by hand": 2_000.0, "http": 300.0, "stream": 300.0}
"""Requests a second, for the first guess of how many make a run of the wanted length."""


@dataclass
class Served:
    """A daemon that runs, and where its doors are."""

    pid: int
    where: dict[str, str]

    def processor(self) -> float:
        """Return the seconds of processor that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def served(store: Scratch) -> Iterator[Served]:
    """Run `run.py serve` on a store, with both doors open."""
    with contextlib.ExitStack() as stack:
        url = store.redis_url or stack.enter_context(redis_server(store.folder))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")},
            "ORCHESTRATOR_DATA_DIR": str(store.folder),
            "ORCHESTRATOR_STATE_STORAGE": store.kind,
            "ORCHESTRATOR_HTTP_BIND": "127.0.0.1:0",
            "ORCHESTRATOR_REDIS_URL": url,
            "ORCHESTRATOR_LOG_LEVEL": "WARNING",
            "ORCHESTRATOR_AGENTS_FROM": "benchmarks._lab",
            "PYTHONPATH": str(ROOT),
            **({"ORCHESTRATOR_POSTGRES_DSN": store.dsn} if store.dsn is not None else {}),
        }
        daemon = stack.enter_context(
            subprocess.Popen(  # noqa: S603  # this project's own program
                [sys.executable, str(ROOT / "run.py"), "serve"],
                env=environment,
                cwd=store.folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        said: list[str] = []
        assert daemon.stderr is not None
        try:
            for line in daemon.stderr:
                said.append(line)
                if "listening on http" in line:
                    break
            else:
                raise RuntimeError("the daemon did not start:\n" + "".join(said))
            port = said[-1].split("http://")[1].split()[0].rstrip('",').rpartition(":")[2]
            # What it says later must not fill the pipe.
            rest = threading.Thread(target=daemon.stderr.read, daemon=True)
            rest.start()
            yield Served(daemon.pid, {"http": port, "stream": url.removeprefix("unix://")})
        finally:
            daemon.terminate()
            daemon.wait(30)


def measure(
    kind: str, many: tuple[int, ...], doors: tuple[str, ...], seconds: float, repetitions: int
) -> list[dict[str, Any]]:
    """Return a line for the stick and one for each door, for each number of callers."""
    rows: list[dict[str, Any]] = []
    message = {"text": "hello", "plan": DIAMOND.model_dump(mode="json", exclude_unset=True)}
    with scratch(kind) as store, LoadProgram() as load, served(store) as daemon:

        def ask(door: str, total: int, callers: int, prefix: str) -> Told:
            return load.run(Order(door, daemon.where[door], total, callers, f"{door}-{prefix}-", message))

        for door in doors:
            ask(door, 100, 16, "warm")
        for callers in many:
            taken = {who: Taken() for who in ("by hand", *doors)}
            paces = {who: pace if callers > 1 else pace / 3 for who, pace in PACE.items()}
            for number in range(repetitions):
                totals = {who: max(callers, 20, round(paces[who] * seconds)) for who in taken}
                disk = _stick.disk(store)
                hand = _stick.run(disk, totals["by hand"], callers)
                disk.close()
                paces["by hand"] = taken["by hand"].add(hand.seconds, hand.latencies, hand.processor)
                for door in doors:
                    before = daemon.processor()
                    told = ask(door, totals[door], callers, f"{callers}-{number}")
                    paces[door] = taken[door].add(told.seconds, told.latencies, daemon.processor() - before)
            stick = statistics.median(taken["by hand"].paces)
            for who, one in taken.items():
                row: dict[str, Any] = {"store": kind, "callers": callers, "who": who, **one.row()}
                if who != "by hand":
                    row["ratio"] = round(statistics.median(one.paces) / stick, 3)
                rows.append(row)
    return rows


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="0.4 seconds per figure, once, instead of 3, three times")
    parser.add_argument("--store", choices=KINDS, help="this one only")
    parser.add_argument("--door", choices=DOORS, help="this one only")
    parser.add_argument("--callers", type=int, help="so many only")
    options = parser.parse_args()
    seconds, repetitions = (0.4, 1) if options.quick else (3.0, 3)
    many = (options.callers,) if options.callers else CALLERS
    doors = (options.door,) if options.door else DOORS
    rows: list[dict[str, Any]] = []
    for kind in (options.store,) if options.store else KINDS:
        rows.extend(measure(kind, many, doors, seconds, repetitions))
    report("doors", rows)


if __name__ == "__main__":
    main()
