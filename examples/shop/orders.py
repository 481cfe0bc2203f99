"""Agents about orders and what was sold: one order, the figures of a period, reviews."""

from __future__ import annotations

from datetime import date, timedelta

from pydantic import BaseModel

from agents import MessageText, agent
from examples.shop.kit import OrderId, Sku, pause
from examples.shop.store import product, rows


class OrderStatus(BaseModel):
    """Where an order is."""

    order_id: str
    status: str
    carrier: str | None
    expected: str | None
    items: list[str]
    text: str


class Sales(BaseModel):
    """Figures of a period."""

    first: str
    last: str
    orders: int
    units: int
    revenue: float
    best_seller: str


class Reviews(BaseModel):
    """What customers say."""

    sku: Sku
    title: str
    count: int
    rating: float
    quotes: list[str]
    text: str


@agent(examples=["where is order 10231?", "has order 10240 been shipped?"], timeout=5, reply="{text}")
def order_status(order_id: OrderId) -> OrderStatus:
    """Where an order is: its status, its carrier, when it is expected."""
    pause()
    found = rows("SELECT * FROM orders WHERE order_id = ?", order_id)
    if not found:
        raise LookupError(f"there is no order {order_id}")
    order = found[0]
    items = [
        f"{r['units']} x {r['title']}"
        for r in rows(
            "SELECT units, title FROM order_lines JOIN products USING (sku) WHERE order_id = ? ORDER BY title", order_id
        )
    ]
    way = f" with {order['carrier']}, expected on {order['expected']}" if order["status"] == "shipped" else ""
    return OrderStatus(
        order_id=order_id,
        status=order["status"],
        carrier=order["carrier"] or None,
        expected=order["expected"] or None,
        items=items,
        text=f"Order {order_id} ({', '.join(items)}) is {order['status']}{way}",
    )


@agent(
    examples=["how much did we sell last month?", "sales figures of last week", "what was our revenue this year?"],
    timeout=5,
    reply="From {first} to {last} we sold {units} units in {orders} orders for {revenue:,.2f}; "
    "the best seller was {best_seller}",
)
def sales_figures(period: MessageText) -> Sales:
    """How much we sell or sold over a period, such as last month or week: orders, units, revenue, best seller."""
    pause()
    first, last = _period(period)
    found = rows(
        """SELECT o.order_id, l.units, l.units * p.price AS revenue, p.title
           FROM orders o JOIN order_lines l USING (order_id) JOIN products p USING (sku)
           WHERE o.date BETWEEN ? AND ? AND o.status <> 'returned'""",
        first.isoformat(),
        last.isoformat(),
    )
    units: dict[str, int] = {}
    for row in found:
        units[row["title"]] = units.get(row["title"], 0) + row["units"]
    best = min(units, key=lambda title: (-units[title], title), default="nothing")
    return Sales(
        first=first.isoformat(),
        last=last.isoformat(),
        orders=len({row["order_id"] for row in found}),
        units=sum(units.values()),
        revenue=round(sum(row["revenue"] for row in found), 2),
        best_seller=best,
    )


@agent(examples=["what do customers say about it?", "reviews and rating of the Linea Mini"], timeout=5, reply="{text}")
def product_reviews(sku: Sku) -> Reviews:
    """What customers say about a product: rating and reviews."""
    pause()
    title = product(sku)["title"]
    found = rows("SELECT rating, text FROM reviews WHERE sku = ? ORDER BY date DESC", sku)
    rating = sum(r["rating"] for r in found) / len(found) if found else 0.0
    quotes = list(dict.fromkeys(r["text"] for r in found))[:3]
    said = "; ".join(f'"{quote}"' for quote in quotes)
    text = f"Customers rate {title} {rating:.1f} of 5 in {len(found)} reviews and say: {said}"
    return Reviews(sku=sku, title=title, count=len(found), rating=round(rating, 2), quotes=quotes, text=text)


def _period(words: str) -> tuple[date, date]:
    """Return first and last day; periods are counted from the newest order, so that answers do not age."""
    ((newest,),) = rows("SELECT max(date) FROM orders")
    today = date.fromisoformat(newest)
    said = words.lower()
    if "last month" in said:
        last = today.replace(day=1) - timedelta(days=1)
        return last.replace(day=1), last
    if "this month" in said:
        return today.replace(day=1), today
    if "last week" in said or "past week" in said:
        return today - timedelta(days=6), today
    if "this year" in said:
        return today.replace(month=1, day=1), today
    return today - timedelta(days=29), today
