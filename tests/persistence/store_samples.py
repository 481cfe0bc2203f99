"""Appends for the store tests: one step of one conversation, with everything a step can carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from persistence.contract import Append, Committed, ErrorRow, InboxRow, MemoryRow, Outcome, ResultRow, Store


def step(conversation_id: str = "c1", after: int = 0, events: int = 1, **fields: Any) -> Append:
    """Return a step of `events` events that follows on `after`."""
    values: dict[str, Any] = {
        "conversation_id": conversation_id,
        "expected_seq": after,
        "last_seq": after + events,
        "at": 1_000 + after,
        "entry": f"entry {conversation_id} {after + events}".encode(),
        "phase": "idle",
        "unfinished": False,
        "oldest_open_seq": None,
    }
    return Append(**(values | fields))


def full_step(conversation_id: str = "c1", after: int = 0, **fields: Any) -> Append:
    """Return a step that writes into every table a step can write into."""
    seq = after + 1
    values: dict[str, Any] = {
        "phase": "executing",
        "unfinished": True,
        "oldest_open_seq": seq,
        "open_request_ids": (f"r{seq}",),
        "user_id": "u1",
        "inbox": (InboxRow(f"m{seq}", f"r{seq}", "print", seq),),
        "results": (result(f"r{seq}"),),
        "memory": (said(seq),),
        "snapshot": b"snapshot %d" % seq,
        "errors": (ErrorRow(f"r{seq}", "n", "a", 1, "ValueError", "permanent", "no", 1_000 + after),),
    }
    return step(conversation_id, after, **(values | fields))


def said(seq: int, text: str | None = None, *, role: str = "user", request: str | None = None) -> MemoryRow:
    """Return something said."""
    return MemoryRow(seq, role, request or f"r{seq}", f"text {seq}" if text is None else text, 1_000 + seq)


def result(request_id: str, node: str = "n", *, body: bytes = b'{"x":1}', **fields: Any) -> ResultRow:
    """Return an agent's result."""
    return ResultRow(request_id, node, "agent", 1, body, 1.5, **fields)


def commit(store: Store, *batch: Append, rows: Sequence[Any] = ()) -> list[Outcome]:
    """Commit, and insist that all of it was taken."""
    outcomes = store.commit(batch, rows)
    assert outcomes == [Committed(append.conversation_id, append.last_seq) for append in batch]
    return outcomes


def fill(store: Store, conversation_id: str = "c1", turns: int = 3, **last: Any) -> int:
    """Write turns of a message and a reply each; return the newest sequence number."""
    batch = []
    for turn in range(turns):
        asked, answered = 2 * turn + 1, 2 * turn + 2
        request = f"r{asked}"
        batch.append(
            step(
                conversation_id,
                asked - 1,
                events=2,
                inbox=(InboxRow(f"m{asked}", request, "print", asked),),
                replied=((f"m{asked}", answered),),
                results=(result(request),),
                memory=(said(asked, request=request), said(answered, role="assistant", request=request)),
                **(last if turn == turns - 1 else {}),
            )
        )
    commit(store, *batch)
    return 2 * turns
