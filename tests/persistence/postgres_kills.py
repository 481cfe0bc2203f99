"""Run as a program: opens a new Postgres store for many points at which it can be killed, and opens each again.

Takes the DSN of a server and the distance of the points; prints their number, and a line for each at which the next
start failed.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import psycopg
from killed_starts import Tick, survives
from psycopg import conninfo

from persistence.postgres_store import PostgresStore


def watch(tick: Tick) -> None:
    execute = psycopg.Cursor.execute

    def executing(*values: Any, **options: Any) -> Any:
        tick()
        return execute(*values, **options)

    psycopg.Cursor.execute = executing  # type: ignore[method-assign]  # only in the process that dies


def main(dsn: str, distance: int) -> None:
    """Make a database for each point, until one start was not killed any more."""
    point, killed = 1, True
    while killed:
        name = f"kills_{point}"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        killed, trouble = survives(partial(PostgresStore, conninfo.make_conninfo(dsn, dbname=name)), watch, point)
        if trouble:
            sys.stdout.write(f"point {point}: {trouble}\n")
        point += distance if killed else 0
    sys.stdout.write(f"points: {point}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
