"""Agents for tests of the whole: each call leaves a line in a ledger that outlives the daemon."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from agents import Context, agent

LISTENING = "listening"
"""A file beside the ledger: who started the daemon has heard that it listens."""
LET_GO = "let-go"
"""A file beside the ledger: what is held may end."""


def is_there(name: str) -> bool:
    """Return whether there is such a file beside the ledger."""
    return Path(os.environ["LEDGER"]).with_name(name).exists()


def note(ctx: Context, what: str) -> None:
    """Append one line, whole or not at all, and be sure it is there."""
    line = f"{what} {ctx.conversation_id} {ctx.request_id} {ctx.node_id} {ctx.attempt} {time.time():.3f}\n"
    handle = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def read_ledger(path: Path) -> list[list[str]]:
    """Return the lines as lists of words: what, conversation, request, node, attempt, time."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@agent
def work(ctx: Context, seconds: float = 0.05, value: str = "v") -> dict[str, Any]:
    """Work for a while, blocking a thread."""
    note(ctx, "start")
    time.sleep(seconds)
    note(ctx, "end")
    return {"value": value, "node": ctx.node_id}


@agent
async def wait(ctx: Context, seconds: float = 0.05, value: str = "v") -> dict[str, Any]:
    """Work for a while on the event loop."""
    note(ctx, "start")
    await asyncio.sleep(seconds)
    note(ctx, "end")
    return {"value": value, "node": ctx.node_id}


@agent(timeout=100)
async def held(ctx: Context, seconds: float = 0.0, value: str = "v") -> dict[str, Any]:
    """Work until the test lets it go, then for a while: however long the test takes, it is at work."""
    note(ctx, "start")
    while not is_there(LET_GO):  # noqa: ASYNC110  # it is another process that says so
        await asyncio.sleep(0.01)
    await asyncio.sleep(seconds)
    note(ctx, "end")
    return {"value": value, "node": ctx.node_id}


@agent(retries=0)
def hang(ctx: Context, seconds: float = 30.0) -> str:
    """Block a thread for long."""
    note(ctx, "start")
    time.sleep(seconds)
    return "late"


@agent(retries=0)
def leave(code: int = 3) -> str:
    """Call sys.exit."""
    sys.exit(code)


@agent(retries=0)
def interrupted() -> str:
    """Raise a BaseException."""
    raise KeyboardInterrupt("not from a keyboard")


@agent(retries=0)
def huge() -> str:
    """Give 20 MB."""
    return "x" * 20_000_000


@agent(retries=0)
def wrong() -> int:
    """Give something else than promised."""
    return "text"  # type: ignore[return-value]  # what this agent is for


@agent(retries=0, isolation="process")
def killed() -> str:
    """Be killed."""
    os.kill(os.getpid(), 9)
    return "never"


@agent
def fatal() -> str:
    """End the daemon, but not before it listens: who starts it waits for that, on a busy machine too."""
    while not is_there(LISTENING):
        time.sleep(0.01)
    time.sleep(0.5)
    os._exit(9)


@agent(retries=2, min_backoff=0.1, max_backoff=0.4)
def flaky(ctx: Context) -> str:
    """Fail at the first attempt."""
    note(ctx, "start")
    if ctx.attempt == 1:
        raise ConnectionError("refused")
    return "ok"


def plan(text: str, _context: Any = None) -> dict[str, Any]:
    """Plan two nodes, one after the other, and leave a line for being asked."""
    handle = os.open(f"{os.environ['LEDGER']}.planner", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, f"{text}\n".encode())
    finally:
        os.close(handle)
    first, second = ({"id": name, "agent": "work", "inputs": {"seconds": 0.01}} for name in "ab")
    return {"nodes": [first, {**second, "after": ["a"]}]}
