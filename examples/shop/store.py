"""The shop's database: built from the CSV files when it is first needed, then an ordinary SQLite file.

Where: the environment's SHOP_DATABASE, else a file named by a hash of the data, in ORCHESTRATOR_DATA_DIR or else in the
system's directory for temporary files. It is built aside and published under its name only if there is none yet: any
number of threads and processes may begin at once, and one that comes late does not undo what was written meanwhile.
"""

from __future__ import annotations

import csv
import hashlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"

_SCHEMA = """
CREATE TABLE products (sku TEXT PRIMARY KEY, title TEXT, brand TEXT, category TEXT, price REAL, cost REAL,
                       weight_kg REAL, description TEXT);
CREATE TABLE stock (sku TEXT, warehouse TEXT, units INTEGER, restock_date TEXT, PRIMARY KEY (sku, warehouse));
CREATE TABLE orders (order_id TEXT PRIMARY KEY, date TEXT, customer TEXT, status TEXT, carrier TEXT, expected TEXT);
CREATE TABLE order_lines (order_id TEXT, sku TEXT, units INTEGER, unit_price REAL, PRIMARY KEY (order_id, sku));
CREATE TABLE reviews (sku TEXT, date TEXT, rating INTEGER, text TEXT);
CREATE TABLE price_changes (idempotency_key TEXT PRIMARY KEY, sku TEXT, old_price REAL, new_price REAL);
CREATE VIRTUAL TABLE search USING fts5 (sku UNINDEXED, title, brand, category, description, tokenize = 'porter');
"""
_LOAD = {
    "products": (
        "INSERT INTO products VALUES (:sku, :title, :brand, :category, :price, :cost, :weight_kg, :description)"
    ),
    "stock": "INSERT INTO stock VALUES (:sku, :warehouse, :units, :restock_date)",
    "orders": "INSERT INTO orders VALUES (:order_id, :date, :customer, :status, :carrier, :expected)",
    "order_lines": "INSERT INTO order_lines VALUES (:order_id, :sku, :units, :unit_price)",
    "reviews": "INSERT INTO reviews VALUES (:sku, :date, :rating, :text)",
}
_building = threading.Lock()
_PATIENCE = 10.0
"""Seconds to wait for another connection's write."""


def database() -> Path:
    """Return the database's path, building it if need be."""
    named = os.environ.get("SHOP_DATABASE")
    folder = os.environ.get("ORCHESTRATOR_DATA_DIR") or tempfile.gettempdir()
    path = Path(named) if named else Path(folder) / f"espresso-shop-{_fingerprint()}.db"
    if not path.exists():
        with _building:
            if not path.exists():
                _build(path)
    return path


@contextmanager
def reading() -> Iterator[sqlite3.Connection]:
    """Give a connection that cannot change anything."""
    address = f"{database().absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


@contextmanager
def writing() -> Iterator[sqlite3.Connection]:
    """Give a connection inside one transaction, committed at the end."""
    with closing(sqlite3.connect(database(), isolation_level=None, timeout=_PATIENCE)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")


def rows(statement: str, *values: Any) -> list[sqlite3.Row]:
    """Return what a query finds."""
    try:
        with reading() as connection:
            return connection.execute(statement, values).fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
    with writing():  # a writer was killed in mid-commit: only a connection that may write can undo its half
        pass
    with reading() as connection:
        return connection.execute(statement, values).fetchall()


def product(sku: str) -> sqlite3.Row:
    """Return one product. Raises `LookupError` naming the SKU."""
    found = rows("SELECT * FROM products WHERE sku = ?", sku)
    if not found:
        raise LookupError(f"there is no product {sku}")
    return found[0]


def _fingerprint() -> str:
    digest = hashlib.sha256(_SCHEMA.encode())
    for name in _LOAD:
        digest.update((DATA / f"{name}.csv").read_bytes())
    return digest.hexdigest()[:16]


def _build(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    os.close(handle)
    try:
        with closing(sqlite3.connect(aside, isolation_level=None)) as connection:
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN")
            for name, statement in _LOAD.items():
                with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
                    connection.executemany(statement, csv.DictReader(file))
            connection.execute("INSERT INTO search SELECT sku, title, brand, category, description FROM products")
            connection.execute("COMMIT")
        with suppress(FileExistsError):  # another process was faster, and may have been written to since
            os.link(aside, path)
    finally:
        Path(aside).unlink()
