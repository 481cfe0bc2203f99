"""Run as a program: opens a new store once for every point at which it can be killed, and opens each again.

One process forks all of them, because the start of a process costs more than the migration. Prints the number of
points, and a line for each at which the next start failed.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from yoyo.backends.base import DatabaseBackend

from persistence.sqlite_store import SqliteStore


def die_at(point: int) -> None:
    """Let this process be killed before its `point`-th statement, or before or after a commit."""
    left = point

    def tick() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    class Cursor(sqlite3.Cursor):
        def execute(self, *arguments: Any) -> Any:
            tick()
            return super().execute(*arguments)

    commit = DatabaseBackend.commit

    def committing(backend: Any) -> None:
        tick()
        commit(backend)
        tick()

    DatabaseBackend.cursor = lambda backend: backend.connection.cursor(Cursor)
    DatabaseBackend.commit = committing


def survives(path: Path, point: int) -> tuple[bool, str]:
    """Whether a start was killed at that point, and what the next one said."""
    child = os.fork()
    if child == 0:
        die_at(point)
        SqliteStore(path).open("killed")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    store = SqliteStore(path)
    try:
        store.open("next")
        applied = all(done for _, done in store.migration_status())
        store.close()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what this program reports
        return os.WIFSIGNALED(status), f"{type(error).__name__}: {error}"
    return os.WIFSIGNALED(status), "" if applied else "not applied"


def main(directory: Path) -> None:
    point, killed = 0, True
    while killed:
        point += 1
        killed, trouble = survives(directory / f"{point}.db", point)
        if trouble:
            sys.stdout.write(f"point {point}: {trouble}\n")
    sys.stdout.write(f"points: {point - 1}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
