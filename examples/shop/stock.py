"""Agents about what is on the shelves: stock, restocking, what runs low."""

from __future__ import annotations

import asyncio
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
    examples=["is it in stock?", "how many units are on the shelf?", "how many units do you have in stock?"],
    timeout=5,
    reply="{text}",
)
def stock(sku: Sku) -> StockLevel:
    """Whether one product is available: how many units are in stock, by warehouse."""
    pause()
    title = product(sku)["title"]
    units = {r["warehouse"]: r["units"] for r in rows("SELECT warehouse, units FROM stock WHERE sku = ?", sku)}
    total = sum(units.values())
    places = ", ".join(f"{warehouse} {count}" for warehouse, count in units.items() if count)
    named = f"{title} ({sku})"
    text = f"{named} is in stock: {total} units ({places})" if total else f"{named} is sold out"
    return StockLevel(sku=sku, title=title, total=total, by_warehouse=units, text=text)


@agent(
    examples=["when will it be back?", "when will this SKU be back?", "when is it restocked?"],
    timeout=5,
    reply="{text}",
)
async def restock(sku: Sku, ctx: Context) -> Restock:
    """When a sold out product will be back: asks the supplier, whose line is unreliable."""
    await pause_async()
    if ctx.attempt == 1 and _unlucky(ctx.idempotency_key):
        raise ConnectionError("the supplier's line went dead")
    ctx.progress("the supplier answers")
    return await asyncio.to_thread(_restock, sku)


def _unlucky(idempotency_key: str) -> bool:
    """Return whether the first attempt of a call fails: SHOP_FAILURE_RATE (1.0) of all calls do, later attempts never.

    A call's luck is the first 32 bits of the SHA-256 of its idempotency key as a share of 2**32; it is bad below the
    rate. So a crash and the comeback can be seen, and the same call always goes the same way.
    """
    luck = int(hashlib.sha256(idempotency_key.encode()).hexdigest()[:8], 16) / 2**32
    return luck < float(os.environ.get("SHOP_FAILURE_RATE", "1.0"))


def _restock(sku: str) -> Restock:
    title = product(sku)["title"]
    dates = [r["restock_date"] for r in rows("SELECT restock_date FROM stock WHERE sku = ?", sku) if r["restock_date"]]
    back = min(dates, default=None)
    text = f"{title} ({sku}) will be back on {back}" if back else f"{title} ({sku}) is not sold out"
    return Restock(sku=sku, title=title, back_on=back, text=text)


@agent(examples=["which products are running low?", "low stock report"], timeout=5, reply="{text}")
def low_stock() -> LowStock:
    """Which products are running low and should be reordered, those that are sold out first."""
    pause()
    found = rows(
        """SELECT title, sum(units) AS total FROM stock JOIN products USING (sku)
           GROUP BY sku HAVING total <= ? ORDER BY total, title""",
        LOW,
    )
    listed = ", ".join(f"{r['title']} ({r['total']})" for r in found)
    text = f"{len(found)} products are running low: {listed}" if found else "nothing runs low"
    return LowStock(count=len(found), text=text)
