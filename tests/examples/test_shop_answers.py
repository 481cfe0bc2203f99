"""The figures the shop's agents give, computed a second time from the CSV files."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import TypeAdapter, ValidationError
from shop_support import sold_units, table

from agents import Context, PermanentError
from examples.shop import agents as shop
from examples.shop.prices import Amount, PriceChange
from examples.shop.store import product


def change(sku: str, amount: str, key: str = "k") -> PriceChange:
    return shop.change_price(sku, amount, Context(idempotency_key=key))


def test_every_order_is_told_as_the_files_have_it():
    """Status and what is in it; the way only of what is on its way."""
    titles = {row["sku"]: row["title"] for row in table("products")}
    for order in table("orders"):
        lines = [row for row in table("order_lines") if row["order_id"] == order["order_id"]]
        told = shop.order_status(order["order_id"])
        assert told.status == order["status"]
        assert sorted(told.items) == sorted(f"{line['units']} x {titles[line['sku']]}" for line in lines)
        assert ("expected on" in told.text) == (order["status"] == "shipped")


@pytest.mark.parametrize("sku", [row["sku"] for row in table("products")][::4])
def test_details_buyers_and_reviews_are_those_of_the_files(sku):
    """Every fourth product."""
    (row,) = [row for row in table("products") if row["sku"] == sku]
    details = shop.product_details(sku)
    assert (details.title, details.price, details.weight_kg) == (
        row["title"],
        float(row["price"]),
        float(row["weight_kg"]),
    )
    assert shop.buyers(sku).units == sold_units(sku)
    ratings = [int(review["rating"]) for review in table("reviews") if review["sku"] == sku]
    reviews = shop.product_reviews(sku)
    assert reviews.count == len(ratings)
    assert reviews.rating == pytest.approx(sum(ratings) / len(ratings), abs=0.005)


def test_all_that_is_low_is_reported_the_emptiest_first():
    """Counted over all warehouses."""
    units: dict[str, int] = {}
    for row in table("stock"):
        units[row["sku"]] = units.get(row["sku"], 0) + int(row["units"])
    low = sorted(count for count in units.values() if count <= 5)
    report = shop.low_stock()
    assert report.count == len(low)
    assert [int(part.split(")")[0]) for part in report.text.split(" (")[1:]] == low


def test_every_sold_out_product_comes_back_after_the_newest_order_and_no_other_does():
    """The supplier is asked about each."""
    newest = max(row["date"] for row in table("orders"))
    for row in table("products"):
        total = sum(int(each["units"]) for each in table("stock") if each["sku"] == row["sku"])
        back = asyncio.run(shop.restock(row["sku"], Context(attempt=2))).back_on
        assert (back is None) == (total > 0)
        assert back is None or back > newest


def test_a_comparison_counts_as_the_files_do():
    """Cheaper, better rated, sells better; what was returned is not sold."""
    first, second = "GR-KINGRINDER-K6", "GR-1ZPRESSO-J"
    compared = shop.compare_products([first, second])
    titles = {row["sku"]: row["title"] for row in table("products")}
    assert compared.cheaper == titles[first]
    assert compared.sells_better == titles[max((first, second), key=sold_units)]
    for sku in (first, second):
        assert f"sold {sold_units(sku)} units" in compared.text


def test_a_comparison_without_a_winner_says_so():
    """Nobody is better by standing first."""
    ratings: dict[str, list[int]] = {}
    for row in table("reviews"):
        ratings.setdefault(row["sku"], []).append(int(row["rating"]))
    means = {sku: sum(given) / len(given) for sku, given in ratings.items()}
    first, second = [sku for sku, mean in means.items() if mean == 5.0][:2]
    compared = shop.compare_products([first, second])
    assert compared.better_rated == ""
    assert "they are rated the same" in compared.text


@pytest.mark.parametrize("skus", [[], ["GR-NICHE-ZERO"], ["GR-NICHE-ZERO", "GR-NICHE-ZERO"]])
def test_one_product_is_not_compared(skus):
    """Not with itself either."""
    with pytest.raises(PermanentError, match="at least two"):
        shop.compare_products(skus)


def test_a_new_price_does_not_rewrite_what_was_sold():
    """Orders keep the price they were made at."""
    before = shop.sales_figures("this year")
    assert before.units > 0
    for row in table("products"):
        change(row["sku"], f"{float(row['price']) * 1.5:.2f}", key=row["sku"])
    assert shop.sales_figures("this year") == before


def test_a_period_without_orders_has_no_best_seller():
    """And the sentence does not name one."""
    sales = shop.sales_figures("in March 2020")
    assert (sales.orders, sales.revenue, sales.best_seller) == (0, 0, None)
    assert sales.text.endswith("nothing was sold")


def test_unknown_products_and_orders_are_named():
    """By every agent that takes one."""
    for ask in (shop.stock, shop.product_details, shop.buyers, shop.product_reviews):
        with pytest.raises(LookupError, match="ZZ-NOTHING"):
            ask("ZZ-NOTHING")
    with pytest.raises(LookupError, match="10999"):
        shop.order_status("10999")


# Prices


def test_an_amount_may_have_thousands():
    """What says 1,579.00 must never be read as 579.00."""
    changed = change("GR-LAGOM-P64", "1,579.00")
    assert changed.new_price == product("GR-LAGOM-P64")["price"] == 1579.0


@pytest.mark.parametrize("amount", ["0.00", "519.99", "1,398.01", "999999.00"])
def test_a_price_below_cost_or_above_double_is_refused_and_changes_nothing(amount):
    """The Niche Zero costs the shop 520.00 and sells at 699.00."""
    with pytest.raises(PermanentError, match=r"520\.00 .* 1,398\.00"):
        change("GR-NICHE-ZERO", amount)
    assert product("GR-NICHE-ZERO")["price"] == 699.0


@pytest.mark.parametrize("amount", ["12", "12.5", "1,57.00", "-12.00", "12.345", "1e3", ""])
def test_what_is_no_amount_does_not_fit_the_contract(amount):
    """Two decimals; commas only between thousands."""
    with pytest.raises(ValidationError):
        TypeAdapter(Amount).validate_python(amount)


def test_a_key_belongs_to_one_change():
    """Given for another change it is refused, whatever that asks for."""
    change("GR-NICHE-ZERO", "679.00")
    for sku, amount in (("GR-NICHE-ZERO", "680.00"), ("GR-LAGOM-P64", "1579.00")):
        with pytest.raises(PermanentError, match="another change"):
            change(sku, amount)
    assert product("GR-NICHE-ZERO")["price"] == 679.0
    assert product("GR-LAGOM-P64")["price"] == 1590.0


def test_changes_at_the_same_time_each_see_the_one_before():
    """Old and new prices form a chain that ends at the price in force."""
    with ThreadPoolExecutor(6) as pool:
        changes = list(pool.map(lambda n: change("GR-NICHE-ZERO", f"{600 + n}.00", key=f"k{n}"), range(6)))
    following = {each.old_price: each.new_price for each in changes}
    price = 699.0
    for _ in changes:
        price = following.pop(price)
    assert price == product("GR-NICHE-ZERO")["price"]


# The unreliable supplier


@pytest.mark.parametrize(("rate", "least", "most"), [("0", 0, 0), ("0.5", 30, 70), ("1", 100, 100)])
def test_the_rate_is_the_share_of_calls_whose_first_attempt_fails(monkeypatch, rate, least, most):
    """The same calls each time, and never a second attempt."""
    monkeypatch.setenv("SHOP_FAILURE_RATE", rate)

    async def fails(key: str, attempt: int) -> bool:
        try:
            await shop.restock("GR-EUREKA-MIGNON", Context(idempotency_key=key, attempt=attempt))
        except ConnectionError:
            return True
        return False

    async def ask() -> list[list[bool]]:
        keys = [f"call-{number}" for number in range(100)]
        return [[await fails(key, attempt) for key in keys] for attempt in (1, 1, 2)]

    first, again, second = asyncio.run(ask())
    assert least <= sum(first) <= most
    assert first == again
    assert not any(second)
