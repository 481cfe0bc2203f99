"""How many steps a second a store commits, by the number of steps that share one commit.

Each step carries an entry of about one kilobyte; `full` ones carry a result and a text too, as in
real work. Commits are made one after the other by one thread, as the journal's writer does.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from persistence.contract import (
    Append,
    Committed,
    MemoryRow,
    ResultRow,
    Store,
)  # the project's root has to be found first
from persistence.open_store import create_store  # as above

BODY = b"0badc0de" + b'{"request_id":"r","events":[' + b"x" * 960 + b"]}"
TEXT = "a sentence that somebody said. " * 4
CONVERSATIONS = 2_000
SIZES = (1, 8, 64, 256, 512)
KINDS = ("memory", "sqlite")


def steps(kind_of_step: str) -> Iterator[Append]:
    """Yield steps of many conversations in turn, without end."""
    seqs = [0] * CONVERSATIONS
    number = 0
    while True:
        number += 1
        which = number % CONVERSATIONS
        before = seqs[which]
        after = seqs[which] = before + 2
        full = kind_of_step == "full"
        request_id = f"r{after}"
        yield Append(
            conversation_id=f"c{which}",
            expected_seq=before,
            last_seq=after,
            at=1_760_000_000_000 + number,
            entry=BODY,
            phase="executing_parallel",
            unfinished=True,
            oldest_open_seq=1,
            open_request_ids=(request_id,),
            results=(ResultRow(request_id, "a", "stock", 1, b'{"units":4}' * 20, 12.5),) if full else (),
            memory=(MemoryRow(after, "user", request_id, TEXT, 1_760_000_000_000 + number),) if full else (),
        )


def measure(store: Store, size: int, kind_of_step: str, seconds: float) -> dict[str, float]:
    """Commit batches of `size` for so many seconds; return the figures."""
    made = steps(kind_of_step)
    times: list[float] = []
    began = time.perf_counter()
    spent = 0.0
    while spent < seconds:
        batch = [next(made) for _ in range(size)]
        at = time.perf_counter()
        outcomes = store.commit(batch)
        times.append(time.perf_counter() - at)
        assert all(isinstance(outcome, Committed) for outcome in outcomes)
        spent = time.perf_counter() - began
    busy = sum(times)
    return {
        "appends_per_s": size * len(times) / busy,
        "commits_per_s": len(times) / busy,
        "commit_ms_median": 1000 * statistics.median(times),
        "commit_ms_p99": 1000 * sorted(times)[int(len(times) * 0.99)],
    }


def main() -> None:
    """Print a table for people and JSON lines for programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of a second for each line instead of three")
    parser.add_argument("--directory", type=Path, help="where the database is made: its disk is what is measured")
    options = parser.parse_args()
    seconds = 0.25 if options.quick else 3.0
    print(f"store commits, {platform.machine()}, Python {platform.python_version()}")
    print(f"{'store':8} {'step':6} {'batch':>6} {'appends/s':>11} {'commits/s':>11} {'median ms':>10} {'p99 ms':>9}")
    lines = []
    for kind in KINDS:
        for kind_of_step in ("entry", "full"):
            for size in SIZES:
                with tempfile.TemporaryDirectory(dir=options.directory) as directory:
                    store = create_store(kind, data_dir=Path(directory))
                    store.open("benchmark")
                    figures = measure(store, size, kind_of_step, seconds)
                    store.close()
                print(
                    f"{kind:8} {kind_of_step:6} {size:6} {figures['appends_per_s']:11,.0f}"
                    f" {figures['commits_per_s']:11,.0f} {figures['commit_ms_median']:10.3f}"
                    f" {figures['commit_ms_p99']:9.3f}"
                )
                lines.append(
                    {"benchmark": "store_commit", "store": kind, "step": kind_of_step, "batch": size, **figures}
                )
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
