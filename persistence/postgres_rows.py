"""What a batch writes, as columns for one statement per table, in the order in which the statements must run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_core import to_json

from persistence import postgres_statements as sql
from persistence.contract import Append, DeadLetterRow, MemoryRow, MetricRow, OperationRow

Row = OperationRow | MetricRow | DeadLetterRow
Statement = tuple[str, list[Any]]


def size(batch: Sequence[Append], rows: Sequence[Row]) -> int:
    """Return about how many bytes a commit sends."""
    total = sum(len(row.body) for row in rows if isinstance(row, DeadLetterRow))
    for append in batch:
        total += len(append.entry) + len(append.snapshot or b"")
        total += sum(len(row.body) for row in append.results) + sum(len(row.text) for row in append.memory)
    return total


def same_entry(append: Append) -> tuple[Any, ...]:
    """Return what tells a repeated step from another."""
    return (append.conversation_id, append.last_seq, append.expected_seq + 1, append.at, append.entry)


def columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Return rows as columns; nothing for no rows."""
    return [list(column) for column in zip(*rows, strict=True)]


def step_statements(appends: Sequence[Append]) -> Iterable[Statement]:
    """Yield what the steps write, leaving out the tables they do not touch.

    One statement changes a row once: what later steps of the batch do to the same row is settled here.
    """
    inbox: list[Sequence[Any]] = []
    errors: list[Sequence[Any]] = []
    replied: dict[tuple[str, str], int] = {}
    results: dict[tuple[str, str, str], Sequence[Any]] = {}
    for a in appends:
        key = a.conversation_id
        inbox.extend((key, row.message_id, row.request_id, row.fingerprint, row.seq, a.at) for row in a.inbox)
        replied.update({(key, message_id): seq for message_id, seq in a.replied})
        for row in a.results:
            results[key, row.request_id, row.node] = (
                row.agent,
                row.attempt,
                row.body,
                row.duration_ms,
                row.cached,
                row.cache_key,
                a.at,
                row.expires_at,
            )
        errors.extend(
            (
                row.at,
                key,
                row.request_id,
                row.node,
                row.agent,
                row.attempt,
                row.error_type,
                row.error_class,
                row.message,
                row.retry_delay,
            )
            for row in a.errors
        )
    gone, memories = _memory(appends)
    return _filled(
        (
            (sql.ENTRIES_OF, [same_entry(a) for a in appends]),
            (sql.STATES, _states(appends)),
            (sql.PROGRESS, [(key,) for key in {a.conversation_id: None for a in appends if a.progress}]),
            (sql.INBOX, inbox),
            (sql.REPLIED, [(*key, seq) for key, seq in replied.items()]),
            (sql.RESULTS_OF, [(*key, *values) for key, values in results.items()]),
            (sql.FORGET, gone),
            (sql.MEMORIES, memories),
            (sql.ERRORS, errors),
        )
    )


def row_statements(rows: Sequence[Row]) -> Iterable[Statement]:
    """Yield what rides along."""
    operations: list[OperationRow] = []
    metrics: list[Sequence[Any]] = []
    letters: list[Sequence[Any]] = []
    for row in rows:
        if isinstance(row, OperationRow):
            operations.append(row)
        elif isinstance(row, MetricRow):
            metrics.append((row.at, row.name, float(row.value), row.unit, row.conversation_id, row.agent))
        else:
            letters.append((row.at, row.address, row.reason, row.kind, row.body))
    if operations:
        yield _operations(operations)
    yield from _filled(((sql.METRICS, metrics), (sql.LETTERS, letters)))


_OPERATION = ("at", "event", "level", "conversation_id", "request_id", "fields")


def _operations(rows: list[OperationRow]) -> Statement:
    """Return them as one JSON text, in place of columns whose every value the driver takes in hand by itself."""
    body = to_json([{name: getattr(row, name) for name in _OPERATION} for row in rows], fallback=str)
    if b"\\u0000" not in body:
        return sql.OPERATIONS, [body.decode()]
    # The server can make no text of a NUL in JSON; in a column the driver writes it in another way.
    fields = [to_json(row.fields, fallback=str).decode() for row in rows]
    each = zip(rows, fields, strict=True)
    return sql.OPERATION_COLUMNS, columns(
        (row.at, row.event, row.level, row.conversation_id, row.request_id, text) for row, text in each
    )


def _filled(written: Iterable[tuple[str, Iterable[Sequence[Any]]]]) -> Iterable[Statement]:
    for statement, rows in written:
        values = columns(rows)
        if values:
            yield statement, values


def _states(appends: Sequence[Append]) -> Iterable[Sequence[Any]]:
    created: dict[str, int] = {}
    users: dict[str, str | None] = {}
    snapshots: dict[str, tuple[int, bytes | None]] = {}
    newest: dict[str, Append] = {}
    for a in appends:
        key = a.conversation_id
        newest[key] = a
        created.setdefault(key, a.at)
        users[key] = users.get(key) if a.user_id is None else a.user_id
        if a.snapshot is not None:
            snapshots[key] = (a.last_seq, a.snapshot)
    for key, a in newest.items():
        requests = to_json(a.open_request_ids).decode()
        state = (key, a.phase, a.last_seq, a.unfinished, a.oldest_open_seq, requests, users[key], created[key], a.at)
        yield (*state, *snapshots.get(key, (0, None)))


def _memory(appends: Sequence[Append]) -> tuple[list[Sequence[Any]], list[Sequence[Any]]]:
    """Return the requests whose stored rows are forgotten, and the new rows, some of them forgotten at once."""
    gone: dict[tuple[str, str], None] = {}
    said: dict[tuple[str, int, str], tuple[MemoryRow, bool]] = {}
    for a in appends:
        for row in a.memory:
            said[a.conversation_id, row.seq, row.role] = (row, row.forgotten)
        for request in a.forget:
            gone[a.conversation_id, request] = None
            for key, (row, _) in said.items():
                if key[0] == a.conversation_id and row.request_id == request and row.role != "note":
                    said[key] = (row, True)
    memories: list[Sequence[Any]] = [
        (*key, row.request_id, row.text, row.at, forgotten) for key, (row, forgotten) in said.items()
    ]
    return list(gone), memories
