"""Run as a program: opens a new Postgres store for many points at which it can be killed, and opens each again.

One process forks all of them, because the start of a process costs more than the migration. Takes the DSN of a server
and the distance of the points; prints their number, and a line for each at which the next start failed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import psycopg
from psycopg import conninfo
from yoyo.backends.base import DatabaseBackend

from persistence.postgres_store import PostgresStore


def die_at(point: int) -> None:
    """Let this process be killed before its `point`-th statement, or before or after a commit of the migrations."""
    left = point
    execute, commit = psycopg.Cursor.execute, DatabaseBackend.commit

    def tick() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def executing(*values: Any, **options: Any) -> Any:
        tick()
        return execute(*values, **options)

    def committing(backend: Any) -> None:
        tick()
        commit(backend)
        tick()

    psycopg.Cursor.execute = executing  # type: ignore[method-assign]  # only in the process that dies
    DatabaseBackend.commit = committing


def survives(dsn: str, point: int) -> tuple[bool, str]:
    """Whether a start was killed at that point, and what the next one said."""
    child = os.fork()
    if child == 0:
        die_at(point)
        PostgresStore(dsn).open("killed")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    store = PostgresStore(dsn)
    try:
        store.open("next")
        applied = all(done for _, done in store.migration_status())
        store.close()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what this program reports
        return os.WIFSIGNALED(status), f"{type(error).__name__}: {error}"
    return os.WIFSIGNALED(status), "" if applied else "not applied"


def main(dsn: str, distance: int) -> None:
    """Make a database for each point, until one start was not killed any more."""
    point, killed = 1, True
    while killed:
        name = f"kills_{point}"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        killed, trouble = survives(conninfo.make_conninfo(dsn, dbname=name), point)
        if trouble:
            sys.stdout.write(f"point {point}: {trouble}\n")
        point += distance if killed else 0
    sys.stdout.write(f"points: {point}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
