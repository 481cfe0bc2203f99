"""What the killed daemon works on: agents that write the ledger, and a planner that draws the shape a text names."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Final

from agents import Context, agent
from chaos import ledger

SHAPES: Final = ("single", "parallel", "diamond")


def _note(what: ledger.What, ctx: Context) -> None:
    ledger.note(what, ctx.conversation_id, ctx.request_id, ctx.node_id, ctx.attempt, ctx.idempotency_key)


@agent
async def waiter(ctx: Context, seconds: float, value: str = "v") -> dict[str, Any]:
    """Wait on the event loop."""
    _note("start", ctx)
    await asyncio.sleep(seconds)
    _note("finish", ctx)
    return {"value": value, "node": ctx.node_id}


@agent
def blocker(ctx: Context, seconds: float, value: str = "v") -> dict[str, Any]:
    """Block a thread."""
    _note("start", ctx)
    threading.Event().wait(seconds)
    _note("finish", ctx)
    return {"value": value, "node": ctx.node_id}


@agent(min_backoff=0.01, max_backoff=0.02)
def stumbler(ctx: Context, seconds: float, value: str = "v") -> dict[str, Any]:
    """Fail the first time."""
    _note("start", ctx)
    threading.Event().wait(seconds)
    if ctx.attempt == 1:
        raise ConnectionError("once, on purpose")
    _note("finish", ctx)
    return {"value": value, "node": ctx.node_id}


def plan(text: str, _context: Any = None) -> dict[str, Any]:
    """Return the plan that a text names by its first word; the second is the seconds each node takes."""
    shape, seconds = text.split()[:2]
    took = {"seconds": float(seconds)}
    if shape == "single":
        return {"nodes": [{"id": "a", "agent": "stumbler", "inputs": took}]}
    three = [{"id": n, "agent": name, "inputs": took} for n, name in zip("abc", _THREE, strict=True)]
    if shape == "parallel":
        return {"nodes": three}
    last = {"id": "d", "agent": "waiter", "after": ["b", "c"], "inputs": {**took, "value": {"$from": "a.value"}}}
    return {"nodes": [*three, last]}


_THREE: Final = ("waiter", "blocker", "stumbler")
