"""Agents whose modules the registry's tests name; postponed annotations, as agents in the wild have them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from agents import Context, MessageText, agent


class Line(BaseModel):
    """One line of an order."""

    sku: str
    units: int = Field(ge=0)


@agent(examples=["is it in stock?"], timeout=5, on_failure="fallback:guess")
def stock(sku: Annotated[str, Field(pattern=r"^[A-Z]{2}-\d+$")], ctx: Context | None = None) -> Line:
    """How many units of one product are on the shelf."""
    assert ctx is not None
    ctx.progress("counting")
    return Line(sku=sku, units=3)


@agent
def guess(sku: str) -> Line:
    """Guess how many there are."""
    return Line(sku=sku, units=1)


@agent
async def echo(text: MessageText) -> str:
    """Say it again."""
    return text


def plain(lines: list[Line]) -> int:
    """Count the units of all lines."""
    return sum(line.units for line in lines)


class Trap:
    """Raises whatever it is asked for, as proxies of some web frameworks do."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


trap = Trap()
