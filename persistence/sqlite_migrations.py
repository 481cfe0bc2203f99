"""Which migrations the SQLite file has had, and the applying of those it lacks."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from persistence import migrations
from persistence.contract import StoreIncompatible
from persistence.sqlite_connection import connect


def applied(path: Path) -> list[str]:
    """Return the ids of those that were applied; none when there is no file. Raises the driver's errors."""
    if not path.exists():
        return []
    connection = connect(path, read_only=True)
    try:
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_yoyo_migration'").fetchall()
        rows = connection.execute("SELECT migration_id FROM _yoyo_migration").fetchall() if tables else []
    finally:
        connection.close()
    return [row[0] for row in rows]


def check_version(path: Path) -> None:
    """Raise `StoreIncompatible` for a file that a newer version migrated."""
    newer = sorted(set(applied(path)) - set(migrations.known("sqlite")))
    if newer:
        names = ", ".join(newer)
        raise StoreIncompatible(f"{path} was migrated by a newer version ({names}); it is left as it is")


def apply_missing(path: Path) -> None:
    """Apply what the file lacks. The caller holds its lock."""
    migrations.apply("sqlite", f"sqlite:///{quote(str(path.absolute()))}")
