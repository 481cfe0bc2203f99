"""Agents about money per product: price and margin, and changing a price."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from agents import Context, agent
from examples.shop.kit import Sku, pause, pause_async
from examples.shop.store import product, writing

Amount = Annotated[str, Field(pattern=r"^\d{1,5}\.\d{2}$", description="an amount with two decimals, such as 429.00")]


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
    examples=["what margin do we make on it?", "what does it cost?", "what is the price of the Niche Zero?"],
    timeout=5,
    reply="{title} costs {price:,.2f} and brings a margin of {margin:,.2f} ({margin_percent:.1f} %)",
)
async def margin(sku: Sku) -> Margin:
    """Price and margin of one product: what it costs and what we make on it."""
    await pause_async()
    row = product(sku)
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
    examples=["set the price of GR-NICHE-ZERO to 679.00", "change the price of AC-WDT-TOOL to 17.50"],
    timeout=5,
    effects="write",
    reply="The price of {title} is now {new_price:,.2f}, it was {old_price:,.2f}",
)
def change_price(sku: Sku, new_price: Amount, ctx: Context) -> PriceChange:
    """Set the price of one product to a new amount."""
    pause()
    title = product(sku)["title"]
    with writing() as connection:
        done = connection.execute(
            "SELECT old_price, new_price FROM price_changes WHERE idempotency_key = ?", (ctx.idempotency_key,)
        ).fetchone()
        if done is None:
            (old,) = connection.execute("SELECT price FROM products WHERE sku = ?", (sku,)).fetchone()
            connection.execute("UPDATE products SET price = ? WHERE sku = ?", (float(new_price), sku))
            connection.execute(
                "INSERT INTO price_changes VALUES (?, ?, ?, ?)", (ctx.idempotency_key, sku, old, float(new_price))
            )
    if done is not None:
        old, new = done
        return PriceChange(sku=sku, title=title, old_price=old, new_price=new, applied_before=True)
    return PriceChange(sku=sku, title=title, old_price=old, new_price=float(new_price), applied_before=False)
