"""What a durable step costs: appends per second and time per commit, by size of the batch, per kind of store.

Run it as `python -m benchmarks.store_commit [--quick]`: a table for people, then one JSON object per line. A step here
is an agent's success as the core writes it: an entry of two events and a result of 1 KB; each append is of another
conversation, as in a daemon whose conversations all work at once. The files lie in the folder `--directory` names
(the temporary one by default): a commit is synchronised, so the disk below it decides. `--postgres-dsn` and
`--redis-url` add those stores, on servers and in a database made for it: what is measured stays there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from messages.events import NodeStarted, NodeSucceeded
from persistence.append import ResultBody, build_append
from persistence.contract import Append, Store
from persistence.open_store import create_store

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


def measure(store: Store, size: int, seconds: float) -> dict[str, Any]:
    """Commit batches of one size for a while; building the appends is not counted."""
    taken: list[float] = []
    spent, number, run = 0.0, 0, uuid.uuid4().hex
    while spent < seconds or len(taken) < 5:
        batch = [step(f"{run}-{place}", 2 * number, 1_700_000_000_000 + number) for place in range(size)]
        began = time.perf_counter()
        store.commit(batch)
        taken.append(time.perf_counter() - began)
        spent += taken[-1]
        number += 1
    ranked = sorted(taken)
    return {
        "batch": size,
        "appends_per_second": round(size * len(taken) / spent),
        "commit_ms_median": round(1_000 * statistics.median(taken), 3),
        "commit_ms_p99": round(1_000 * ranked[int(len(ranked) * 0.99)], 3),
        "append_us": round(1e6 * spent / (size * len(taken)), 1),
        "commits": len(taken),
    }


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
    parser.add_argument("--quick", action="store_true", help="half a second per figure instead of four")
    parser.add_argument("--directory", type=Path, default=None, help="where the files are to lie")
    parser.add_argument("--postgres-dsn", default=None, help="measure Postgres too")
    parser.add_argument("--redis-url", default=None, help="measure Redis too")
    options = parser.parse_args()
    kinds = ["sqlite", *(["postgres"] if options.postgres_dsn else []), *(["redis"] if options.redis_url else [])]
    places = {
        "dsn": options.postgres_dsn,
        "redis_url": options.redis_url,
        "redis_prefix": f"benchmark-{uuid.uuid4().hex}",
    }
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        floor = synchronise_ms(Path(folder))
        for kind in (*kinds, "memory"):
            for size in BATCHES:
                store = create_store(kind, data_dir=Path(folder) / f"{kind}-{size}", **places)
                store.open("benchmark")
                rows.append({"store": kind, **measure(store, size, 0.5 if options.quick else 4.0)})
                store.close()
    print(f"the disk synchronises 4 KB in {floor} ms (median)\n")
    print(f"{'store':9}{'batch':>6}{'appends/s':>11}{'commit ms':>11}{'p99 ms':>9}{'us/append':>11}")
    for row in rows:
        figures = (row["batch"], row["appends_per_second"], row["commit_ms_median"], row["commit_ms_p99"])
        print("{:9}{:>6}{:>11,}{:>11.3f}{:>9.3f}{:>11.1f}".format(row["store"], *figures, row["append_us"]))
    print()
    for row in rows:
        print(json.dumps({"benchmark": "store_commit", "synchronise_ms": floor, **row}))


if __name__ == "__main__":
    main()
