"""Agents about products: finding, describing and comparing them."""

from __future__ import annotations

from collections.abc import Callable
from sqlite3 import Row

from pydantic import BaseModel

from agents import MessageText, PermanentError, agent
from examples.shop.kit import Sku, pause
from examples.shop.search import figures, search
from examples.shop.store import product

_LISTED = 6
"""Products that a sentence names before it says how many more there are."""


class Product(BaseModel):
    """One product of the catalogue."""

    sku: Sku
    title: str
    category: str
    price: float


class Found(BaseModel):
    """What a search found; `sku` and `title` are the best match."""

    sku: Sku
    title: str
    skus: list[Sku]
    products: list[Product]
    titles_text: str


class Details(BaseModel):
    """What the catalogue says about one product."""

    sku: Sku
    title: str
    brand: str
    category: str
    description: str
    price: float
    weight_kg: float


class Comparison(BaseModel):
    """Two or more products side by side."""

    cheaper: str
    better_rated: str
    sells_better: str
    text: str


@agent(
    examples=["find the Linea Micra", "show me the two cheapest grinders", "which espresso machines do you have?"],
    timeout=5,
    reply="Found: {titles_text}",
)
def find_products(query: MessageText) -> Found:
    """Search the catalogue for products by name, brand, category or rank, such as the cheapest or the best rated."""
    pause()
    wanted = search(query)
    if not wanted:
        raise PermanentError("no product of the catalogue fits these words")
    products = [Product(sku=r["sku"], title=r["title"], category=r["category"], price=r["price"]) for r in wanted]
    listed = "; ".join(f"{each.title} ({each.sku}, {each.price:,.2f} EUR)" for each in products[:_LISTED])
    more = len(products) - _LISTED
    return Found(
        sku=products[0].sku,
        title=products[0].title,
        skus=[each.sku for each in products],
        products=products,
        titles_text=f"{listed}; and {more} more" if more > 0 else listed,
    )


@agent(
    examples=["tell me about the Lelit Anna", "tell me about the Baratza Encore", "describe it", "how heavy is it?"],
    timeout=5,
    reply="{title} ({sku}) by {brand}: {description}. It weighs {weight_kg:.1f} kg and costs {price:,.2f} EUR",
)
def product_details(sku: Sku) -> Details:
    """Describe one product: what it is, who makes it, how heavy it is."""
    pause()
    return Details(**{name: product(sku)[name] for name in Details.model_fields})


@agent(
    examples=["compare the two cheapest grinders and tell me which sells better", "compare these: which is cheaper?"],
    timeout=5,
    reply="{text}",
)
def compare_products(skus: list[Sku]) -> Comparison:
    """Compare products: which is cheaper, which is better rated, which sells better."""
    pause()
    each = figures(list(dict.fromkeys(skus)))
    if len(each) < 2:
        raise PermanentError("a comparison needs at least two products")
    cheaper = _first(each, lambda row: -row["price"])
    rated = _first(each, lambda row: -1.0 if row["rating"] is None else round(row["rating"], 1))
    sold = _first(each, lambda row: row["sold"])
    verdict = [
        f"{sold} sells better" if sold else "they sell equally well",
        f"{cheaper} is cheaper" if cheaper else "they cost the same",
        f"{rated} is better rated" if rated else "they are rated the same",
    ]
    return Comparison(
        cheaper=cheaper,
        better_rated=rated,
        sells_better=sold,
        text=f"{'; '.join(map(_in_figures, each))}. {'; '.join(verdict)}",
    )


def _first(each: list[Row], measure: Callable[[Row], float]) -> str:
    """Return the title of the one product with the greatest measure; nothing when several share it."""
    greatest = max(map(measure, each))
    titles = [str(row["title"]) for row in each if measure(row) == greatest]
    return titles[0] if len(titles) == 1 else ""


def _in_figures(row: Row) -> str:
    rated = "has no reviews" if row["rating"] is None else f"is rated {row['rating']:.1f} of 5"
    return f"{row['title']} ({row['sku']}) costs {row['price']:,.2f} EUR, {rated} and sold {row['sold']} units"
