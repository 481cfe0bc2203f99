"""Deletes from the Postgres database what expired, so many rows at a time that no commit waits long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from persistence import postgres_statements as sql
from persistence.postgres_connection import Connection

_CLEANED_AT_ONCE = 5_000
_TRIMMED_AT_ONCE = 500
"""Conversations of one transaction of the cleanup, which the next commit waits for."""

Trimmed = tuple[int, dict[str, int]]
"""How many conversations were looked at, and rows deleted by table."""
Change = Callable[[str, Any], psycopg.Cursor[Any]]
Transact = Callable[[Callable[[Connection, int], Trimmed]], Trimmed]


def clean(change: Change, transact: Transact, *, journal: int, logs: int, inbox: int) -> dict[str, int]:
    """Delete what is older than these times, a bounded number of each table; return how many rows, by table.

    `change` executes one statement in a transaction of the owner's, `transact` does some work in one.
    """
    values = {"journal": journal, "logs": logs, "inbox": inbox, "most": _CLEANED_AT_ONCE}
    gone = {table: change(statement, values).rowcount for table, statement in sql.CLEANUP.items()}
    gone |= dict.fromkeys(sql.TRIM, 0)
    looked_at = _TRIMMED_AT_ONCE
    while looked_at == _TRIMMED_AT_ONCE and max(gone[table] for table in sql.TRIM) < _CLEANED_AT_ONCE:
        looked_at, trimmed = transact(lambda writer, _: _trim(writer, journal))
        for table, rows in trimmed.items():
            gone[table] += rows
    return gone


def _trim(writer: Connection, before: int) -> Trimmed:
    """Delete what some conversations no longer need."""
    chosen = [key for (key,) in writer.execute(sql.TRIMMABLE, (before, _TRIMMED_AT_ONCE)).fetchall()]
    if not chosen:
        return 0, {}
    values = {"chosen": chosen, "most": _CLEANED_AT_ONCE}
    gone = {table: writer.execute(statement, values).rowcount for table, statement in sql.TRIM.items()}
    writer.execute(sql.TRIMMED, values)
    return len(chosen), gone
