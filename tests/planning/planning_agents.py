"""A small shop of agents that the planning tests plan with."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from agents import Context, MessageText, agent
from agents.decorator import make_spec
from agents.registry import Registry

Sku = Annotated[str, Field(pattern=r"^[A-Z]{2,4}-[A-Z0-9-]+$")]


class Product(BaseModel):
    """One product."""

    sku: Sku
    title: str
    price: float = 0.0


class Found(BaseModel):
    """What a search gives."""

    products: list[Product]


class Level(BaseModel):
    """What is on a shelf."""

    sku: str
    units: int


@agent(examples=["search for a grinder", "find machines"])
def find_products(query: MessageText, limit: int = 3) -> Found:
    """Search the catalogue for products by their words."""


@agent(examples=["is it in stock?", "how many are available?"])
def stock(sku: Sku, ctx: Context) -> Level:
    """How many units of one product are on the shelf."""


@agent(examples=["what does it cost?"])
def price(sku: Sku) -> float:
    """The price of one product: what it costs."""


@agent(examples=["compare these two"])
def compare(skus: Annotated[list[Sku], Field(min_length=2, max_length=4)]) -> str:
    """Compare several products with each other."""


@agent(examples=["list my orders"])
def orders(user_id: str) -> list[int]:
    """Orders of one customer."""


@agent(effects="write", examples=["reserve it"])
def reserve(sku: Sku, units: int = 1) -> Annotated[dict[str, int], Field()]:
    """Reserve units of one product."""


@agent(effects="write", examples=["issue an invoice number"])
def invoice(user_id: str) -> Level:
    """Make out a bill, which nobody wants in passing."""


SHOP = [find_products, stock, price, compare, orders, reserve, invoice]


def registry_of(*functions: Any) -> Registry:
    return Registry([getattr(function, "__agent_spec__", None) or make_spec(function, {}) for function in functions])


def shop() -> Registry:
    return registry_of(*SHOP)
