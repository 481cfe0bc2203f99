"""Which migrations the Postgres database has had, and the applying of those it lacks."""

from __future__ import annotations

from urllib.parse import urlencode

from persistence import migrations
from persistence import postgres_statements as sql
from persistence.contract import StoreIncompatible
from persistence.postgres_connection import Connection, connect_options


def exists(connection: Connection, table: str) -> bool:
    """Return whether there is a table of that name."""
    row = connection.execute(sql.EXISTS, (table,)).fetchone()
    return row is not None and bool(row[0])


def applied(connection: Connection) -> set[str]:
    """Return the ids of those that were applied; none in an empty database."""
    if not exists(connection, "_yoyo_migration"):
        return set()
    return {row[0] for row in connection.execute(sql.APPLIED)}


def check_version(connection: Connection) -> None:
    """Raise `StoreIncompatible` for a database that a newer version migrated."""
    newer = sorted(applied(connection) - set(migrations.known("postgres")))
    if newer:
        names = ", ".join(newer)
        raise StoreIncompatible(f"the database was migrated by a newer version ({names}); it is left as it is")


def apply_missing(dsn: str) -> None:
    """Apply what the database lacks. The caller holds its lock."""
    migrations.apply("postgres", _uri(dsn))


def _uri(dsn: str) -> str:
    """Return the DSN as the migrations' library reads it: everything as an argument, so that odd names pass."""
    options = {name: value for name, value in connect_options(dsn).items() if name != "autocommit"}
    return f"postgresql+psycopg:///?{urlencode(options)}"
