"""Agents about what is on the shelves: stock, restocking, what runs low."""

from __future__ import annotations

import hashlib
import os

from pydantic import BaseModel

from agents import Context, agent
from examples.shop.kit import Sku, pause, pause_async
from examples.shop.store import product, rows

LOW = 5
"""Units over all warehouses at or below which a product runs low."""


class StockLevel(BaseModel):
    """Units of one product."""

    sku: Sku
    title: str
    total: int
    by_warehouse: dict[str, int]
    text: str


class Restock(BaseModel):
    """When a product comes back."""

    sku: Sku
    title: str
    back_on: str | None
    text: str


class LowStock(BaseModel):
    """Products that run low."""

    count: int
    text: str


@agent(
    examples=["is it in stock?", "how many units are on the shelf?", "do you have the Profitec Go in stock?"],
    timeout=5,
    reply="{text}",
)
def stock(sku: Sku) -> StockLevel:
    """How many units of one product are in stock, by warehouse."""
    pause()
    title = product(sku)["title"]
    units = {r["warehouse"]: r["units"] for r in rows("SELECT warehouse, units FROM stock WHERE sku = ?", sku)}
    total = sum(units.values())
    places = ", ".join(f"{warehouse} {count}" for warehouse, count in units.items() if count)
    text = f"{title} is in stock: {total} units ({places})" if total else f"{title} is sold out"
    return StockLevel(sku=sku, title=title, total=total, by_warehouse=units, text=text)


@agent(
    examples=["when will it be back?", "when will SKU GR-EUREKA-MIGNON be back?", "when is it restocked?"],
    timeout=5,
    reply="{text}",
)
async def restock(sku: Sku, ctx: Context) -> Restock:
    """When a sold out product will be back: asks the supplier, whose line is unreliable.

    The first attempt fails for SHOP_FAILURE_RATE (1.0) of all calls, chosen by a hash of the idempotency key; later
    attempts never do. So a crash and the comeback can be seen, and the same call always goes the same way.
    """
    await pause_async()
    share = int(hashlib.sha256(ctx.idempotency_key.encode()).hexdigest()[:8], 16) / 0xFFFF_FFFF
    if ctx.attempt == 1 and share < float(os.environ.get("SHOP_FAILURE_RATE", "1.0")):
        raise ConnectionError("the supplier's line went dead")
    ctx.progress("the supplier answers")
    title = product(sku)["title"]
    dates = [r["restock_date"] for r in rows("SELECT restock_date FROM stock WHERE sku = ?", sku) if r["restock_date"]]
    back = min(dates, default=None)
    text = f"{title} will be back on {back}" if back else f"{title} is not sold out"
    return Restock(sku=sku, title=title, back_on=back, text=text)


@agent(examples=["which products are running low?", "low stock report"], timeout=5, reply="{text}")
def low_stock() -> LowStock:
    """Which products are running low, those that are sold out first."""
    pause()
    found = rows(
        """SELECT title, sum(units) AS total FROM stock JOIN products USING (sku)
           GROUP BY sku HAVING total <= ? ORDER BY total, title""",
        LOW,
    )
    listed = ", ".join(f"{r['title']} ({r['total']})" for r in found)
    text = f"{len(found)} products are running low: {listed}" if found else "nothing runs low"
    return LowStock(count=len(found), text=text)
