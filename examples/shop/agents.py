"""All agents of the shop: what `agents_from = ["examples.shop.agents"]` finds."""

from examples.shop.catalogue import compare_products, find_products, product_details
from examples.shop.orders import buyers, order_status, product_reviews, sales_figures
from examples.shop.prices import change_price, margin
from examples.shop.stock import low_stock, restock, stock

__all__ = [
    "buyers",
    "change_price",
    "compare_products",
    "find_products",
    "low_stock",
    "margin",
    "order_status",
    "product_details",
    "product_reviews",
    "restock",
    "sales_figures",
    "stock",
]
