"""The journal as people and clients read it: events with their texts and results."""

from __future__ import annotations

from messages.events import ConversationQuarantined, ConversationResumed, Journaled
from persistence.contract import ConversationRow, Store
from persistence.entry import CorruptEntry, decode, hydrate

_LATELY = 50
"""Events among which the quarantine of a paused conversation is looked for: what came after it only waits."""


def read_events(store: Store, conversation_id: str, *, after: int, limit: int) -> list[Journaled]:
    """Return at most `limit` events with a sequence number above `after`, oldest first.

    Fewer when a step cannot be read: those before it. Raises `CorruptEntry` when it is the first, and what the store
    raises.
    """
    bare: list[Journaled] = []
    for row in store.entries(conversation_id, after=after, limit=limit):
        try:
            bare.extend(event for event in decode(conversation_id, row) if event.seq > after)
        except CorruptEntry:
            if not bare:
                raise
            break
    bare = bare[:limit]
    if not bare:
        return []
    needed = {event.request_id for event in bare if event.type in ("node.succeeded", "reply.sent") and event.request_id}
    results = store.results(conversation_id, sorted(needed)) if needed else []
    memory = store.memory(conversation_id, first_seq=bare[0].seq, last_seq=bare[-1].seq)
    return hydrate(bare, results, memory)[0]


def read_bare(store: Store, conversation_id: str, after: int, limit: int) -> list[Journaled]:
    """Return whole steps with events above `after`, at least `limit` events if there are as many.

    Texts are filled in, results are not: for those who ask what happened, not what came out. Raises as `read_events`.
    """
    rows = store.entries(conversation_id, after=after, limit=limit)
    bare = [event for row in rows for event in decode(conversation_id, row) if event.seq > after]
    said = [event.seq for event in bare if event.type in ("message.accepted", "reply.sent")]
    if not said:
        return bare
    return hydrate(bare, (), store.memory(conversation_id, first_seq=said[0], last_seq=said[-1]))[0]


def quarantine_of(store: Store, row: ConversationRow) -> str | None:
    """Return why this conversation is quarantined, or None; what cannot be read says nothing."""
    if row.phase != "paused":
        return None
    try:
        lately = store.entries(row.conversation_id, after=max(0, row.last_seq - _LATELY), limit=_LATELY)
    except CorruptEntry:
        return None
    for entry in reversed(lately):
        try:
            events = decode(row.conversation_id, entry)
        except CorruptEntry:
            continue
        for event in reversed(events):
            if isinstance(event, ConversationQuarantined):
                return event.reason
            if isinstance(event, ConversationResumed):
                return None
    return None
