"""Numbered SQL migrations, read by yoyo: applied at start, in order, each exactly once."""

from __future__ import annotations

import logging
from glob import escape
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
    with get_backend(uri) as backend:
        backend.break_lock()
        with backend.lock(timeout=10):
            missing = backend.to_apply(read_migrations(escape(str(SQL / kind))))
            for migration in missing:
                # Not `apply_migrations`: that marks a migration in a second transaction, and a process killed between
                # the two would leave a schema that is there, counts as missing, and can never be applied again.
                # Without yoyo's own log of who did it, which would ask the network for this machine's name.
                with backend.transaction():
                    migration.process_steps(backend, "apply")
                    backend.mark_one(migration, log=False)
        return [migration.id for migration in missing]
