"""Agents that misbehave, in a module that worker processes can import."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from agents import Context, agent

RELEASE = threading.Event()
"""Set by tests to let blocking agents go."""
MEETING: list[asyncio.Future[None]] = []
"""Those that wait for the others."""


class Flaky(Exception):
    """Of no kind that anybody knows."""


RAISES: dict[str, Any] = {
    "flaky": lambda: Flaky("try again"),
    "value": lambda: ValueError("wrong"),
}


@agent
def double(x: int, ctx: Context) -> int:
    """Double it."""
    ctx.progress(f"doubling {x}")
    return 2 * x


@agent
async def double_async(x: int, ctx: Context) -> int:
    """Double it, later."""
    await asyncio.sleep(0)
    ctx.progress(f"doubling {x}")
    return 2 * x


@agent(isolation="process")
def double_process(x: int, ctx: Context) -> int:
    """Double it, elsewhere."""
    ctx.progress(f"doubling {x}")
    return 2 * x


@agent
async def raising_async(kind: str) -> int:
    """Raise on the loop."""
    failure = RAISES[kind]()
    raise failure


@agent
def blocking(ctx: Context) -> str:
    """Wait for the test, deaf to everything else."""
    ctx.progress("began")
    RELEASE.wait(30)
    ctx.progress("too late")
    return "late"


@agent
async def meeting() -> int:
    """Wait until three of them do, and a moment longer; then all go on at once."""
    loop = asyncio.get_running_loop()
    own = loop.create_future()
    MEETING.append(own)
    if len(MEETING) == 3:
        met = MEETING.copy()
        MEETING.clear()
        loop.call_later(0.02, lambda: [each.set_result(None) for each in met])
    await own
    return 1


@agent
async def waiting(ctx: Context) -> str:
    """Wait on the loop."""
    ctx.progress("began")
    try:
        await asyncio.Event().wait()
    finally:
        ctx.progress("too late")
    return "never"


@agent
async def loop_blocker(ctx: Context) -> str:
    """Block the loop for as long as the test wants."""
    ctx.progress("began")
    RELEASE.wait(30)
    return "late"


@agent
async def structured(kind: str) -> str:
    """Use what asyncio offers, inside an agent."""
    if kind == "timeout":
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out inside"
    if kind == "group":
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, n)) for n in range(3)]
        return str(sum(task.result() for task in tasks))
    if kind == "failing_group":
        async with asyncio.TaskGroup() as group:
            group.create_task(raise_later(ValueError("inside")))
            await asyncio.Event().wait()
    if kind == "exit_in_task":
        task = asyncio.get_running_loop().create_task(raise_later(SystemExit(1)))
        await asyncio.wait([task])
        return "went on"
    if kind == "generator":
        return "".join([part async for part in parts()])
    if kind == "to_thread":
        return await asyncio.to_thread(lambda: "from a thread")
    if kind == "stop_loop":
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "still here"
    return "nothing"


async def raise_later(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


async def parts() -> Any:
    for part in "abc":
        await asyncio.sleep(0)
        yield part


@agent(isolation="process")
def worker(what: str, ctx: Context) -> dict[str, Any]:
    """Say what its process has open, or hang."""
    if what == "hang":
        ctx.progress(str(os.getpid()))
        while True:
            signal.pause()
    return {"open": sorted(_descriptors())}


def _descriptors() -> list[str]:
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            found.append(str(descriptor.readlink()))
    return found
