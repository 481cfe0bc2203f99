"""Events to stored bytes and back: one entry holds the events of one step.

What the row says already (conversation, sequence numbers, time) is left out, and so are texts, results and data, which
are stored once beside the journal, and fields that have their default: so the defaults in messages/events.py are part
of the stored form and may not change (tests/persistence/test_persistence_stored_form.py).

The body is JSON, so that a person with a database prompt can read it; a checksum stands before it, because a database
answers happily from a page that was overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

from pydantic import ValidationError
from pydantic_core import PydanticUndefined, from_json, to_json

from messages.base import fields_of
from messages.events import JOURNALED, Journaled, MessageAccepted, NodeSucceeded, ReplySent
from persistence.contract import EntryRow, MemoryRow, ResultRow

_BY_ROW = frozenset({"seq", "conversation_id"})
_ELSEWHERE: dict[str, frozenset[str]] = {
    "message.accepted": _BY_ROW | {"text"},
    "node.succeeded": _BY_ROW | {"result"},
    "reply.sent": _BY_ROW | {"text", "data"},
}
_NAMES = {"from_phase": "from", "to_phase": "to"}
"""Fields that have another name outside Python."""
_KNOWN = frozenset({"request_id", "at", "type"})
_NO_DEFAULT = object()
_STORED: dict[type[Journaled], tuple[tuple[str, str, Any], ...]] = {}
"""Of each event class: field, its stored name, its default; filled as classes are met."""
_DIGITS = 8
"""Hexadecimal digits of the CRC-32 before the body."""


class CorruptEntry(ValueError):
    """A stored step is not what was written: its bytes changed, or it is no step of this version."""

    def __init__(self, conversation_id: str, seq: int, reason: str) -> None:
        super().__init__(f"journal of {conversation_id} at {seq}: {reason}")
        self.conversation_id = conversation_id
        self.seq = seq if isinstance(seq, int) else 0  # it goes into answers, whatever a row says of itself
        self.reason = reason


def encode(events: Sequence[Journaled]) -> bytes:
    """Return the entry of one step, whose row says the sequence numbers and the time of the last event.

    Raises `ValueError` for sequence numbers with a hole: such a step could not be read back.
    """
    first, last = events[0], events[-1]
    request_id, at, seq = first.request_id, last.at, first.seq
    bare: list[dict[str, Any]] = []
    for event in events:
        values = event.__dict__
        if values["seq"] != seq:
            raise ValueError(f"{first.conversation_id}: the sequence numbers of a step must follow each other")
        seq += 1
        fields: dict[str, Any] = {"type": values["type"]}
        # What neither the row, nor the entry, nor the event's class says already.
        for key, name, default in _STORED.get(type(event)) or _stored(type(event)):
            value = values[key]
            if value is not default and value != default:
                fields[name] = value
        if values["request_id"] != request_id:
            fields["request_id"] = values["request_id"]
        if values["at"] != at:
            fields["at"] = values["at"]
        bare.append(fields)
    body = to_json({"request_id": request_id, "events": bare})
    return b"%08x" % crc32(body) + body


def decode(conversation_id: str, row: EntryRow) -> list[Journaled]:
    """Return the events of an entry; texts, results and data are absent. Raises `CorruptEntry`."""
    stored = row.body
    # A row that was changed by hand can hold a text or a number instead of bytes.
    if not isinstance(stored, bytes) or b"%08x" % crc32(stored[_DIGITS:]) != stored[:_DIGITS]:
        raise CorruptEntry(conversation_id, row.first_seq, "the checksum does not match")
    try:
        entry = from_json(stored[_DIGITS:])
        known = {"request_id": entry["request_id"], "at": row.at}
        place = {"conversation_id": conversation_id}
        events = [
            JOURNALED.validate_json(to_json({**known, **fields, **place, "seq": row.first_seq + index}))
            for index, fields in enumerate(entry["events"])
        ]
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise CorruptEntry(conversation_id, row.first_seq, f"not a step of this version: {error}") from None
    if not events or events[-1].seq != row.last_seq:
        raise CorruptEntry(conversation_id, row.first_seq, f"holds {len(events)} events, the row says otherwise")
    return events


def hydrate(
    events: Iterable[Journaled], results: Iterable[ResultRow], memory: Iterable[MemoryRow]
) -> tuple[list[Journaled], frozenset[tuple[str, str]]]:
    """Return the events with texts, results and data filled in, and (request, node) of results that are not there.

    A success without its result keeps None, which may be a result too: the second value tells them apart. Raises
    `CorruptEntry` for a result that is no JSON.
    """
    bodies = {(row.request_id, row.node): row.body for row in results}
    texts = {row.seq: row.text for row in memory if row.role != "note"}
    missing: set[tuple[str, str]] = set()
    full: list[Journaled] = []
    for event in events:
        if isinstance(event, (MessageAccepted, ReplySent)):
            changes: dict[str, Any] = {"text": texts.get(event.seq, event.text)}
            if isinstance(event, ReplySent):
                keys = ((name, bodies.get((event.request_id or "", name))) for name in event.nodes)
                changes["data"] = {name: _result(event, name, body) for name, body in keys if body is not None}
            full.append(event.changed(**changes))
        elif isinstance(event, NodeSucceeded):
            key = (event.request_id or "", event.node)
            if key in bodies:
                full.append(event.changed(result=_result(event, event.node, bodies[key])))
            else:
                missing.add(key)
                full.append(event)
        else:
            full.append(event)
    return full, frozenset(missing)


def _result(event: Journaled, node: str, body: bytes) -> Any:
    try:
        return from_json(body)
    except (ValueError, TypeError) as error:
        reason = f"the result of {node} is not what was written: {error}"
        raise CorruptEntry(event.conversation_id, event.seq, reason) from None


def _stored(kind: type[Journaled]) -> tuple[tuple[str, str, Any], ...]:
    left_out = _ELSEWHERE.get(fields_of(kind)["type"].default, _BY_ROW) | _KNOWN
    stored = tuple(
        (key, _NAMES.get(key, key), _NO_DEFAULT if field.default is PydanticUndefined else field.default)
        for key, field in fields_of(kind).items()
        if key not in left_out
    )
    _STORED[kind] = stored
    return stored
