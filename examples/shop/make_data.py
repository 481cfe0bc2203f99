"""Makes the shop's data, the same every time: `python -m examples.shop.make_data` writes the CSV files in data/.

Products are written by hand below; stock, orders and reviews are drawn from a fixed seed, with a few rows set by hand
so that the questions in questions.py have answers worth reading.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random

DATA = Path(__file__).parent / "data"
TODAY = date(2026, 10, 31)
"""The shop's last day of business; periods such as "last month" are counted from the newest order."""
WAREHOUSES = ("north", "south", "harbour")
CARRIERS = ("Postino", "QuickParcel", "Velo Cargo")
CUSTOMERS = ("Ann Berg", "Bo Lind", "Carla Rossi", "Deniz Ay", "Elif Kaya", "Finn Holm", "Gia Conti", "Hugo Roux")

# sku | title | brand | category | price | cost | weight in kg | description
_PRODUCTS = """
MA-LINEA-MICRA|Linea Micra|La Marzocco|machine|3990.00|2850.00|19.0|compact dual boiler espresso machine for home
MA-LINEA-MINI|Linea Mini|La Marzocco|machine|5790.00|4250.00|30.0|dual boiler espresso machine with paddle
MA-PROFITEC-GO|Profitec Go|Profitec|machine|979.00|690.00|13.5|small single boiler espresso machine with PID
MA-PROFITEC-MOVE|Profitec Move|Profitec|machine|1899.00|1390.00|21.0|dual boiler espresso machine, quick to heat
MA-LELIT-BIANCA|Lelit Bianca|Lelit|machine|2699.00|1980.00|26.5|dual boiler espresso machine with flow control
MA-LELIT-ANNA|Lelit Anna|Lelit|machine|549.00|385.00|7.5|entry level single boiler espresso machine
MA-RANCILIO-SILVIA|Rancilio Silvia|Rancilio|machine|899.00|640.00|14.0|sturdy single boiler espresso machine
MA-ROCKET-APPARTAMENTO|Rocket Appartamento|Rocket|machine|1749.00|1260.00|20.0|heat exchanger machine for small kitchens
MA-ECM-SYNCHRONIKA|ECM Synchronika|ECM|machine|2999.00|2190.00|30.5|dual boiler espresso machine with E61 group
MA-ASCASO-STEEL|Ascaso Steel Duo|Ascaso|machine|1699.00|1210.00|15.0|thermoblock espresso machine with two circuits
MA-FLAIR-58|Flair 58|Flair|machine|599.00|410.00|4.8|manual lever espresso maker
MA-CAFELAT-ROBOT|Cafelat Robot|Cafelat|machine|459.00|320.00|3.2|manual espresso maker with two arms
GR-EUREKA-MIGNON|Eureka Mignon Specialita|Eureka|grinder|449.00|318.00|5.6|quiet espresso grinder with 55 mm burrs
GR-EUREKA-FACILE|Eureka Mignon Facile|Eureka|grinder|289.00|205.00|5.6|simple espresso grinder with 50 mm burrs
GR-EUREKA-ATOM|Eureka Atom 75|Eureka|grinder|899.00|655.00|9.0|fast espresso grinder with 75 mm burrs
GR-NICHE-ZERO|Niche Zero|Niche|grinder|699.00|520.00|4.1|single dose conical grinder
GR-DF64-GEN2|DF64 Gen 2|Turin|grinder|399.00|268.00|7.4|single dose flat burr grinder
GR-BARATZA-ENCORE|Baratza Encore ESP|Baratza|grinder|199.00|138.00|3.2|conical grinder for filter and espresso
GR-BARATZA-SETTE|Baratza Sette 270|Baratza|grinder|379.00|262.00|3.2|espresso grinder with macro and micro steps
GR-MAZZER-PHILOS|Mazzer Philos|Mazzer|grinder|1090.00|810.00|12.5|single dose grinder with 64 mm burrs
GR-LAGOM-P64|Lagom P64|Option-O|grinder|1590.00|1205.00|9.5|variable speed flat burr grinder
GR-COMANDANTE-C40|Comandante C40|Comandante|grinder|239.00|165.00|0.7|hand grinder for filter coffee
GR-1ZPRESSO-J|1Zpresso J-Ultra|1Zpresso|grinder|189.00|121.00|0.7|hand grinder for espresso
GR-KINGRINDER-K6|KINGrinder K6|KINGrinder|grinder|99.00|61.00|0.6|hand grinder with fine steps
AC-TAMPER-58|Levelling tamper 58 mm|Baristaline|accessory|49.00|19.00|0.5|tamper with a levelling collar
AC-TAMPER-SPRING|Spring tamper 58 mm|Baristaline|accessory|69.00|28.00|0.6|tamper with a constant spring
AC-DISTRIBUTOR-58|Distributor 58 mm|Baristaline|accessory|35.00|12.00|0.4|levels the coffee bed
AC-WDT-TOOL|WDT needle tool|Baristaline|accessory|19.00|5.50|0.1|stirs clumps out of the coffee bed
AC-SCALE-LUNAR|Acaia Lunar|Acaia|accessory|249.00|168.00|0.3|espresso scale with timer
AC-SCALE-BASIC|Timemore Black Mirror|Timemore|accessory|59.00|31.00|0.5|coffee scale with timer
AC-PITCHER-350|Milk pitcher 350 ml|Motta|accessory|24.00|9.50|0.3|steel pitcher for one cappuccino
AC-PITCHER-600|Milk pitcher 600 ml|Motta|accessory|29.00|11.50|0.4|steel pitcher for two cappuccinos
AC-KNOCKBOX-MINI|Knock box mini|Baristaline|accessory|27.00|10.00|0.7|knock box for small counters
AC-PORTAFILTER-NAKED|Bottomless portafilter 58 mm|ECM|accessory|79.00|42.00|0.6|shows how evenly the coffee flows
AC-BASKET-18|Precision basket 18 g|VST|accessory|32.00|15.00|0.1|basket with even holes
AC-BASKET-20|Precision basket 20 g|VST|accessory|33.00|15.50|0.1|larger basket with even holes
AC-SCREEN-PUCK|Puck screen 58 mm|Baristaline|accessory|14.00|3.50|0.1|keeps the group clean
AC-CUPS-ESPRESSO|Espresso cups, set of 6|Ancap|accessory|54.00|26.00|1.2|thick porcelain cups
AC-CUPS-CAPPUCCINO|Cappuccino cups, set of 6|Ancap|accessory|69.00|34.00|1.9|thick porcelain cups with saucers
AC-KETTLE-EKG|Stagg EKG kettle|Fellow|accessory|169.00|112.00|1.4|gooseneck kettle with exact temperature
AC-CLEANER-CAFIZA|Cafiza cleaner 566 g|Urnex|accessory|16.00|7.20|0.6|powder for backflushing
AC-DESCALER-1L|Descaler 1 l|Durgol|accessory|18.00|8.50|1.1|removes lime from boilers
AC-MAT-CORNER|Tamping mat, corner|Baristaline|accessory|22.00|7.00|0.6|protects the edge of the counter
BE-HOUSE-1KG|House blend 1 kg|Roastery 9|beans|28.00|14.50|1.0|chocolate and nuts, for milk drinks
BE-HOUSE-250|House blend 250 g|Roastery 9|beans|9.50|4.20|0.3|chocolate and nuts, for milk drinks
BE-BRAZIL-1KG|Brazil Santos 1 kg|Roastery 9|beans|26.00|13.20|1.0|mild and round single origin
BE-ETHIOPIA-250|Ethiopia Guji 250 g|Roastery 9|beans|13.50|7.10|0.3|floral single origin, light roast
BE-COLOMBIA-250|Colombia Huila 250 g|Roastery 9|beans|12.00|6.20|0.3|caramel and red fruit
BE-DECAF-250|Decaf Mexico 250 g|Roastery 9|beans|11.50|6.00|0.3|decaffeinated with mountain water
BE-ITALIA-1KG|Italia dark roast 1 kg|Torrefazione Uno|beans|24.00|11.80|1.0|dark roast with robusta, thick crema
PT-GASKET-E61|Group gasket E61|ECM|part|6.50|1.90|0.1|8.5 mm gasket for E61 groups
PT-SCREEN-E61|Shower screen E61|ECM|part|9.00|3.10|0.1|shower screen for E61 groups
PT-GASKET-MICRA|Group gasket Micra|La Marzocco|part|12.00|5.20|0.1|gasket for Micra and Mini groups
PT-BURRS-EUREKA-55|Burr set 55 mm|Eureka|part|52.00|29.00|0.2|replacement burrs for Mignon grinders
PT-BURRS-SSP-64|SSP burr set 64 mm|SSP|part|195.00|140.00|0.3|unimodal burrs for 64 mm grinders
PT-FILTER-BWT|Water filter Bestsave M|BWT|part|21.00|11.00|0.2|softens water in the tank
PT-PUMP-ULKA|Vibration pump EP5|Ulka|part|34.00|17.50|0.6|pump for most single boiler machines
PT-VALVE-STEAM|Steam valve kit|Lelit|part|27.00|12.50|0.2|seals and spindle for steam valves
PT-TANK-GO|Water tank Profitec Go|Profitec|part|39.00|21.00|0.9|replacement tank, 2.8 l
PT-WAND-NOBURN|No-burn steam wand|Rancilio|part|64.00|36.00|0.3|steam wand that stays cool
""".strip().splitlines()

_SOLD_OUT = {"GR-EUREKA-MIGNON": 19, "MA-ECM-SYNCHRONIKA": 33, "AC-SCALE-LUNAR": 12, "PT-PUMP-ULKA": 8}
"""Sold out everywhere; days after the last day of business until they are back."""
_RUNNING_LOW = {"GR-NICHE-ZERO": 2, "BE-ETHIOPIA-250": 3, "PT-GASKET-MICRA": 1}
_FIXED_STOCK = {"MA-LINEA-MICRA": (3, 1, 2), "MA-LINEA-MINI": (1, 0, 1)}
_OPINIONS = {
    5: ("better than I hoped", "would buy it again at once", "quiet, solid, a joy every morning"),
    4: ("very good, small things could be nicer", "does what it says", "good value"),
    3: ("all right for the price", "works, but takes patience"),
    2: ("louder than expected", "arrived late and scratched"),
}


def make() -> dict[str, str]:
    """Return the content of every file by its name."""
    chance = Random(7)  # noqa: S311  # made-up data, no secret
    products = [line.split("|") for line in _PRODUCTS]
    skus = [product[0] for product in products]
    orders, lines = _orders(chance, {product[0]: product[4] for product in products})
    return {
        "products.csv": _csv(
            ("sku", "title", "brand", "category", "price", "cost", "weight_kg", "description"), products
        ),
        "stock.csv": _csv(("sku", "warehouse", "units", "restock_date"), _stock(chance, skus)),
        "orders.csv": _csv(("order_id", "date", "customer", "status", "carrier", "expected"), orders),
        "order_lines.csv": _csv(("order_id", "sku", "units", "unit_price"), lines),
        "reviews.csv": _csv(("sku", "date", "rating", "text"), _reviews(chance, skus)),
    }


def _stock(chance: Random, skus: Sequence[str]) -> Iterator[tuple[object, ...]]:
    for sku in skus:
        units = [chance.randint(4, 40) if sku[:2] != "MA" else chance.randint(1, 5) for _ in WAREHOUSES]
        if sku in _FIXED_STOCK:
            units = list(_FIXED_STOCK[sku])
        elif sku in _SOLD_OUT:
            units = [0, 0, 0]
        elif sku in _RUNNING_LOW:
            units = [_RUNNING_LOW[sku], 0, 0]
        back = (TODAY + timedelta(days=_SOLD_OUT[sku])).isoformat() if sku in _SOLD_OUT else ""
        for warehouse, count in zip(WAREHOUSES, units, strict=True):
            yield sku, warehouse, count, back


def _orders(chance: Random, prices: dict[str, str]) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    orders: list[tuple[object, ...]] = []
    lines: list[tuple[object, ...]] = []
    for number in range(10101, 10251):
        day = TODAY - timedelta(days=(10250 - number) * 4 // 5)
        age = (TODAY - day).days
        status = _status(chance, age)
        carrier, expected = "", ""
        if status in ("shipped", "delivered", "returned"):
            carrier = chance.choice(CARRIERS)
            expected = (day + timedelta(days=chance.randint(3, 6))).isoformat()
        if number == 10231:
            status, carrier, expected = "shipped", "Postino", (TODAY + timedelta(days=3)).isoformat()
        orders.append((number, day.isoformat(), chance.choice(CUSTOMERS), status, carrier, expected))
        chosen = sorted(chance.sample(list(prices), chance.randint(1, 3)))
        lines.extend((number, sku, _units(chance, sku), prices[sku]) for sku in chosen)
    return orders, lines


def _status(chance: Random, age: int) -> str:
    if age > 10:
        return "returned" if chance.random() < 0.05 else "delivered"
    return chance.choice(("placed", "paid", "packed")) if age < 4 else chance.choice(("packed", "shipped"))


def _units(chance: Random, sku: str) -> int:
    return 1 if sku[:2] in ("MA", "GR") else chance.randint(1, 4)


def _reviews(chance: Random, skus: Sequence[str]) -> Iterator[tuple[object, ...]]:
    for sku in skus:
        for _ in range(3 if sku == "MA-LINEA-MINI" else chance.randint(1, 3)):
            rating = chance.choice((5, 5, 4, 4, 3, 2))
            day = TODAY - timedelta(days=chance.randint(1, 300))
            yield sku, day.isoformat(), rating, chance.choice(_OPINIONS[rating])


def _csv(head: Sequence[str], rows: Iterator[tuple[object, ...]] | Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    """Write the files."""
    DATA.mkdir(exist_ok=True)
    for name, content in make().items():
        (DATA / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
