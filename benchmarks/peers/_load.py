"""Drives a peer: callers in one event loop, orders as JSON lines, an answer for each. Imports nothing of the daemon."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

Ask = Callable[[str], Awaitable[str]]
"""Carries one request out, named by its id; returns the reply's text."""

KILOBYTE = "x" * 1_000


def join(a: str, b: str, c: str) -> str:
    """What the fourth agent makes of the other three's results."""
    return a[:300] + b[:300] + c[:400]


async def obey(ask: Ask, *packages: str) -> None:
    """Say the versions, then carry out each line of stdin: `{"prefix": "r", "total": 100, "at_once": 32}`."""
    print(json.dumps({name: version(name) for name in packages}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await _carry_out(ask, **json.loads(line))), flush=True)


async def _carry_out(ask: Ask, prefix: str, total: int, at_once: int) -> dict[str, Any]:
    numbers = iter(range(total))
    latencies: list[float] = []

    async def caller() -> None:
        for number in numbers:
            began = time.perf_counter()
            text = await ask(f"{prefix}{number}")
            latencies.append(time.perf_counter() - began)
            if len(text) != len(KILOBYTE):
                raise RuntimeError(f"request {number} was answered {text!r}")

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(at_once)))
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    return {"seconds": seconds, "processor": processor, "latencies": latencies}
