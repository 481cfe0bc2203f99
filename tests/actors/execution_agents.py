"""Agents that misbehave, in a module that worker processes can import."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from structlog.contextvars import get_contextvars

from agents import Context, agent

RELEASE = threading.Event()
"""Set by tests to let blocking agents go."""
MEETING: list[asyncio.Future[None]] = []
"""Those that wait for the others."""


class Flaky(Exception):
    """Listed as transient below."""


class Unprintable(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


RAISES: dict[str, Any] = {
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "cancelled": asyncio.CancelledError,
    "memory": MemoryError,
    "recursion": RecursionError,
    "generator": GeneratorExit,
    "group": lambda: ExceptionGroup("several", [ValueError("a"), OSError("b")]),
    "unprintable": Unprintable,
    "flaky": lambda: Flaky("try again"),
    "value": lambda: ValueError("wrong"),
    "timeout": lambda: TimeoutError("slow"),
    "stop": StopIteration,
    "huge": lambda: ValueError("x" * 10_000_000),
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
def raising(kind: str) -> int:
    """Raise."""
    failure = RAISES[kind]()
    raise failure


@agent
async def raising_async(kind: str) -> int:
    """Raise on the loop."""
    failure = RAISES[kind]()
    raise failure


@agent(isolation="process", transient=(Flaky,), permanent=(TimeoutError,))
def raising_process(kind: str) -> int:
    """Raise elsewhere."""
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


@agent
def logged() -> dict[str, Any]:
    """Return what a log line of this agent would carry."""
    return dict(get_contextvars())


@agent
async def logged_async() -> dict[str, Any]:
    """Return the same on the loop."""
    await asyncio.sleep(0)
    return dict(get_contextvars())


@agent
def large() -> list[str]:
    """Return 20 MB."""
    return ["x" * 1000] * 20_000


@agent
async def large_async() -> list[str]:
    """Return 20 MB from the loop."""
    return ["x" * 1000] * 20_000


@agent(isolation="process")
def large_process() -> list[str]:
    """Return 20 MB from elsewhere."""
    return ["x" * 1000] * 20_000


@agent
def wrong() -> int:
    """Return something else than was said."""
    return "text"  # type: ignore[return-value]  # what is tested


@agent(isolation="process")
def worker(what: str, arg: str, ctx: Context) -> dict[str, Any]:  # one process, many ways to misbehave
    """Do one of many things to its own process."""
    if what == "pid":
        return {"pid": os.getpid()}
    if what == "environment":
        return {"names": sorted(os.environ), "cwd": str(Path.cwd())}
    if what == "descriptors":
        return {"open": sorted(_descriptors())}
    if what == "flood":
        for stream in (sys.stdout, sys.stderr):
            stream.write("y" * 10_000_000)
            stream.flush()
        os.write(1, b"\0\0\0\5raw")
        os.write(2, b"\xff\xfe")
        return {"read": sys.stdin.read(1)}
    if what == "say":
        print(arg)  # noqa: T201  # what is tested
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "leave":
        os._exit(0)
    if what == "family":
        child = subprocess.Popen([sys.executable, "-c", _STUBBORN], stdout=subprocess.PIPE, start_new_session=True)
        assert child.stdout is not None
        child.stdout.readline()
        return {"pid": os.getpid(), "child": child.pid}
    if what == "hang":
        child = subprocess.Popen([sys.executable, "-c", _STUBBORN], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        ctx.progress(f"{os.getpid()} {child.pid}")
        while True:
            signal.pause()
    return {"logged": dict(get_contextvars())}


_STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(flush=True)
while True:
    signal.pause()
"""


def _descriptors() -> list[str]:
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            found.append(str(descriptor.readlink()))
    return found
