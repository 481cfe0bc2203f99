"""How many durable requests a second, beside LangGraph and DBOS: the work of `requests.py` done by all in one run.

Run it as `make bench-peers`, with `QUICK=1` in short. The peers run in an environment and a process of their own
(benchmarks/peers/requirements.lock), the stick and the daemon in this one, on SQLite and on Postgres; each repetition
asks all of them in turn. `ratio` is the median beside the stick's, `daemon is` the daemon's beside this one's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from benchmarks import _stick
from benchmarks._lab import DIAMOND, Load, Scratch, Taken, report, running_daemon, scratch

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-peers"
KINDS = ("sqlite", "postgres")
PEERS = ("langgraph", "dbos")
CALLERS = (1, 32, 256)
PACE = {"by hand": 2_000.0, "daemon": 500.0, "langgraph": 100.0, "dbos": 50.0}
"""Requests a second, for the first guess of how many make a run of the wanted length."""


@dataclass
class Run:
    """What one run took."""

    seconds: float
    processor: float
    latencies: list[float]


class Peer:
    """Another program in its process. Raises `RuntimeError` when that has ended."""

    def __init__(self, name: str, kind: str, where: str) -> None:
        self.name = name
        self._process = subprocess.Popen(  # noqa: S603  # a program of this folder
            [str(ENVIRONMENT / "bin" / "python"), "-m", f"benchmarks.peers._{name}", kind, where],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions: dict[str, str] = self._answer()

    def run(self, total: int, at_once: int, prefix: str) -> Run:
        """Have so many requests carried out, so many at once."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prefix": prefix, "total": total, "at_once": at_once}) + "\n")
        self._process.stdin.flush()
        return Run(**self._answer())

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self._process.wait(15)}")
        return json.loads(line)


@contextlib.contextmanager
def _peers(store: Scratch) -> Iterator[list[Peer]]:
    with contextlib.ExitStack() as stack:
        found = []
        for name in PEERS:
            found.append(Peer(name, store.kind, _place(store, name)))
            stack.callback(found[-1].stop)
        yield found


def _place(store: Scratch, name: str) -> str:
    """Return a file or a database for one peer alone."""
    if store.dsn is None:
        return str(store.folder / f"{name}.db")
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # one of our two names
    parts = conninfo_to_dict(store.dsn)
    return f"postgresql://{parts['user']}@/{name}?host={parts['host']}"


def measure(kind: str, many: tuple[int, ...], seconds: float, repetitions: int) -> list[dict[str, Any]]:
    """Return a line for everybody, for each number of callers."""
    rows: list[dict[str, Any]] = []
    with scratch(kind) as store, running_daemon(store.settings()) as daemon, _peers(store) as peers:

        def by_hand(total: int, at_once: int, _prefix: str) -> Run:
            disk = _stick.disk(store)
            figures = _stick.run(disk, total, at_once)
            disk.close()
            return Run(figures.seconds, figures.processor, figures.latencies)

        def ours(total: int, at_once: int, prefix: str) -> Run:
            load = Load(daemon, DIAMOND, total, at_once, prefix).run()
            if load.statuses != {"completed": total}:
                raise RuntimeError(f"not all were completed: {load.statuses}")
            return Run(load.seconds, load.processor, load.latencies)

        everybody = {"by hand": by_hand, "daemon": ours, **{peer.name: peer.run for peer in peers}}
        versions = {peer.name: peer.versions[peer.name] for peer in peers}
        for who, run in everybody.items():
            run(40, 8, f"warm-{who.replace(' ', '-')}-")
        for callers in many:
            taken = {who: Taken() for who in everybody}
            paces = {who: pace if callers > 1 else pace / 3 for who, pace in PACE.items()}
            for number in range(repetitions):
                for who, run in everybody.items():
                    total = max(callers, 10, round(paces[who] * seconds))
                    took = run(total, callers, f"{callers}-{number}-")
                    paces[who] = taken[who].add(took.seconds, took.latencies, took.processor)
            medians = {who: statistics.median(one.paces) for who, one in taken.items()}
            for who, one in taken.items():
                row: dict[str, Any] = {"store": kind, "callers": callers, "who": who}
                row |= {"version": versions.get(who, "this")} | one.row()
                row["ratio"] = round(medians[who] / medians["by hand"], 4)
                row["daemon is"] = round(medians["daemon"] / medians[who], 2)
                rows.append(row)
        for peer in peers:
            print(f"{peer.name} on {kind}:", ", ".join(f"{name} {found}" for name, found in peer.versions.items()))
    return rows


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a second per figure, once, instead of four, three times")
    parser.add_argument("--store", choices=KINDS, help="this one only")
    parser.add_argument("--callers", type=int, help="so many only")
    options = parser.parse_args()
    if not ENVIRONMENT.exists():
        sys.exit("the peers are not installed: make bench-peers")
    seconds, repetitions = (1.0, 1) if options.quick else (4.0, 3)
    many = (options.callers,) if options.callers else CALLERS
    rows: list[dict[str, Any]] = []
    for kind in (options.store,) if options.store else KINDS:
        rows.extend(measure(kind, many, seconds, repetitions))
    report("durable_requests beside peers", rows)


if __name__ == "__main__":
    main()
