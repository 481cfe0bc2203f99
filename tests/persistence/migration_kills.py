"""Run as a program: opens a new SQLite store once for every point at which it can be killed, and opens each again.

Prints the number of points, and a line for each at which the next start failed.
"""

from __future__ import annotations

import sqlite3
import sys
from functools import partial
from pathlib import Path
from typing import Any

from killed_starts import Tick, survives
from yoyo.backends.base import DatabaseBackend

from persistence.sqlite_store import SqliteStore


def watch(tick: Tick) -> None:
    class Cursor(sqlite3.Cursor):
        def execute(self, *arguments: Any) -> Any:
            tick()
            return super().execute(*arguments)

    DatabaseBackend.cursor = lambda backend: backend.connection.cursor(Cursor)


def main(directory: Path) -> None:
    point, killed = 0, True
    while killed:
        point += 1
        killed, trouble = survives(partial(SqliteStore, directory / f"{point}.db"), watch, point)
        if trouble:
            sys.stdout.write(f"point {point}: {trouble}\n")
    sys.stdout.write(f"points: {point - 1}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
