"""Numbered SQL migrations, run by yoyo: applied at start, in order, each exactly once."""

from __future__ import annotations

import logging
from pathlib import Path

from yoyo import get_backend, read_migrations

SQL = Path(__file__).parent / "sql"


def known(kind: str) -> list[str]:
    """Return the ids of all migrations for a kind of store, in order."""
    return sorted(path.stem for path in (SQL / kind).glob("*.sql") if not path.stem.endswith(".rollback"))


def apply(kind: str, uri: str) -> list[str]:
    """Apply what is missing and return its ids. The caller holds a lock that keeps everybody else from migrating.

    A lock row that a killed process left in yoyo's own table is therefore stale, and is removed.
    """
    logging.getLogger("yoyo").setLevel(logging.ERROR)
    backend = get_backend(uri)
    with backend:
        migrations = read_migrations(str(SQL / kind))
        backend.break_lock()
        with backend.lock(timeout=10):
            missing = backend.to_apply(migrations)
            ids = [migration.id for migration in missing]
            backend.apply_migrations(missing)
    backend.connection.close()
    return ids
