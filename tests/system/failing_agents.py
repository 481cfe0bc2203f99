"""Agents that fail in ways supervision must tell apart, for tests of the whole."""

from __future__ import annotations

import asyncio
from typing import Any

from agents import Context, agent


@agent
async def refused(ctx: Context) -> str:
    """Lose the connection, every time."""
    raise ConnectionError(f"refused at attempt {ctx.attempt}")


@agent
async def invalid(ctx: Context) -> str:
    """Be given what it cannot take, every time."""
    raise ValueError(f"no such thing, said at attempt {ctx.attempt}")


@agent
async def fine(ctx: Context, value: str = "v") -> dict[str, Any]:
    """Answer at once."""
    await asyncio.sleep(0)
    return {"value": value, "attempt": ctx.attempt}
