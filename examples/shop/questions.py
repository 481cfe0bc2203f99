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
        ("Linea Micra (MA-LINEA-MICRA) is in stock: 6 units", "3,990.00 EUR", "1,140.00 EUR (28.6 %)"),
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
        ("99.00 EUR, is rated 4.0 of 5 and sold 6 units", "189.00 EUR", "KINGrinder K6 sells better"),
    ),
    Question(
        "What do customers say about the Linea Mini, and what does it cost?",
        ("find_products", "product_reviews", "margin"),
        (("find_products", "product_reviews"), ("find_products", "margin")),
        ("Customers rate Linea Mini (MA-LINEA-MINI) 5.0 of 5 in 3 reviews", "5,790.00 EUR"),
    ),
    Question(
        "How much did we sell last month?",
        ("sales_figures",),
        (),
        ("From 2026-09-01 to 2026-09-30 we sold 112 units in 31 orders for 37,234.00 EUR", "Steam valve kit"),
    ),
    Question("Which products are running low?", ("low_stock",), (), ("8 products are running low", "Niche Zero (2)")),
    Question(
        "Do you have the Profitec Go in stock, and what is its rating?",
        ("find_products", "stock", "product_reviews"),
        (("find_products", "stock"), ("find_products", "product_reviews")),
        ("Profitec Go (MA-PROFITEC-GO) is in stock: 10 units", "3.3 of 5 in 3 reviews"),
    ),
    Question(
        "How heavy is the Lelit Bianca, and who bought it?",
        ("find_products", "product_details", "buyers"),
        (("find_products", "product_details"), ("find_products", "buyers")),
        ("weighs 26.5 kg", "Lelit Bianca (MA-LELIT-BIANCA) was bought in"),
    ),
    Question(
        "Set the price of the WDT needle tool to 17.50",
        ("find_products", "change_price"),
        (("find_products", "change_price"),),
        ("The price of WDT needle tool (AC-WDT-TOOL) is now 17.50 EUR",),
    ),
)
