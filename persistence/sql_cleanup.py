"""Deletes from an SQL database what expired, so many rows at a time that no commit waits long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_CLEANED_AT_ONCE = 5_000
_TRIMMED_AT_ONCE = 500
"""Conversations of one transaction of the cleanup, which the next commit waits for."""

Trimmed = tuple[int, dict[str, int]]
"""How many conversations were looked at, and rows deleted by table."""
Execute = Callable[[str, Any], Any]
"""Executes a statement; returns the driver's cursor."""
Transact = Callable[[Callable[[Execute], Any]], Any]
"""Does some work in one transaction that nobody but the owner can commit; returns what it returned."""


@dataclass(frozen=True, slots=True)
class Statements:
    """What a database is asked; see the statements' own file for their values."""

    cleanup: Mapping[str, str]
    """By table: deletes expired rows, at most `most`."""
    trimmable: str
    """Names so many of the conversations that have rested since a time."""
    trim: Mapping[str, str]
    """By table: deletes what the conversations in `chosen` no longer need, at most `most`."""
    trimmed: str
    """Notes which of them have nothing left to delete."""
    argument: Callable[[list[str]], Any]
    """Makes `chosen` what the driver binds."""


def clean(sql: Statements, transact: Transact, *, journal: int, logs: int, inbox: int) -> dict[str, int]:
    """Delete what is older than these times, a bounded number of each table; return how many rows, by table."""
    values = {"journal": journal, "logs": logs, "inbox": inbox, "most": _CLEANED_AT_ONCE}

    def expire(statement: str) -> int:
        return int(transact(lambda execute: execute(statement, values).rowcount))

    def trim(execute: Execute) -> Trimmed:
        found = [key for (key,) in execute(sql.trimmable, (journal, _TRIMMED_AT_ONCE)).fetchall()]
        if not found:
            return 0, {}
        chosen = {"chosen": sql.argument(found), "most": _CLEANED_AT_ONCE}
        deleted = {table: execute(statement, chosen).rowcount for table, statement in sql.trim.items()}
        execute(sql.trimmed, chosen)
        return len(found), deleted

    gone = {table: expire(statement) for table, statement in sql.cleanup.items()}
    gone |= dict.fromkeys(sql.trim, 0)
    looked_at = _TRIMMED_AT_ONCE
    while looked_at == _TRIMMED_AT_ONCE and max(gone[table] for table in sql.trim) < _CLEANED_AT_ONCE:
        looked_at, deleted = transact(trim)
        for table, rows in deleted.items():
            gone[table] += rows
    return gone
