"""Agents of every kind, a planner and a synthesizer, for what they leave in memory."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from agents import Context, TransientError, agent


@agent
async def quick() -> int:
    """Answer at once."""
    return 1


@agent
async def slow(context: Context) -> int:
    """Take long enough to get an actor."""
    context.progress("working")
    await asyncio.sleep(0.15)
    return 1


@agent
def blocking() -> int:
    """Answer from a thread."""
    return 1


@agent(isolation="process")
def apart() -> int:
    """Answer from a process."""
    return 1


@agent(min_backoff=0.01, max_backoff=0.01)
async def flaky(context: Context) -> int:
    """Fail once."""
    if context.attempt == 1:
        raise TransientError("not yet")
    return 1


@agent(min_backoff=0.01, max_backoff=0.01)
def flaky_blocking(context: Context) -> int:
    """Fail once, on a thread."""
    if context.attempt == 1:
        raise TransientError("not yet")
    return 1


@agent(timeout=0.05, retries=0)
async def late() -> int:
    """Take too long."""
    await asyncio.sleep(60)
    return 1


@agent(timeout=0.05, retries=0)
def late_blocking() -> int:
    """Take too long on a thread, and fail then."""
    threading.Event().wait(0.2)
    raise ValueError("nobody hears it")


@agent(retries=0)
async def failing() -> int:
    """Fail for good."""
    raise ValueError("never")


def plan(text: str, _context: Any) -> dict[str, Any]:
    """Call the agent whose name is the message."""
    return {"nodes": [{"id": "a", "agent": text}]}


async def write(text: str, results: dict[str, Any], _context: Any) -> str:
    """Put it into words."""
    return f"{text}: {results}"
