"""What an idle conversation costs: bytes per live supervisor, bytes per passivated one, time to wake one.

Run it as `python -m benchmarks.idle_conversations [--quick]`. Each conversation has had one turn with a direct answer,
on the SQLite store. Live ones are counted before they are passivated; then all are passivated, the rest of the memory
is looked at again, and some are woken one by one. The stick has no conversations that sleep.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks._lab import percentile, report, spread
from config import Settings
from daemon import Daemon
from messages.inbound import Answer, UserMessage
from messages.plan import Plan
from serving import make_telemetry

ROOT = Path(__file__).parents[1]
WOKEN = 300


def resident() -> int:
    """Return this process's resident memory in bytes."""
    gc.collect()
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


class Crowd:
    """Sends one message to each of many conversations and waits for all answers."""

    def __init__(self, daemon: Daemon) -> None:
        assert daemon.router is not None
        self.router = daemon.router

    def speak(self, ids: range, at_once: int = 512) -> None:
        """Say hello in each conversation."""
        room = threading.Semaphore(at_once)
        plan = Plan(answer="hello")

        def answered(_answer: Answer) -> None:
            room.release()

        for number in ids:
            room.acquire()
            self.router.submit(UserMessage(conversation_id=f"c{number}", text="hello", plan=plan), answered)
        for _ in range(at_once):
            room.acquire()

    def wait_until_live(self, wanted: int, timeout: float) -> None:
        """Wait until so many conversations are awake."""
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while self.router.live() != wanted and time.monotonic() < deadline:
            pause.wait(0.05)

    def wake_one(self, number: int) -> float:
        """Return the seconds from a message to a passivated conversation until it is durable."""
        done = threading.Event()
        began = time.perf_counter()
        message = UserMessage(conversation_id=f"c{number}", text="again", plan=Plan(answer="again"))
        self.router.submit(message, lambda _answer: done.set())
        done.wait(10)
        return time.perf_counter() - began


def measure(count: int) -> dict[str, float]:
    """Return the figures for `count` conversations."""
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(
            data_dir=Path(directory), http_bind="off", log_level="ERROR", trace_all=False, passivate_after=3600.0
        )
        telemetry = make_telemetry(settings)
        daemon = Daemon(settings, telemetry)
        daemon.start()
        crowd = Crowd(daemon)
        crowd.speak(range(1000))
        warm = resident()
        began = time.perf_counter()
        crowd.speak(range(1000, 1000 + count))
        seconds = time.perf_counter() - began
        live = resident() - warm
        assert crowd.router.live() == 1000 + count
        daemon.reconfigure(settings.model_copy(update={"passivate_after": 0.01}))
        daemon.router.sweep()  # type: ignore[union-attr]  # started above
        crowd.wait_until_live(0, 120)
        daemon.reconfigure(settings)
        # Python keeps freed memory for itself, so that its size says little now: what as many further conversations
        # add to it is what the passivated ones really hold.
        crowd.speak(range(1000 + count, 1000 + 2 * count))
        passive = resident() - warm - live
        daemon.reconfigure(settings.model_copy(update={"passivate_after": 0.01}))
        daemon.router.sweep()  # type: ignore[union-attr]  # started above
        crowd.wait_until_live(0, 120)
        times = [crowd.wake_one(1000 + number * max(1, count // WOKEN)) for number in range(min(WOKEN, count))]
        daemon.stop()
        telemetry.close(1.0)
    return {
        "bytes/live": live / count,
        "bytes/passivated": max(0, passive) / count,
        "wake p50 ms": 1000 * percentile(times, 0.5),
        "wake p99 ms": 1000 * percentile(times, 0.99),
        "made/s": count / seconds,
    }


def main() -> None:
    """Measure, each repetition in a process of its own so that none inherits another's memory, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="5,000 conversations, once, instead of 100,000, three times"
    )
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child)))
        return
    count, repetitions = (5_000, 1) if options.quick else (100_000, 3)
    command = [sys.executable, "-m", "benchmarks.idle_conversations", "--child", str(count)]
    taken = [
        json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)  # noqa: S603  # this file
        for _ in range(repetitions)
    ]
    row: dict[str, Any] = {"conversations": count, "repetitions": repetitions}
    report("idle_conversations", [row | {name: spread([one[name] for one in taken]) for name in taken[0]}])


if __name__ == "__main__":
    main()
