"""Whether a daemon whose conversations come and go stays as large as it is.

Run it as `python -m benchmarks.turnover [--quick]`. New conversations have one request each, that of `requests.py`, and
leave memory soon after their reply; the daemon's resident memory is noted now and then. Nobody calls the collector: a
daemon has only what it does by itself. The stick has no conversations that leave.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
from typing import Any

from benchmarks._lab import DIAMOND, Load, report, running_daemon, scratch

AT_ONCE = 16
AWAKE = 5.0
"""Seconds after which an idle conversation leaves memory."""


def resident() -> float:
    """Return this process's resident memory in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def measure(rounds: int, conversations: int) -> list[dict[str, Any]]:
    """Return a line for each round."""
    rows: list[dict[str, Any]] = []
    with scratch("sqlite") as store:
        settings = store.settings().model_copy(update={"passivate_after": AWAKE})
        with running_daemon(settings) as daemon:
            assert daemon.router is not None
            for number in range(rounds):
                load = Load(daemon, DIAMOND, conversations, AT_ONCE, prefix=f"r{number}-").run()
                rows.append(
                    {
                        "conversations so far": (number + 1) * conversations,
                        "requests/s": load.total / load.seconds,
                        "awake": daemon.router.live(),
                        "resident MiB": round(resident(), 1),
                        "found by the collector": sum(generation["collected"] for generation in gc.get_stats()),
                    }
                )
    return rows


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 times 3,000 conversations instead of 5 times 25,000")
    options = parser.parse_args()
    report("turnover", measure(*((3, 3_000) if options.quick else (5, 25_000))))


if __name__ == "__main__":
    main()
