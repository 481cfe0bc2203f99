"""What the shop's agents share: the shape of a SKU and an order number, and a pause so that work can be watched."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Annotated

from pydantic import Field

SKU_PATTERN = "[A-Z]{2,4}-[A-Z0-9-]+"
Sku = Annotated[str, Field(pattern=f"^{SKU_PATTERN}$", description="stock keeping unit, such as GR-NICHE-ZERO")]
OrderId = Annotated[str, Field(pattern=r"^1\d{4}$", description="order number")]


def pause() -> None:
    """Take as long as a real system would: SHOP_DELAY seconds (0.25)."""
    time.sleep(_delay())


async def pause_async() -> None:
    """Take as long as a real system would, without holding a thread."""
    await asyncio.sleep(_delay())


def _delay() -> float:
    return float(os.environ.get("SHOP_DELAY", "0.25"))
