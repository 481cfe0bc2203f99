"""Which products a question is about: by SKU, by rank ("the two cheapest grinders"), by name, else by description."""

from __future__ import annotations

import re
from collections.abc import Sequence
from sqlite3 import Row
from typing import Any, Final

from examples.shop.kit import SKU_PATTERN
from examples.shop.store import rows

_CATEGORIES: Final = {
    "machine": "machine",
    "grinder": "grinder",
    "mill": "grinder",
    "accessory": "accessory",
    "accessories": "accessory",
    "bean": "beans",
    "part": "part",
}
_RANKS: Final = {
    "cheapest": ("price", 1),
    "most expensive": ("price", -1),
    "dearest": ("price", -1),
    "lightest": ("weight_kg", 1),
    "heaviest": ("weight_kg", -1),
    "best rated": ("rating", -1),
    "best-rated": ("rating", -1),
    "best selling": ("sold", -1),
    "best-selling": ("sold", -1),
    "most popular": ("sold", -1),
}
"""What is compared, and whether the least (1) or the most (-1) comes first."""
_NUMBERS: Final = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_SEVERAL: Final = 3
"""How many "the cheapest grinders" are."""
_COUNT: Final = rf"(\d|{'|'.join(_NUMBERS)})"
_RANK: Final = re.compile(rf"(?:\b{_COUNT}\s+)?\b({'|'.join(_RANKS)})\b(?:\s+{_COUNT}\b)?")
_LIMIT: Final = re.compile(r"\b(?:under|below|less than|up to)\s+(?:eur\s*)?(\d[\d,]*(?:\.\d{2})?)")
_NO_NAMES: Final = frozenset(
    """
    a about again all an and any are at back be better bought by can cheaper compare costs cost customers did do does
    espresso expensive find for from get have heavy how i in is it its long make many margin me money more most much
    of on or order orders our out over please popular price rated rating reviews say sell sells selling set show
    stock tell than that the them there they this to units us want was we what when where which who will with you your
    """.split()
)
_FIGURES: Final = """
SELECT p.*, (SELECT avg(rating) FROM reviews r WHERE r.sku = p.sku) AS rating,
       (SELECT coalesce(sum(l.units), 0) FROM order_lines l JOIN orders o USING (order_id)
        WHERE l.sku = p.sku AND o.status <> 'returned') AS sold
FROM products p ORDER BY p.price, p.sku
"""


def figures(skus: Sequence[str] | None = None) -> list[Row]:
    """Return products with `rating` (None without reviews) and `sold`, in the order asked for, else by price."""
    every = {row["sku"]: row for row in rows(_FIGURES)}
    return list(every.values()) if skus is None else [every[sku] for sku in skus if sku in every]


def search(question: str) -> list[Row]:
    """Return the products a question is about, the best match first; none when nothing fits."""
    said = question.lower()
    rank = _RANK.search(said)
    limit = _LIMIT.search(said)
    plain = _LIMIT.sub(" ", _RANK.sub(" ", said))
    words = list(dict.fromkeys(re.findall(r"[^\W_]+", plain)))
    kinds = {_CATEGORIES[stem] for word in words for stem in (word, word.removesuffix("s")) if stem in _CATEGORIES}
    names = [word for word in words if word not in _NO_NAMES and not {word, word.removesuffix("s")} & set(_CATEGORIES)]
    found = figures(re.findall(rf"(?<![\w-]){SKU_PATTERN}(?![\w-])", question)) or figures(_named(names))
    if not found and (kinds or rank):
        found = figures()
    found = [row for row in found if row["category"] in kinds] or found
    if not found:
        found = figures(_described(names))
    if limit is not None:
        found = [row for row in found if row["price"] <= float(limit.group(1).replace(",", ""))]
    plural = any(word.endswith("s") and word not in _NO_NAMES for word in words)
    return found if rank is None else _ranked(found, rank, plural=plural)


def _ranked(found: list[Row], rank: re.Match[str], *, plural: bool) -> list[Row]:
    measure, sign = _RANKS[rank.group(2)]
    number = rank.group(1) or rank.group(3)
    count = (_SEVERAL if plural else 1) if number is None else _NUMBERS.get(number) or int(number)
    known: list[Any] = [row for row in found if row[measure] is not None]
    return sorted(known, key=lambda row: sign * row[measure])[:count]


def _named(words: Sequence[str]) -> list[str]:
    """Return what the words name: first the product that most of them name, then what the words left over may name."""
    holders = {word: held for word in words if (held := _holders(word))}
    found: list[str] = []
    while holders:
        score: dict[str, float] = {}
        for held in holders.values():
            for sku in held:  # one word more outweighs any rarity; among as many, the rarer ones say more
                score[sku] = score.get(sku, 0.0) + 1 + 1 / (1 + len(held))
        best = max(score.values())
        equals = sorted(sku for sku in score if score[sku] == best)
        spoke = {word for word, held in holders.items() if equals[0] in held}
        if found and all(word.isdigit() or len(holders[word]) > _SEVERAL for word in spoke):
            break  # "58" or "eureka" alone, beside a product that is named in full, names no further one
        found.extend(sorted(set(equals) - set(found), key=lambda sku: _distance(sku, spoke)))
        holders = {word: held for word, held in holders.items() if word not in spoke}
    return found


def _holders(word: str) -> dict[str, int]:
    """Return the products with this word in their name, and how many words each name has."""
    found = rows("SELECT sku, title FROM search WHERE search MATCH ?", f'{{title brand}} : "{word}"')
    return {row["sku"]: len(row["title"].split()) for row in found}


def _distance(sku: str, words: set[str]) -> tuple[int, str]:
    """Sort products that the same words name: those whose SKU says little else come first."""
    return len(set(sku.lower().split("-")[1:]) - words), sku


def _described(words: Sequence[str]) -> list[str]:
    if not words:
        return []
    match = " OR ".join(f'"{word}"' for word in words)
    best = "SELECT sku FROM search WHERE search MATCH ? ORDER BY bm25(search, 0, 10, 3, 1, 1), sku LIMIT 5"
    return [row["sku"] for row in rows(best, match)]
