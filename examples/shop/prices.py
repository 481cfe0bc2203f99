"""Agents about money per product: price and margin, and changing a price."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import BaseModel, Field

from agents import Context, PermanentError, agent
from examples.shop.kit import Sku, pause, pause_async
from examples.shop.store import product, writing

Amount = Annotated[
    str,
    Field(pattern=r"^(?:\d{1,3}(?:,\d{3})+|\d{1,6})\.\d{2}$", description="with two decimals: 429.00, 1,429.00"),
]
_MOST = 2.0
"""A price may at most double at once: a slip of the finger is no price."""


class Margin(BaseModel):
    """Price, cost and what is left."""

    sku: Sku
    title: str
    price: float
    cost: float
    margin: float
    margin_percent: float


class PriceChange(BaseModel):
    """A price before and after."""

    sku: Sku
    title: str
    old_price: float
    new_price: float
    applied_before: bool


@agent(
    examples=["what margin do we make on it?", "what does it cost?", "what is the price?"],
    timeout=5,
    reply="{title} ({sku}) costs {price:,.2f} EUR and brings a margin of {margin:,.2f} EUR ({margin_percent:.1f} %)",
)
async def margin(sku: Sku) -> Margin:
    """Price and margin of one product: what it costs and what we make on it."""
    await pause_async()
    row = await asyncio.to_thread(product, sku)
    left = row["price"] - row["cost"]
    return Margin(
        sku=sku,
        title=row["title"],
        price=row["price"],
        cost=row["cost"],
        margin=round(left, 2),
        margin_percent=round(100 * left / row["price"], 1),
    )


@agent(
    examples=["set the price of GR-NICHE-ZERO to 679.00", "change the price to 1,290.00"],
    timeout=5,
    effects="write",
    reply="The price of {title} ({sku}) is now {new_price:,.2f} EUR, it was {old_price:,.2f} EUR",
)
def change_price(sku: Sku, new_price: Amount, ctx: Context) -> PriceChange:
    """Set the price of one product to a new amount."""
    # Once per idempotency key, in one transaction: an attempt that is repeated after a crash finds what it did before.
    pause()
    title, amount = product(sku)["title"], float(new_price.replace(",", ""))
    with writing() as connection:
        done = connection.execute(
            "SELECT sku, old_price, new_price FROM price_changes WHERE idempotency_key = ?", (ctx.idempotency_key,)
        ).fetchone()
        if done is None:
            old, cost = connection.execute("SELECT price, cost FROM products WHERE sku = ?", (sku,)).fetchone()
            if not cost <= amount <= _MOST * old:
                raise PermanentError(f"{title} takes a price from {cost:,.2f} (its cost) to {_MOST * old:,.2f} EUR")
            connection.execute("UPDATE products SET price = ? WHERE sku = ?", (amount, sku))
            connection.execute("INSERT INTO price_changes VALUES (?, ?, ?, ?)", (ctx.idempotency_key, sku, old, amount))
        elif (done["sku"], done["new_price"]) != (sku, amount):
            raise PermanentError(f"the key {ctx.idempotency_key} belongs to another change of price")
        else:
            old = done["old_price"]
    return PriceChange(sku=sku, title=title, old_price=old, new_price=amount, applied_before=done is not None)
