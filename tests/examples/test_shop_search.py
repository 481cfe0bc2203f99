"""What the shop's search and its periods make of the words of a question."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop_support import sold_units, table

from examples.shop.periods import period_of
from examples.shop.search import figures, search

NEWEST = "2026-10-31"


def found(question: str) -> list[str]:
    return [row["sku"] for row in search(question)]


@pytest.mark.parametrize(
    ("question", "skus"),
    [
        ("Compare the Niche Zero with the DF64", {"GR-NICHE-ZERO", "GR-DF64-GEN2"}),
        ("Compare the Acaia Lunar and the Timemore Black Mirror", {"AC-SCALE-LUNAR", "AC-SCALE-BASIC"}),
        ("Is GR-NICHE-ZERO better than GR-LAGOM-P64?", {"GR-NICHE-ZERO", "GR-LAGOM-P64"}),
        ("Is the Linea Micra in stock, and what margin do we make on it?", {"MA-LINEA-MICRA"}),
        ("Is the Linea Micra as sturdy as they say?", {"MA-LINEA-MICRA"}),
        ("Do you have tampers in stock?", {"AC-TAMPER-58", "AC-TAMPER-SPRING"}),
        ("Which is the heaviest machine?", {"MA-ECM-SYNCHRONIKA"}),
    ],
)
def test_a_question_names_its_products_and_no_others(question, skus):
    """Names, several at once, SKUs, plurals, ranks."""
    assert set(found(question)) == skus


def test_a_spare_part_named_after_a_machine_does_not_stand_for_it():
    """The "Water tank Profitec Go" holds both words too."""
    assert found("Is the Profitec Go in stock?")[0] == "MA-PROFITEC-GO"


def test_an_ambiguous_name_goes_to_the_product_whose_sku_says_just_that():
    """Two grinders are called Eureka Mignon."""
    assert found("When will the Eureka Mignon be back?")[0] == "GR-EUREKA-MIGNON"


@pytest.mark.parametrize(
    ("words", "count"), [("two", 2), ("2", 2), ("three", 3), ("", 3)], ids=["word", "digit", "three", "plural"]
)
def test_the_cheapest_are_the_cheapest_of_the_file(words, count):
    """As many as were asked for."""
    grinders = [row for row in table("products") if row["category"] == "grinder"]
    expected = [row["sku"] for row in sorted(grinders, key=lambda row: float(row["price"]))][:count]
    assert found(f"show me the {words} cheapest grinders") == expected


def test_best_selling_leaves_out_what_was_returned():
    """The same rule as in the sales figures."""
    assert {row["sku"]: row["sold"] for row in figures()} == {
        row["sku"]: sold_units(row["sku"]) for row in table("products")
    }
    machines = [row["sku"] for row in table("products") if row["category"] == "machine"]
    (best,) = found("which is our best selling machine")
    assert sold_units(best) == max(map(sold_units, machines))


def test_a_price_limit_is_kept():
    """And its words are no name."""
    prices = {row["sku"]: float(row["price"]) for row in table("products") if row["category"] == "grinder"}
    assert set(found("grinders under 250")) == {sku for sku, price in prices.items() if price <= 250}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            ["the", "two", "cheapest", "Eureka", "grinders", "best rated", "58", '"', "NEAR(", "*", "under 99"]
        )
        | st.text(max_size=12),
        max_size=6,
    )
)
def test_no_words_break_the_search(words):
    """Whatever is typed is data to the full-text index, never its syntax; what is found exists, once."""
    skus = found(" ".join(words))
    assert len(skus) == len(set(skus))
    assert set(skus) <= {row["sku"] for row in table("products")}


@pytest.mark.parametrize(
    ("words", "first", "last"),
    [
        ("how much did we sell last month?", "2026-09-01", "2026-09-30"),
        ("this month", "2026-10-01", "2026-10-31"),
        ("in September", "2026-09-01", "2026-09-30"),
        ("in December", "2025-12-01", "2025-12-31"),
        ("during February 2024", "2024-02-01", "2024-02-29"),
        ("last week", "2026-10-25", "2026-10-31"),
        ("the past 10 days", "2026-10-22", "2026-10-31"),
        ("last 2 weeks", "2026-10-18", "2026-10-31"),
        ("yesterday", "2026-10-30", "2026-10-30"),
        ("today", "2026-10-31", "2026-10-31"),
        ("last year", "2025-01-01", "2025-12-31"),
        ("this year", "2026-01-01", "2026-10-31"),
        ("how is business?", "2026-10-02", "2026-10-31"),
    ],
)
def test_a_period_is_counted_from_the_newest_order(words, first, last):
    """Both days belong to it."""
    assert period_of(words, NEWEST) == (date.fromisoformat(first), date.fromisoformat(last))


@given(
    st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.sampled_from(["last month", "in May", "last year", "last 0 days"])
)
def test_a_period_never_ends_before_it_begins_nor_after_the_newest_order(newest, words):
    """On any day, leap years and turns of the year included."""
    first, last = period_of(words, newest.isoformat())
    assert first <= last
    assert first <= newest
    if words == "last month":
        assert last + timedelta(days=1) == newest.replace(day=1)
        assert first.day == 1


def test_descriptions_are_searched_when_nothing_is_named():
    """By full text, the best match first."""
    assert re.match("BE-", found("something with peppermint or chocolate and nuts")[0])
