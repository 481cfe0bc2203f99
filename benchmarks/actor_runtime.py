"""What do our actors cost beside pykka's thread actors? Tells, asks, starts and stops per second; bytes per idle actor.

Run it as `python -m benchmarks.actor_runtime [--quick]`. Pykka's thread actors are the stick here. Both kinds are
measured in the same run, each figure in a process of its own, so that neither inherits the other's memory.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka

from actors.base import Actor
from actors.system import ActorSystem

Start = Callable[[], "pykka.ActorRef[Any]"]


class OurActor(Actor):
    """Counts, and answers with the count."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def on_receive(self, message: Any) -> int:  # noqa: ARG002  # every message counts the same
        """Count one message."""
        self._count += 1
        return self._count


class ThreadActor(pykka.ThreadingActor):
    """The same on a thread of its own."""

    use_daemon_thread = True

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def on_receive(self, message: Any) -> int:  # noqa: ARG002  # every message counts the same
        """Count one message."""
        self._count += 1
        return self._count


def starter(kind: str) -> Start:
    """Return what starts one more actor."""
    if kind == "threading":
        return ThreadActor.start
    system = ActorSystem()
    numbers = iter(range(1 << 40))
    return lambda: system.spawn(OurActor, f"/conversations/c{next(numbers)}")


def tells(start: Start, scale: float) -> float:
    """Messages told and handled per second, to one actor."""
    count = int(200_000 * scale)
    ref = start()
    begun = time.perf_counter()
    for _ in range(count):
        ref.tell("message")
    assert ref.ask("how many?") == count + 1
    return count / (time.perf_counter() - begun)


def asks(start: Start, scale: float) -> float:
    """Questions asked and answered per second, one after the other."""
    count = int(20_000 * scale)
    ref = start()
    begun = time.perf_counter()
    for _ in range(count):
        ref.ask("question")
    return count / (time.perf_counter() - begun)


def starts(start: Start, scale: float) -> float:
    """Actors started per second, each ready to take messages."""
    count = int(2_000 * scale)
    begun = time.perf_counter()
    refs = [start() for _ in range(count)]
    elapsed = time.perf_counter() - begun
    assert refs[-1].ask("are you there?") == 1
    return count / elapsed


def stops(start: Start, scale: float) -> float:
    """Actors stopped per second, awaited one after the other."""
    refs = [start() for _ in range(int(2_000 * scale))]
    begun = time.perf_counter()
    for ref in refs:
        ref.stop()
    return len(refs) / (time.perf_counter() - begun)


def bytes_per_actor(start: Start, count: int) -> float:
    """Resident memory per idle actor that has handled one message."""
    start().ask("warm up")
    gc.collect()
    before = _resident()
    refs = [start() for _ in range(count)]
    for ref in refs:
        ref.tell("one message each, as every live actor has had")
    for ref in refs:
        ref.ask("all handled?")
    gc.collect()
    return (_resident() - before) / count


MEASURES: dict[str, Callable[[Start, float], float]] = {
    "tells per second": tells,
    "asks per second": asks,
    "starts per second": starts,
    "stops per second": stops,
}
MEMORY = "bytes per idle actor"
KINDS = ("threading", "ours")


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def probe(kind: str, measure: str, *, quick: bool) -> float:
    """Take one figure in this process."""
    start = starter(kind)
    if measure == MEMORY:
        many = 10_000 if quick else 100_000
        return bytes_per_actor(start, many if kind == "ours" else 500)
    scale = (0.25 if quick else 1.0) * (5.0 if kind == "ours" and measure.startswith("st") else 1.0)
    return MEASURES[measure](start, scale)


def main() -> None:
    """Take every figure for both kinds and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller numbers, a few seconds")
    parser.add_argument("--rounds", type=int, default=3, help="each figure is the median of so many")
    parser.add_argument("--probe", nargs=2, metavar=("KIND", "MEASURE"), help="take one figure in this process")
    options = parser.parse_args()
    if options.probe:
        sys.stdout.write(f"{probe(*options.probe, quick=options.quick)}\n")
        sys.stdout.flush()
        os._exit(0)  # thousands of idle actors need not be taken apart
    rounds = 1 if options.quick else options.rounds
    from benchmarks._lab import report  # noqa: PLC0415  # the probes' memory is to be that of actors alone

    rows = [_compare(measure, rounds, quick=options.quick) for measure in (*MEASURES, MEMORY)]
    report("actor_runtime", rows)


def _compare(measure: str, rounds: int, *, quick: bool) -> dict[str, Any]:
    from benchmarks._lab import spread  # noqa: PLC0415  # as above

    # Alternating, so that a busy moment of the machine meets both kinds.
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            taken[kind].append(_apart(kind, measure, quick=quick))
    ratio = statistics.median(taken["ours"]) / statistics.median(taken["threading"])
    figures = {"pykka threads": spread(taken["threading"]), "ours": spread(taken["ours"])}
    return {"measure": measure, "repetitions": rounds, **figures, "ratio": round(ratio, 3)}


def _apart(kind: str, measure: str, *, quick: bool) -> float:
    command = [sys.executable, "-m", "benchmarks.actor_runtime", "--probe", kind, measure]
    done = subprocess.run(  # noqa: S603  # this very program
        [*command, "--quick"] if quick else command, capture_output=True, text=True, check=True, timeout=300
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
