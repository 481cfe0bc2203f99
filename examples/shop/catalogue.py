"""Agents about products: finding them, comparing them."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

from agents import MessageText, PermanentError, agent
from examples.shop.kit import Sku, pause
from examples.shop.store import product, rows

_CATEGORIES = {
    "machine": "machine",
    "grinder": "grinder",
    "mill": "grinder",
    "accessor": "accessory",
    "bean": "beans",
    "coffee": "beans",
    "part": "part",
}
_NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5}
_NO_NAMES = frozenset(
    """
    a about and any are better by can compare cheapest cost costs customers do does expensive for from have how i in is
    it its long make many margin me money most much of on or order out price rating reviews say sell sells selling show
    stock tell than that the them there they this to units we what when where which with you your
    """.split()
)


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


class Comparison(BaseModel):
    """Two or more products side by side."""

    cheaper: str
    better_rated: str
    sells_better: str
    text: str


@agent(
    examples=["find the Linea Micra", "show me the two cheapest grinders", "which espresso machines do you have?"],
    timeout=5,
    cache_ttl=60,
    reply="Found: {titles_text}",
)
def find_products(query: MessageText) -> Found:
    """Search the catalogue for products by name, brand or category."""
    pause()
    wanted = _by_rank(query) or _by_words(query)
    if not wanted:
        raise PermanentError("no product of the catalogue fits these words")
    products = [Product(sku=r["sku"], title=r["title"], category=r["category"], price=r["price"]) for r in wanted]
    return Found(
        sku=products[0].sku,
        title=products[0].title,
        skus=[each.sku for each in products],
        products=products,
        titles_text="; ".join(f"{each.title} ({each.price:,.2f})" for each in products),
    )


@agent(
    examples=[
        "compare the two cheapest grinders and tell me which sells better",
        "compare MA-LELIT-ANNA and MA-FLAIR-58",
    ],
    timeout=5,
    reply="{text}",
)
def compare_products(skus: list[Sku]) -> Comparison:
    """Compare products: which is cheaper, which is better rated, which sells better."""
    pause()
    if len(skus) < 2:
        raise PermanentError("a comparison needs at least two products")
    each = [_figures(sku) for sku in skus]
    cheapest = min(each, key=lambda p: p["price"])
    rated = max(each, key=lambda p: p["rating"])
    sold = max(each, key=lambda p: p["sold"])
    lines = "; ".join(
        f"{p['title']} costs {p['price']:,.2f}, is rated {p['rating']:.1f} of 5 and sold {p['sold']} units"
        for p in each
    )
    best = "both are rated the same" if _tied(each) else f"{rated['title']} is better rated"
    text = f"{lines}. {sold['title']} sells better; {cheapest['title']} is cheaper; {best}"
    return Comparison(cheaper=cheapest["title"], better_rated=rated["title"], sells_better=sold["title"], text=text)


def _tied(each: list[dict[str, Any]]) -> bool:
    return len({p["rating"] for p in each}) == 1


def _by_rank(query: str) -> list[Any]:
    """Understand "the two cheapest grinders"."""
    said = query.lower()
    rank = re.search(r"\b(cheapest|most expensive|dearest)\b", said)
    category = next((kind for word, kind in _CATEGORIES.items() if re.search(rf"\b{word}", said)), None)
    if rank is None or category is None:
        return []
    count = next((number for word, number in _NUMBERS.items() if re.search(rf"\b{word}\b", said)), 1)
    found = rows("SELECT * FROM products WHERE category = ? ORDER BY price", category)
    return found[:count] if rank.group(1) == "cheapest" else found[::-1][:count]


def _by_words(query: str) -> list[Any]:
    """Full-text search; products that hold more of the words in their title come first."""
    words = [word for word in re.findall(r"[^\W_]+", query.lower()) if word not in _NO_NAMES]
    if not words:
        return []
    match = " OR ".join(f'"{word}"' for word in words)
    found = rows(
        """SELECT p.* FROM search JOIN products p USING (sku) WHERE search MATCH ?
           ORDER BY bm25(search, 0, 10, 3, 1, 1), p.sku LIMIT 5""",
        match,
    )
    best = max((_named(row["title"], words) for row in found), default=0)
    return [row for row in found if _named(row["title"], words) == best]


def _named(title: str, words: list[str]) -> int:
    parts = set(re.findall(r"[^\W_]+", title.lower()))
    return sum(word in parts for word in words)


def _figures(sku: str) -> dict[str, Any]:
    row = product(sku)
    ((rating,),) = rows("SELECT coalesce(avg(rating), 0) FROM reviews WHERE sku = ?", sku)
    ((sold,),) = rows("SELECT coalesce(sum(units), 0) FROM order_lines WHERE sku = ?", sku)
    return {"title": row["title"], "price": row["price"], "rating": rating, "sold": sold}
