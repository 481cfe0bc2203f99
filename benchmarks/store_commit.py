"""What a durable step costs: appends per second and time per commit, by size of the batch, per kind of store.

Run it as `python -m benchmarks.store_commit [--quick] [--store sqlite]`. A step here is an agent's success as the core
writes it: an entry of two events and a result of 1 KB; each append is of another conversation, as in a daemon whose
conversations all work at once. A commit is synchronised, so the disk below the temporary folder decides. The stick
(benchmarks/_stick.py) commits a row with the same result and nothing else for each append.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import uuid
from pathlib import Path
from typing import Any

from benchmarks import _stick
from benchmarks._lab import percentile, report, scratch, spread
from messages.events import NodeStarted, NodeSucceeded
from persistence.append import ResultBody, build_append
from persistence.contract import Append, Store
from persistence.open_store import create_store

KINDS = ("sqlite", "postgres", "redis", "memory")
BATCHES = (1, 64, 512)
BODY = json.dumps({"text": "x" * 1_012}).encode()


def step(conversation_id: str, before: int, at: int) -> Append:
    """Return one success with its result, and the start of the next node."""
    request_id = f"request-{before // 20}"
    node = f"node_{before}"
    common: dict[str, Any] = {"at": at, "conversation_id": conversation_id, "request_id": request_id}
    done = NodeSucceeded(seq=before + 1, node=node, agent="search", attempt=1, duration_ms=12.5, **common)
    begun = NodeStarted(seq=before + 2, node=f"node_{before + 2}", agent="search", attempt=1, **common)
    return build_append(
        conversation_id=conversation_id,
        expected_seq=before,
        events=[done, begun],
        phase="executing",
        unfinished=True,
        oldest_open_seq=1,
        open_request_ids=(request_id,),
        snapshot=None,
        fingerprints={},
        results={(request_id, node): ResultBody(BODY)},
    )


def measure(
    store: Store, disk: _stick.Disk | None, size: int, seconds: float, repetitions: int
) -> list[dict[str, Any]]:
    """Commit batches of one size for a while; building the appends is not counted."""
    run = uuid.uuid4().hex

    def ours(number: int) -> float:
        batch = [step(f"{run}-{place}", 2 * number, 1_700_000_000_000 + number) for place in range(size)]
        began = time.perf_counter()
        store.commit(batch)
        return time.perf_counter() - began

    def by_hand(number: int) -> float:
        assert disk is not None
        rows = [(f"{run}-{place}", number, BODY) for place in range(size)]
        began = time.perf_counter()
        disk.commit(rows)
        return time.perf_counter() - began

    ways = {"by hand": by_hand, "store": ours} if disk is not None else {"store": ours}
    taken: dict[str, list[list[float]]] = {who: [] for who in ways}
    numbers = {who: iter(range(1 << 40)) for who in ways}
    for _ in range(repetitions):
        for who, commit in ways.items():
            one: list[float] = []
            while sum(one) < seconds or len(one) < 3:
                one.append(commit(next(numbers[who])))
            taken[who].append(one)
    paces = {who: [size * len(one) / sum(one) for one in runs] for who, runs in taken.items()}
    rows = [
        {
            "who": who,
            "batch": size,
            "repetitions": repetitions,
            "appends/s": spread(paces[who]),
            "commit p50 ms": round(1_000 * percentile([took for one in runs for took in one], 0.5), 3),
            "commit p99 ms": round(1_000 * percentile([took for one in runs for took in one], 0.99), 3),
            "us/append": round(1e6 / statistics.median(paces[who]), 1),
        }
        for who, runs in taken.items()
    ]
    if disk is not None:
        rows[-1]["ratio"] = round(statistics.median(paces["store"]) / statistics.median(paces["by hand"]), 3)
    return rows


def synchronise_ms(directory: Path, times: int = 50) -> float:
    """Return the median time that the disk below takes to synchronise a small write: the floor of a commit."""
    path = directory / "synchronise"
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(b"x" * 4_096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    path.unlink()
    return round(1_000 * statistics.median(taken), 3)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="0.1 seconds per figure, once, instead of 1, five times")
    parser.add_argument("--store", choices=KINDS, help="this one only")
    options = parser.parse_args()
    seconds, repetitions = (0.1, 1) if options.quick else (1.0, 5)
    rows: list[dict[str, Any]] = []
    for kind in (options.store,) if options.store else KINDS:
        with scratch(kind) as place:
            if kind == "sqlite":
                print(f"the disk synchronises 4 KB in {synchronise_ms(place.folder)} ms (median)")
            given: dict[str, Any] = {"dsn": place.dsn, "redis_url": place.redis_url, "redis_prefix": "benchmark"}
            store = create_store(kind, data_dir=place.folder, **given)
            store.open("benchmark")
            disk = None if kind == "memory" else _stick.disk(place)
            for size in BATCHES:
                rows.extend({"store": kind, **row} for row in measure(store, disk, size, seconds, repetitions))
            store.close()
            if disk is not None:
                disk.close()
    report("store_commit", rows)


if __name__ == "__main__":
    main()
