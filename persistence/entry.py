"""Events to stored bytes and back: one entry holds the events of one step.

What the row says already (conversation, sequence numbers, time) is left out, and so are texts, results and data, which
are stored once beside the journal. The body is JSON, so that a person with a database prompt can read it; a checksum
stands before it, because a database answers happily from a page that was overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from messages.events import JOURNALED, Journaled, MessageAccepted, NodeSucceeded, ReplySent
from persistence.contract import EntryRow, MemoryRow, ResultRow

_BY_ROW = frozenset({"seq", "at", "conversation_id", "request_id"})
_ELSEWHERE: dict[str, frozenset[str]] = {
    "message.accepted": _BY_ROW | {"text"},
    "node.succeeded": _BY_ROW | {"result"},
    "reply.sent": _BY_ROW | {"text", "data"},
}
_DIGITS = 8
"""Hexadecimal digits of the CRC-32 before the body."""


class CorruptEntry(ValueError):
    """A stored step is not what was written: its bytes changed, or it is no step of this version."""

    def __init__(self, conversation_id: str, seq: int, reason: str) -> None:
        super().__init__(f"journal of {conversation_id} at {seq}: {reason}")
        self.conversation_id = conversation_id
        self.seq = seq
        self.reason = reason


def encode(events: Sequence[Journaled]) -> bytes:
    """Return the entry of one step."""
    request_id = events[0].request_id
    body = to_json({"request_id": request_id, "events": [_bare(event, request_id) for event in events]})
    return b"%08x" % crc32(body) + body


def decode(conversation_id: str, row: EntryRow) -> list[Journaled]:
    """Return the events of an entry; texts, results and data are absent. Raises `CorruptEntry`."""
    body = row.body[_DIGITS:]
    if b"%08x" % crc32(body) != row.body[:_DIGITS]:
        raise CorruptEntry(conversation_id, row.first_seq, "the checksum does not match")
    try:
        entry = from_json(body)
        events = [
            JOURNALED.validate_json(
                to_json(
                    {
                        "request_id": entry["request_id"],
                        **fields,
                        "seq": row.first_seq + index,
                        "at": row.at,
                        "conversation_id": conversation_id,
                    }
                )
            )
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
    """Return the events with texts, results and data filled in, and (request, node) of results that are not there."""
    bodies = {(row.request_id, row.node): row.body for row in results}
    texts = {row.seq: row.text for row in memory if row.role != "note"}
    missing: set[tuple[str, str]] = set()
    full: list[Journaled] = []
    for event in events:
        if isinstance(event, (MessageAccepted, ReplySent)):
            changes: dict[str, Any] = {"text": texts.get(event.seq, event.text)}
            if isinstance(event, ReplySent):
                keys = ((name, bodies.get((event.request_id or "", name))) for name in event.nodes)
                changes["data"] = {name: from_json(body) for name, body in keys if body is not None}
            full.append(event.model_copy(update=changes))
        elif isinstance(event, NodeSucceeded):
            key = (event.request_id or "", event.node)
            if key in bodies:
                full.append(event.model_copy(update={"result": from_json(bodies[key])}))
            else:
                missing.add(key)
                full.append(event)
        else:
            full.append(event)
    return full, frozenset(missing)


def _bare(event: Journaled, request_id: str | None) -> dict[str, Any]:
    left_out = _ELSEWHERE.get(event.type, _BY_ROW)
    fields = {key: value for key, value in event.__dict__.items() if value is not None and key not in left_out}
    for ours, theirs in (("from_phase", "from"), ("to_phase", "to")):
        if ours in fields:
            fields[theirs] = fields.pop(ours)
    if event.request_id != request_id:
        fields["request_id"] = event.request_id
    return fields
