"""What stands beside the journal, read with suspicion: a row may have been changed by hand, or by a failing disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from math import floor
from typing import Any

from persistence.contract import ConversationRow, DeadLetterRow, MemoryRow
from persistence.entry import CorruptEntry

_LARGEST = 2**63 - 1


def read_ids(stored: Any) -> tuple[list[str], str]:
    """Return the open request ids of a conversation's row, or none and what is wrong with them."""
    try:
        ids = json.loads(stored)
    except (ValueError, TypeError, RecursionError) as error:
        return [], f"open_request_ids is no JSON: {error}"
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        return [], "open_request_ids is no list of ids"
    return ids, ""


def memory_rows(conversation_id: str, rows: Iterable[Any]) -> Iterator[MemoryRow]:
    """Return what was said, from the columns of a row. Raises `CorruptEntry` for one that nobody said."""
    # A column takes what it is given: a row that was changed by hand can hold anything.
    for seq, role, request_id, text, at, forgotten in rows:
        words, numbers = (role, request_id, text), (seq, at)
        if not all(isinstance(one, str) for one in words) or not all(isinstance(one, int) for one in numbers):
            raise CorruptEntry(conversation_id, seq, f"what was said at {seq!r} is no text: {type(text).__name__}")
        yield MemoryRow(seq, role, request_id, text, at, bool(forgotten))


def conversation_row(row: Any) -> ConversationRow:
    """Return one line of the list as it can be shown: one spoilt row must not hide all the others."""
    conversation_id, phase, last_seq, unfinished, user_id, created, updated = row
    texts = {"conversation_id": conversation_id, "phase": phase, "user_id": "" if user_id is None else user_id}
    numbers = {"last_seq": last_seq, "created_at": created, "updated_at": updated}
    spoilt = [name for name, text in texts.items() if not isinstance(text, str)]
    spoilt += [name for name, number in numbers.items() if not isinstance(number, int)]
    return ConversationRow(
        str(conversation_id),
        str(phase),
        _number(last_seq),
        bool(unfinished),
        None if user_id is None else str(user_id),
        _number(created),
        _number(updated),
        f"not what was written: {', '.join(spoilt)}" if spoilt else "",
    )


def missing_place(conversation_id: str) -> CorruptEntry:
    """Return what is wrong with a conversation that has a journal, but no row: it is no new one."""
    return CorruptEntry(conversation_id, 0, "its row is missing, but there is more of the conversation")


def _number(stored: Any) -> int:
    # A fraction is cut off downwards, so that the next page of a list goes on behind it.
    if isinstance(stored, float):
        return floor(stored) if abs(stored) <= _LARGEST else _LARGEST if stored > 0 else -_LARGEST
    return stored if isinstance(stored, int) else 0


def dead_letter(at: Any, address: Any, reason: Any, kind: Any, body: Any, number: int) -> DeadLetterRow:
    """Return a dead letter as it can be shown: one that was spoilt hides neither itself nor the others."""
    words = (address, reason, kind)
    shown = ["" if word is None else word if isinstance(word, str) else repr(word) for word in words]
    whole = isinstance(at, int) and isinstance(body, bytes) and all(isinstance(word, str) for word in words)
    return DeadLetterRow(
        at=at if isinstance(at, int) else 0,
        address=shown[0],
        reason=shown[1],
        kind=shown[2],
        body=body if isinstance(body, bytes) else b"" if body is None else str(body).encode("utf-8", "replace"),
        id=number,
        damaged="" if whole else "it is not what was written",
    )
