"""The journal as people and clients read it: events with their texts and results."""

from __future__ import annotations

from messages.events import Journaled
from persistence.contract import Store
from persistence.entry import decode, hydrate


def read_events(store: Store, conversation_id: str, *, after: int, limit: int) -> list[Journaled]:
    """Return at most `limit` events with a sequence number above `after`, oldest first.

    Raises `CorruptEntry` and what the store raises.
    """
    rows = store.entries(conversation_id, after=after, limit=limit)
    bare = [event for row in rows for event in decode(conversation_id, row) if event.seq > after][:limit]
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
