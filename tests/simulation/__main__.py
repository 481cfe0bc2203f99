"""Play many seeds on all cores and count, or one seed and tell its story."""

# ruff: noqa: T201  # its output is what it is for
from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from simulation.mutants import MUTANTS, find
from simulation.world import Violation, World


def play(first: int, count: int) -> tuple[Counter[str], list[str]]:
    """Play `count` seeds; return what was seen, and a sentence for every seed that failed."""
    seen: Counter[str] = Counter()
    failed = []
    for seed in range(first, first + count):
        world = World(seed)
        try:
            world.run()
        except Violation as violation:
            failed.append(str(violation))
        except Exception as error:  # noqa: BLE001  # a run that breaks down is a finding like any other
            failed.append(f"seed {seed}: {type(error).__name__}: {error}")
        seen.update(world.seen)
    return seen, failed


def story(seed: int) -> tuple[World, str | None]:
    """Play one seed and keep its story; return what failed as well."""
    world = World(seed, story=True)
    try:
        world.run()
    except Violation as violation:
        return world, str(violation)
    return world, None


def trace_hash(first: int, count: int) -> str:
    """Return a hash over the stories of these seeds."""
    whole = hashlib.sha256()
    for seed in range(first, first + count):
        whole.update(story(seed)[0].trace_hash.encode())
    return whole.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="play only this one and tell its story")
    parser.add_argument("--hash", action="store_true", help="print a hash over the stories and nothing else")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seen", action="store_true", help="say how often each fault and branch was met")
    parser.add_argument("--mutants", action="store_true", help="plant every defect and print where it is found")
    parser.add_argument("--plant", metavar="DEFECT", help="play with this defect planted (see --mutants)")
    options = parser.parse_args()
    if options.mutants:
        return _table()
    if options.plant is not None:
        with next(mutant for mutant in MUTANTS if mutant.name == options.plant).planted():
            return _play(options)
    return _play(options)


def _play(options: argparse.Namespace) -> int:
    if options.hash:
        print(trace_hash(options.first, options.seeds))
        return 0
    if options.seed is not None:
        world, failed = story(options.seed)
        print("\n".join(world.story or ()))
        print(f"seed {options.seed}: {world.steps} steps, trace {world.trace_hash}: {failed or 'all invariants hold'}")
        return 1 if failed else 0
    return _many(options)


def _table() -> int:
    print("| planted defect | found at seed | by the invariant |\n| --- | ---: | --- |")
    missed = 0
    for mutant in MUTANTS:
        found = find(mutant, 1000)
        missed += found is None
        seed, rule = found or ("not in 1000", "")
        print(f"| {mutant.name} | {seed} | {rule} |", flush=True)
    return 1 if missed else 0


def _many(options: argparse.Namespace) -> int:
    size = max(1, min(250, options.seeds // (4 * options.jobs) or 1))
    end = options.first + options.seeds
    chunks = [(first, min(size, end - first)) for first in range(options.first, end, size)]
    seen: Counter[str] = Counter()
    failed: list[str] = []
    began = time.perf_counter()
    with ProcessPoolExecutor(options.jobs) as pool:
        for counted, failures in pool.map(play, *zip(*chunks, strict=True)):
            seen.update(counted)
            failed.extend(failures)
            for failure in failures:
                print(f"{failure}\n  replay: make simulate SEEDS=1 SEED={failure.split()[1].rstrip(':')}", flush=True)
    seconds = time.perf_counter() - began
    if options.seen:
        for what, count in sorted(seen.items()):
            print(f"{count:10}  {what}")
    kinds = sum(what.startswith("fault: ") for what in seen)
    print(
        f"{options.seeds} seeds from {options.first}, {len(failed)} failed; {options.seeds / seconds:.0f} seeds/s "
        f"on {options.jobs} cores; {kinds} kinds of fault, {seen['branch: unfinished work resumed at boot']} recoveries"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
