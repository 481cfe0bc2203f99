"""What a batch writes, as the arguments of the server's function of a commit: JSON by table, and bodies beside it."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Any, Final

from pydantic_core import to_json

from persistence.contract import Append, DeadLetterRow, MemoryRow, MetricRow, OperationRow, Row

Fields = dict[str, Any]
Argument = bytes | None

FORMATS: Final = (0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1)
"""How each argument of the function is written: 1 where it is a `bytea[]` in binary form."""
_OF_STEPS: Final = 10
"""Arguments that come from the steps; those after them are of the rows that ride along."""
_BYTEA: Final = 17
_ARRAY: Final = struct.Struct(">iiiii")
_LENGTH: Final = struct.Struct(">i")
_NULL: Final = _LENGTH.pack(-1)
_ESCAPE: Final = re.compile(rb"\\(?:u000([01])|.)")


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


def columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return rows as columns; nothing for no rows."""
    return [list(column) for column in zip(*rows, strict=True)]


def arguments(appends: Sequence[Append], rows: Sequence[Row], assumed: dict[str, int]) -> list[Argument]:
    """Return all arguments after the first four. Raises `ValueError` for a text that is none in UTF-8."""
    return [_assumed(assumed), *_of_steps(appends), *_of_rows(rows)]


def _assumed(newest: dict[str, int]) -> Argument:
    return as_json([{"id": key, "seq": seq} for key, seq in newest.items()])


def _of_steps(appends: Sequence[Append]) -> list[Argument]:
    """One statement changes a row once: what later steps of the batch do to the same row is settled here."""
    if not appends:
        return [None] * _OF_STEPS
    inbox: list[Fields] = []
    errors: list[Fields] = []
    replied: dict[tuple[str, str], int] = {}
    results: dict[tuple[str, str, str], tuple[Fields, bytes]] = {}
    for a in appends:
        key = a.conversation_id
        inbox += [
            {
                "conversation_id": key,
                "message_id": row.message_id,
                "request_id": row.request_id,
                "fingerprint": row.fingerprint,
                "seq": row.seq,
                "at": a.at,
            }
            for row in a.inbox
        ]
        for message_id, seq in a.replied:
            replied[key, message_id] = seq
        for row in a.results:
            fields = {
                "conversation_id": key,
                "request_id": row.request_id,
                "node_id": row.node,
                "agent": row.agent,
                "attempt": row.attempt,
                "duration_ms": row.duration_ms,
                "cached": row.cached,
                "cache_key": row.cache_key,
                "created_at": a.at,
                "expires_at": row.expires_at,
            }
            results[key, row.request_id, row.node] = fields, row.body
        errors += [
            {
                "at": row.at,
                "conversation_id": key,
                "request_id": row.request_id,
                "node_id": row.node,
                "agent": row.agent,
                "attempt": row.attempt,
                "error_type": row.error_type,
                "error_class": row.error_class,
                "message": row.message,
                "retry_delay": row.retry_delay,
            }
            for row in a.errors
        ]
    forget, memories = _memory(appends)
    steps, snapshots = _steps(appends)
    return [
        as_json(steps),
        byte_array([a.entry for a in appends]),
        byte_array(snapshots),
        as_json(inbox),
        as_json(
            [{"conversation_id": key, "message_id": name, "reply_seq": seq} for (key, name), seq in replied.items()]
        ),
        as_json([fields for fields, _ in results.values()]),
        byte_array([body for _, body in results.values()]),
        as_json(forget),
        as_json(memories),
        as_json(errors),
    ]


def _of_rows(rows: Sequence[Row]) -> list[Argument]:
    operations: list[Fields] = []
    metrics: list[Fields] = []
    letters: list[DeadLetterRow] = []
    for row in rows:
        if isinstance(row, OperationRow):
            operations.append(row._asdict())
        elif isinstance(row, MetricRow):
            metrics.append(
                {
                    "at": row.at,
                    "name": row.name,
                    "value": float(row.value),
                    "unit": row.unit,
                    "conversation_id": row.conversation_id,
                    "agent": row.agent,
                }
            )
        else:
            letters.append(row)
    return [
        as_json(operations),
        as_json(metrics),
        as_json([{"at": row.at, "address": row.address, "reason": row.reason, "kind": row.kind} for row in letters]),
        byte_array([row.body for row in letters]),
    ]


def _steps(appends: Sequence[Append]) -> tuple[list[Fields], list[bytes | None]]:
    """Return the entries of the journal, with the newest of a conversation the row of its state, and snapshots."""
    created: dict[str, int] = {}
    users: dict[str, str | None] = {}
    taken: dict[str, tuple[int, bytes]] = {}
    newest: dict[str, int] = {}
    steps: list[Fields] = []
    snapshots: list[bytes | None] = [None] * len(appends)
    for number, a in enumerate(appends):
        key = a.conversation_id
        newest[key] = number
        created.setdefault(key, a.at)
        if a.user_id is not None:
            users[key] = a.user_id
        if a.snapshot is not None:
            taken[key] = a.last_seq, a.snapshot
        steps.append({"conversation_id": key, "last_seq": a.last_seq, "first_seq": a.expected_seq + 1, "at": a.at})
    progress = {a.conversation_id for a in appends if a.progress}
    for key, number in newest.items():
        a, step = appends[number], steps[number]
        snapshot_seq, snapshots[number] = taken.get(key, (0, None))
        step["newest"] = True
        step["phase"] = a.phase
        step["unfinished"] = a.unfinished
        step["oldest_open_seq"] = a.oldest_open_seq
        step["open_request_ids"] = to_json(a.open_request_ids).decode() if a.open_request_ids else "[]"
        step["progress"] = key in progress
        step["user_id"] = users.get(key)
        step["created_at"] = created[key]
        step["snapshot_seq"] = snapshot_seq
    return steps, snapshots


def _memory(appends: Sequence[Append]) -> tuple[list[Fields], list[Fields]]:
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
    memories = [
        {
            "conversation_id": key,
            "seq": seq,
            "role": role,
            "request_id": row.request_id,
            "text": row.text,
            "at": row.at,
            "forgotten": forgotten,
        }
        for (key, seq, role), (row, forgotten) in said.items()
    ]
    return [{"conversation_id": key, "request_id": request} for key, request in gone], memories


def as_json(rows: Sequence[Fields]) -> Argument:
    """Return rows as the server reads them, None for none; texts as persistence/postgres_connection.py stores them."""
    if not rows:
        return None
    body = to_json(rows, inf_nan_mode="strings")
    if b"\\u0000" in body or b"\\u0001" in body:
        return _ESCAPE.sub(_storable, body)
    return body


def _storable(escape: re.Match[bytes]) -> bytes:
    """Write a NUL as U+0001 U+0001, and a U+0001 as U+0001 U+0002; leave any other escape."""
    match escape[1]:
        case b"0":
            return b"\\u0001\\u0001"
        case b"1":
            return b"\\u0001\\u0002"
        case _:
            return escape[0]


def byte_array(bodies: Sequence[bytes | None]) -> Argument:
    """Return a `bytea[]` in the server's binary form; None for no bodies."""
    if not bodies:
        return None
    parts = [_ARRAY.pack(1, None in bodies, _BYTEA, len(bodies), 1)]
    for body in bodies:
        if body is None:
            parts.append(_NULL)
        else:
            parts.append(_LENGTH.pack(len(body)))
            parts.append(body)
    return b"".join(parts)
