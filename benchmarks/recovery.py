"""How long 1,000 requests in flight take to be answered after `kill -9`, beyond the work that was left.

Run it as `python -m benchmarks.recovery [--quick] [--store sqlite]`. Each request is one agent that waits 1.5 seconds.
A process accepts them all, is killed while all agents run, and another is started at once: the time runs from that
start, interpreter and imports included, to the last reply. The agents' own 1.5 seconds are subtracted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WORK = 1.5
KINDS = ("sqlite", "postgres", "redis")


def main() -> None:
    """Measure, and print; `--child` is one of the two processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once instead of three times, on SQLite alone")
    parser.add_argument("--store", choices=KINDS, help="this one only")
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(json.loads(options.child))
        return
    from benchmarks._lab import report, spread  # noqa: PLC0415  # the child is timed from its first line on

    rows: list[dict[str, Any]] = []
    for kind in [options.store] if options.store else KINDS[:1] if options.quick else KINDS:
        taken = [measure(kind, options.requests) for _ in range(1 if options.quick else 3)]
        beyond = [one["seconds"] - WORK for one in taken]
        row: dict[str, Any] = {"store": kind, "requests": options.requests, "repetitions": len(taken)}
        row |= {"beyond the work": round(statistics.median(beyond), 2), "spread": spread(beyond)}
        row |= {name: round(statistics.median(one[name] for one in taken), 2) for name in taken[0]}
        rows.append(row)
    report("recovery", rows)


def measure(kind: str, requests: int) -> dict[str, float]:
    """Return the seconds of one crash."""
    from benchmarks._lab import scratch  # noqa: PLC0415  # as above

    with scratch(kind) as store:
        where = {"kind": kind, "folder": str(store.folder), "dsn": store.dsn, "redis_url": store.redis_url}
        first = _start({**where, "send": requests})
        assert first.stdout is not None
        line = first.stdout.readline()
        first.kill()
        first.wait()
        if "running" not in line:
            raise RuntimeError(f"the first process said {line!r}")
        began = time.perf_counter()
        second = _start({**where, "send": 0})
        assert second.stdout is not None
        told = json.loads(second.stdout.readline())
        seconds = time.perf_counter() - began
        second.wait(30)
    return {"seconds": seconds, **told}


def _start(order: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.recovery", "--child", json.dumps(order)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603  # ours


def child(order: dict[str, Any]) -> None:
    """Send and wait to be killed, or take up what is left and say when all is answered."""
    began = time.perf_counter()
    from agents import agent  # noqa: PLC0415  # as above
    from benchmarks._lab import Scratch, running_daemon, wait_until  # noqa: PLC0415  # as above
    from messages.inbound import UserMessage  # noqa: PLC0415  # as above
    from messages.plan import Plan  # noqa: PLC0415  # as above

    @agent(effects="read")
    async def slow() -> str:
        """Wait."""
        await asyncio.sleep(WORK if not order["send"] else 60)
        return "done"

    sys.modules["bench_recovery_agents"] = sys.modules[__name__]
    globals()["slow"] = slow
    store = Scratch(order["kind"], Path(order["folder"]), order["dsn"], order["redis_url"])
    settings = store.settings(agents_from=("bench_recovery_agents",), agent_timeout=120.0, lease_ttl=0.5)
    with running_daemon(settings) as daemon:
        ready = time.perf_counter() - began
        assert daemon.router is not None
        router = daemon.router
        if order["send"]:
            plan = Plan.model_validate({"nodes": [{"id": "n", "agent": "slow"}]})
            room = threading.Semaphore(256)
            for number in range(order["send"]):
                room.acquire()
                message = UserMessage(conversation_id=f"c{number}", text="hello", plan=plan)
                router.submit(message, lambda _answer: room.release())
            wait_until(lambda: sum(row["kind"] == "agent" for row in daemon.system.tree.rows()) >= order["send"])
            print("running", flush=True)
            threading.Event().wait()
        wait_until(lambda: not daemon.store.unfinished())
        print(
            json.dumps({"ready after": round(ready, 2), "answered after": round(time.perf_counter() - began, 2)}),
            flush=True,
        )


if __name__ == "__main__":
    main()
