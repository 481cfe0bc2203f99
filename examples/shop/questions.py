"""The questions of the demonstration, each with the plan it must lead to and the facts its reply must hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """One question."""

    text: str
    agents: tuple[str, ...]
    """Agents of the plan."""
    edges: tuple[tuple[str, str], ...]
    """(before, after)."""
    facts: tuple[str, ...]
    """What must stand in the reply."""


QUESTIONS = (
    Question(
        "Is the Linea Micra in stock, and what margin do we make on it?",
        ("find_products", "stock", "margin"),
        (("find_products", "stock"), ("find_products", "margin")),
        ("Linea Micra is in stock: 6 units", "3,990.00", "1,140.00 (28.6 %)"),
    ),
    Question(
        "Where is order 10231 and when will SKU GR-EUREKA-MIGNON be back?",
        ("order_status", "restock"),
        (),
        ("Order 10231", "shipped with Postino, expected on 2026-11-03", "will be back on 2026-11-19"),
    ),
    Question(
        "Compare the two cheapest grinders and tell me which sells better",
        ("find_products", "compare_products"),
        (("find_products", "compare_products"),),
        ("KINGrinder K6 costs 99.00", "1Zpresso J-Ultra costs 189.00", "sells better"),
    ),
    Question(
        "What do customers say about the Linea Mini, and what does it cost?",
        ("find_products", "product_reviews", "margin"),
        (("find_products", "product_reviews"), ("find_products", "margin")),
        ("Customers rate Linea Mini", "in 3 reviews", "5,790.00"),
    ),
    Question(
        "How much did we sell last month?", ("sales_figures",), (), ("From 2026-09-01 to 2026-09-30", "best seller")
    ),
    Question("Which products are running low?", ("low_stock",), (), ("running low", "Niche Zero (2)")),
    Question(
        "Do you have the Profitec Go in stock, and what is its rating?",
        ("find_products", "stock", "product_reviews"),
        (("find_products", "stock"), ("find_products", "product_reviews")),
        ("Profitec Go is in stock", "Customers rate Profitec Go"),
    ),
)
