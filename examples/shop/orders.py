"""Agents about orders and what was sold: one order, who bought a product, the figures of a period, reviews."""

from __future__ import annotations

from pydantic import BaseModel

from agents import MessageText, agent
from examples.shop.kit import OrderId, Sku, pause
from examples.shop.periods import period_of
from examples.shop.store import product, rows


class OrderStatus(BaseModel):
    """Where an order is."""

    order_id: str
    status: str
    carrier: str | None
    expected: str | None
    items: list[str]
    text: str


class Buyers(BaseModel):
    """Who bought a product."""

    sku: Sku
    title: str
    orders: int
    units: int
    newest: list[str]
    text: str


class Sales(BaseModel):
    """Figures of a period."""

    first: str
    last: str
    orders: int
    units: int
    revenue: float
    best_seller: str | None
    text: str


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


@agent(examples=["who bought MA-LELIT-ANNA?", "which customers have it?"], timeout=5, reply="{text}")
def buyers(sku: Sku) -> Buyers:
    """Who bought a product: how many buyers, and the newest of them."""
    pause()
    title = product(sku)["title"]
    found = rows(
        """SELECT order_id, customer, date, units FROM order_lines JOIN orders USING (order_id)
           WHERE sku = ? AND status <> 'returned' ORDER BY date DESC, order_id DESC""",
        sku,
    )
    newest = [f"{r['customer']} (order {r['order_id']}, {r['date']})" for r in found[:3]]
    units = sum(r["units"] for r in found)
    many = "1 order" if len(found) == 1 else f"{len(found)} orders"
    text = f"{title} ({sku}) was bought in {many}, {units} units; the newest: {', '.join(newest)}"
    if not found:
        text = f"Nobody has bought {title} ({sku}) yet"
    return Buyers(sku=sku, title=title, orders=len(found), units=units, newest=newest, text=text)


@agent(
    examples=["how much did we sell last month?", "sales figures of last week", "what was our revenue this year?"],
    timeout=5,
    reply="{text}",
)
def sales_figures(period: MessageText) -> Sales:
    """How much we sell or sold over a period, such as last month or week: orders, units, revenue."""
    pause()
    ((newest,),) = rows("SELECT max(date) FROM orders")
    first, last = period_of(period, newest)
    found = rows(
        """SELECT o.order_id, l.units, l.units * l.unit_price AS revenue, p.title
           FROM orders o JOIN order_lines l USING (order_id) JOIN products p USING (sku)
           WHERE o.date BETWEEN ? AND ? AND o.status <> 'returned'""",
        first.isoformat(),
        last.isoformat(),
    )
    units: dict[str, int] = {}
    for row in found:
        units[row["title"]] = units.get(row["title"], 0) + row["units"]
    best = min(units, key=lambda title: (-units[title], title), default=None)
    orders = len({row["order_id"] for row in found})
    revenue = round(sum(row["revenue"] for row in found), 2)
    text = f"From {first} to {last} nothing was sold"
    if best is not None:
        sold = f"we sold {sum(units.values())} units in {orders} orders for {revenue:,.2f} EUR"
        text = f"From {first} to {last} {sold}; the best seller was {best}"
    return Sales(
        first=first.isoformat(),
        last=last.isoformat(),
        orders=orders,
        units=sum(units.values()),
        revenue=revenue,
        best_seller=best,
        text=text,
    )


@agent(
    examples=["what do customers say about it?", "its reviews and rating"],
    timeout=5,
    cache_ttl=60,
    reply="{text}",
)
def product_reviews(sku: Sku) -> Reviews:
    """What customers say about a product: rating and reviews."""
    pause()
    title = product(sku)["title"]
    found = rows("SELECT rating, text FROM reviews WHERE sku = ? ORDER BY date DESC", sku)
    rating = sum(r["rating"] for r in found) / len(found) if found else 0.0
    quotes = list(dict.fromkeys(r["text"] for r in found))[:3]
    said = "; ".join(f'"{quote}"' for quote in quotes)
    many = "1 review" if len(found) == 1 else f"{len(found)} reviews"
    text = f"Customers rate {title} ({sku}) {rating:.1f} of 5 in {many} and say: {said}"
    if not found:
        text = f"Nobody has reviewed {title} ({sku}) yet"
    return Reviews(sku=sku, title=title, count=len(found), rating=round(rating, 2), quotes=quotes, text=text)
