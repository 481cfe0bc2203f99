"""How the Redis store writes and reads its rows: a head of JSON, a line feed, and the body as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_core import to_json

from persistence.contract import (
    Append,
    ConversationRow,
    DeadLetterRow,
    EntryRow,
    InboxRow,
    MemoryRow,
    OperationRow,
    ResultRow,
    Row,
)
from persistence.damage import dead_letter

Argument = bytes | str | int

_LARGEST = 2**63


def append_arguments(append: Append) -> Iterable[Argument]:
    """Yield an append as the commit script takes it. Raises `ValueError` or `TypeError` for what cannot be stored."""
    if not 0 <= append.expected_seq < append.last_seq < _LARGEST:
        raise ValueError(f"sequence numbers {append.expected_seq} to {append.last_seq} are none")
    yield from (append.conversation_id, append.expected_seq, append.expected_seq + 1, append.last_seq, _int(append.at))
    yield from (append.entry, append.phase, int(append.unfinished))
    yield "" if append.oldest_open_seq is None else _int(append.oldest_open_seq)
    yield to_json(append.open_request_ids)
    yield int(append.progress)
    yield from _many([(append.user_id,)] if append.user_id is not None else [])
    yield from _many([(append.snapshot,)] if append.snapshot is not None else [])
    yield from _many(
        (row.message_id, to_json([row.message_id, row.request_id, row.fingerprint, row.seq])) for row in append.inbox
    )
    yield from _many((message_id, _int(seq)) for message_id, seq in append.replied)
    yield from _many(_result_arguments(row) for row in append.results)
    yield from _many(_memory_arguments(row, append.last_seq) for row in append.memory)
    yield from _many((request_id,) for request_id in append.forget)
    yield from _many(
        (
            _int(row.at),
            to_json(
                {
                    "conversation_id": append.conversation_id,
                    "request_id": row.request_id,
                    "node": row.node,
                    "agent": row.agent,
                    "attempt": row.attempt,
                    "error_type": row.error_type,
                    "error_class": row.error_class,
                    "message": row.message,
                    "at": row.at,
                    "retry_delay": row.retry_delay,
                }
            ),
        )
        for row in append.errors
    )


def row_arguments(rows: Sequence[Row]) -> Iterable[Argument]:
    """Yield the rows that ride along as the commit script takes them: logs, then dead letters."""
    logs: list[tuple[Argument, ...]] = []
    letters: list[tuple[Argument, ...]] = []
    for row in rows:
        if isinstance(row, DeadLetterRow):
            head = [_int(row.at), row.address, row.reason, row.kind]
            letters.append((_int(row.at), _pack(head, row.body)))
        elif isinstance(row, OperationRow):
            logs.append(("operations", _int(row.at), to_json(row)))
        else:
            logs.append(("metrics", _int(row.at), to_json(row)))
    yield from _many(logs)
    yield from _many(letters)


def entry_row(found: Any) -> EntryRow:
    """Return a journal entry; the script sends its fields as a list, the command as a dict."""
    number, fields = found
    if not isinstance(fields, dict):
        fields = dict(zip(fields[::2], fields[1::2], strict=True))
    return EntryRow(int(fields[b"first"]), int(number.partition(b"-")[0]), int(fields[b"at"]), fields[b"body"])


def result_row(packed: bytes) -> ResultRow:
    """Return a result."""
    (request, node, agent, attempt, duration, cached, key, expires), body = _unpack(packed)
    return ResultRow(request, node, agent, attempt, body, duration, cached, key, expires)


def memory_rows(found: Sequence[bytes], forgotten: Any) -> list[MemoryRow]:
    """Return memory rows by sequence number; `forgotten` tells up to which step the rows of a request are hidden."""
    pairs = forgotten.items() if isinstance(forgotten, dict) else zip(forgotten[::2], forgotten[1::2], strict=True)
    hidden = {request.decode(): int(seq) for request, seq in pairs}
    rows = []
    for packed in found:
        (seq, role, request, at, gone, written), text = _unpack(packed)
        gone = gone or (role != "note" and written <= hidden.get(request, 0))
        rows.append(MemoryRow(seq, role, request, text.decode(), at, gone))
    return sorted(rows, key=lambda row: (row.seq, row.role))


def inbox_row(found: bytes) -> InboxRow:
    """Return an accepted message."""
    _accepted, reply, rest = found.split(b" ", 2)
    message_id, request_id, fingerprint, seq = json.loads(rest)
    return InboxRow(message_id, request_id, fingerprint, seq, int(reply) if reply else None)


def conversation_row(found: Any) -> ConversationRow:
    """Return one line of the list."""
    name, phase, last_seq, unfinished, user, created, updated = found
    # One spoilt row must not hide all the others from a list: what cannot be read is shown as well as it can be.
    user_id = None if user is None else user.decode("utf-8", "replace")
    given = {"last_seq": last_seq, "created_at": created, "updated_at": updated}
    numbers = [int(number) if number and number.isdigit() else 0 for number in given.values()]
    spoilt = [field for field, number in given.items() if not (number and number.lstrip(b"-").isdigit())]
    spoilt += [field for field, stored in (("phase", phase), ("unfinished", unfinished)) if stored is None]
    return ConversationRow(
        name.decode("utf-8", "replace"),
        phase_name(phase),
        numbers[0],
        unfinished == b"1",
        user_id,
        numbers[1],
        numbers[2],
        f"not what was written: {', '.join(spoilt)}" if spoilt else "",
    )


def phase_name(stored: bytes | None) -> str:
    """Return a phase as it can be shown."""
    return "None" if stored is None else stored.decode("utf-8", "replace")


def letter_row(found: Any) -> DeadLetterRow:
    """Return a dead letter."""
    number, fields = found
    id_ = int(number.partition(b"-")[0])
    if not isinstance(fields, dict):
        fields = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        (at, address, reason, kind), body = _unpack(fields[b"letter"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return dead_letter(None, None, None, None, fields.get(b"letter", b""), id_)
    return dead_letter(at, address, reason, kind, body, id_)


def _result_arguments(row: ResultRow) -> tuple[Argument, ...]:
    # The script that looks for a cached result reads the last two by their place.
    head = [
        row.request_id,
        row.node,
        row.agent,
        row.attempt,
        row.duration_ms,
        row.cached,
        row.cache_key,
        row.expires_at,
    ]
    expires: Argument = "" if row.cache_key is None or row.expires_at is None else _int(row.expires_at)
    return row.request_id, row.node, _pack(head, row.body), row.cache_key or "", expires


def _memory_arguments(row: MemoryRow, written: int) -> tuple[Argument, ...]:
    head = [row.seq, row.role, row.request_id, row.at, row.forgotten, written]
    return "notes" if row.role == "note" else "said", _int(row.seq), row.role, _pack(head, row.text.encode())


def _many(rows: Iterable[tuple[Argument, ...]]) -> Iterable[Argument]:
    held = list(rows)
    yield len(held)
    for row in held:
        yield from row


def _pack(head: list[Any], body: bytes) -> bytes:
    return to_json(head) + b"\n" + body


def _unpack(packed: bytes) -> tuple[list[Any], bytes]:
    head, _, body = packed.partition(b"\n")
    return json.loads(head), body


def _int(value: int) -> int:
    """Return it only if it is a number: the script must not meet anything else half-way."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value
