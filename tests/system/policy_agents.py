"""Agents, planners and synthesizers for tests inside one process."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from agents import Context, MessageText, PermanentError, agent

CALLS: list[str] = []
GATE = threading.Event()
"""Set: `gated` goes on."""
HELD = threading.Event()
"""The loop is blocked by now."""


@agent
async def quick(text: str = "x") -> dict[str, str]:
    """Answer at once."""
    CALLS.append("quick")
    return {"text": text}


@agent
def gated() -> str:
    """Wait until the test lets it go."""
    CALLS.append("gated")
    assert GATE.wait(20)
    return "open"


@agent(retries=0)
async def stubborn() -> str:
    """Block the event loop, which no async agent should."""
    HELD.set()
    GATE.wait(10)
    return "at last"


@agent(cache_ttl=60)
def cached(text: str) -> dict[str, str]:
    """Answer from the cache the second time."""
    CALLS.append("cached")
    return {"text": text}


@agent(approval=True)
def risky() -> str:
    """Do something a person must agree to."""
    CALLS.append("risky")
    return "done"


@agent(retries=0)
def failing() -> str:
    """Fail for good."""
    CALLS.append("failing")
    raise PermanentError("never")


@agent(retries=0)
def mumbling(ctx: Context) -> str:
    """Report progress that is no text."""
    ctx.progress(5)  # type: ignore[arg-type]  # what this agent is for
    return "never"


@agent(retries=1, min_backoff=0.01, max_backoff=0.02)
def refused() -> str:
    """Fail each time, worth a retry."""
    raise ConnectionError("no")


@agent
def contextual(question: MessageText, ctx: Context) -> dict[str, str]:
    """Show what an agent is told."""
    return {"question": question, "context": ctx.context, "key": ctx.idempotency_key, "user": ctx.user_id or ""}


async def plan_later(text: str, context: Any) -> dict[str, Any]:
    """A planner that is a coroutine function; knows what failed."""
    await asyncio.sleep(0)
    CALLS.append("plan")
    if "unknown" in text:
        return {"nodes": [{"id": "n", "agent": "nobody"}]}
    if context.failed:
        return {"nodes": [{"id": "other", "agent": "quick", "inputs": {"text": "instead"}}]}
    return {"nodes": [{"id": "n", "agent": "failing", "on_failure": "replan"}]}


def plan_raising(text: str, context: Any) -> Any:
    """A planner that fails."""
    raise RuntimeError("no idea")


def say_shortly(text: str, results: dict[str, Any], context: Any) -> str:
    """A synthesizer that is a function."""
    return f"{len(results)} results for {text}"


def say_nothing(text: str, results: dict[str, Any], context: Any) -> str:
    """A synthesizer that fails."""
    raise RuntimeError("speechless")


@agent(retries=3, min_backoff=0.01, max_backoff=0.02, breaker_failures=2, breaker_reset=2.0)
def ailing() -> str:
    """Fail twice."""
    CALLS.append("ailing")
    if CALLS.count("ailing") <= 2:
        raise ConnectionError("the line is dead")
    return "well"
