"""What a batch writes, as rows of the SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, groupby
from typing import Any

from pydantic_core import to_json

from persistence import sqlite_statements as sql
from persistence.contract import Append, MetricRow, OperationRow, Row

# Of every value that is no text or plain number the driver asks the type for ways to adapt it, and drops an error for
# each that there is not. These it stores as they are; told so, it asks no more (2 % of a request). The driver has one
# table for the whole process: what an agent has told it already stays.
_NOTHING: dict[None, None] = {}
_AS_THEY_ARE: tuple[tuple[type[Any], Callable[[Any], Any]], ...] = (
    (type(None), _NOTHING.get),  # None for None
    (bytes, bytes),
    (bool, int),
)
for _kind, _adapter in _AS_THEY_ARE:
    if (_kind, sqlite3.PrepareProtocol) not in sqlite3.adapters:
        sqlite3.register_adapter(_kind, _adapter)


def write_steps(writer: sqlite3.Connection, appends: Sequence[Append]) -> None:
    """Write all that these steps bring about."""
    _insert(writer, sql.ENTRY, ((a.conversation_id, a.last_seq, a.expected_seq + 1, a.at, a.entry) for a in appends))
    for progress, some in groupby(appends, lambda a: a.progress):  # in order: one may have several steps
        _insert(writer, sql.STATE if progress else sql.STATE_AS_BEFORE, map(_state, some))
    _insert(
        writer,
        sql.INBOX,
        (
            (a.conversation_id, row.message_id, row.request_id, row.fingerprint, row.seq, a.at)
            for a in appends
            for row in a.inbox
        ),
    )
    replied = [(seq, a.conversation_id, message) for a in appends for message, seq in a.replied]
    if replied:
        writer.execute(sql.REPLIED, (to_json(replied).decode(),))
    _insert(
        writer,
        sql.RESULT,
        (
            (
                a.conversation_id,
                row.request_id,
                row.node,
                row.agent,
                row.attempt,
                row.body,
                row.duration_ms,
                row.cached,
                row.cache_key,
                a.at,
                row.expires_at,
            )
            for a in appends
            for row in a.results
        ),
    )
    _insert(
        writer,
        sql.MEMORY,
        (
            (a.conversation_id, row.seq, row.role, row.request_id, row.text, row.at, row.forgotten)
            for a in appends
            for row in a.memory
        ),
    )
    writer.executemany(sql.FORGET, [(a.conversation_id, request) for a in appends for request in a.forget])
    _insert(
        writer,
        sql.ERROR,
        (
            (
                row.at,
                a.conversation_id,
                row.request_id,
                row.node,
                row.agent,
                row.attempt,
                row.error_type,
                row.error_class,
                row.message,
                row.retry_delay,
            )
            for a in appends
            for row in a.errors
        ),
    )


def write_rows(writer: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Write what rides along with the steps."""
    operations: list[OperationRow] = []
    metrics: list[MetricRow] = []
    for row in rows:
        if isinstance(row, OperationRow):
            operations.append(row)
        elif isinstance(row, MetricRow):
            metrics.append(row)
        else:
            writer.execute(sql.DEAD_LETTER, (row.at, row.address, row.reason, row.kind, row.body))
    _insert(writer, sql.OPERATION, operations)
    _insert(writer, sql.METRIC, metrics)


def _state(append: Append) -> tuple[Any, ...]:
    return (
        append.conversation_id,
        append.phase,
        append.last_seq,
        append.unfinished,
        append.oldest_open_seq,
        to_json(append.open_request_ids).decode(),
        append.user_id,
        append.at,
        append.at,
        append.last_seq if append.snapshot is not None else 0,
        append.snapshot,
    )


def _insert(writer: sqlite3.Connection, statement: str, values: Iterable[tuple[Any, ...]]) -> None:
    # At every statement the driver lets go of the interpreter, wakes whoever waits for it, and waits to have it again:
    # a commit of a hundred steps would do so a thousand times, and last as long as the others have work.
    rows = list(values)
    done = 0
    for many in sql.SIZES:
        while len(rows) - done >= many:
            writer.execute(sql.repeated(statement, many), [*chain.from_iterable(rows[done : done + many])])
            done += many
