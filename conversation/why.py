"""Reads a journal page by page and grows the trees of causes that somebody asked for.

Memory is bounded by one page of events and by the trees that are shown, however long the conversation is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from conversation.causes import Causes
from conversation.plan_view import newest_request
from messages.events import Journaled, MessageAccepted, MessageRefused, ReplySent

ReadPage = Callable[[int, int], Sequence[Journaled]]
"""(after, limit) -> whole steps with events above `after`, oldest first; empty at the end of the journal."""
PAGE: Final = 500
"""Events read at once."""


def why_request(read: ReadPage, last_seq: int, request_id: str | None) -> dict[str, Any] | None:
    """Return the tree of one request, of the newest that has begun when None; None when there is no such request.

    Control messages that came while it was the running one stand beside it.
    """
    first = last_seq
    while first > 0:
        before, first = first, max(0, first - PAGE)
        page = [event for event in read(first, before - first) if event.seq <= before]
        if request_id is None:
            request_id = newest_request(page) or next((e.request_id for e in page if e.type == "message.refused"), None)
        begun = next((e.seq for e in page if _begins(e) and e.request_id == request_id), None)
        if begun is not None:
            return _tree(read, begun, request_id)
        if not page or page[0].seq > first + 1:
            return None  # behind a gap there is nothing: retention has cut it, or the row says too much
    return None


def why_all(read: ReadPage, after: int, limit: int) -> dict[str, Any]:
    """Return the trees of the next `limit` messages above sequence number `after`, and as `next` where to go on.

    What happened while nothing was running (a pause, a resume) counts as one too.
    """
    causes = Causes()
    chosen: set[str] = set()
    idle = 0
    """Control messages that belong to no request."""
    of_idle = False
    """Whether what belongs to no request belongs to one that was chosen."""
    last = 0
    more = False
    for event in _forwards(read, after):
        if _begins(event):
            if len(chosen) + idle >= limit or causes.full:
                more = True
                of_idle = of_idle and event.request_id is not None
                continue
            last = event.seq
            if event.request_id is None:
                idle += 1
                of_idle = True
            else:
                chosen.add(event.request_id)
        elif more and event.request_id not in chosen and not causes.unanswered():
            break  # what belongs to a reply is in the same step
        if event.request_id in chosen or (event.request_id is None and of_idle):
            causes.add(event)
    return _answer(causes, last if more else None)


def _tree(read: ReadPage, begun: int, request_id: str | None) -> dict[str, Any]:
    causes = Causes()
    answered = False
    for event in _forwards(read, begun - 1):
        if event.request_id == request_id:
            causes.add(event)
            answered = answered or isinstance(event, (ReplySent, MessageRefused))
        elif answered:
            break  # what belongs to a reply is in the same step
    return _answer(causes, None)


def _forwards(read: ReadPage, after: int) -> Iterator[Journaled]:
    while page := read(after, PAGE):
        yield from page
        after = page[-1].seq


def _begins(event: Journaled) -> bool:
    """Whether something of its own begins: a message, or control while nothing is running."""
    return isinstance(event, (MessageAccepted, MessageRefused)) or (
        event.request_id is None and event.type.startswith("conversation.")
    )


def _answer(causes: Causes, following: int | None) -> dict[str, Any]:
    return {"roots": causes.roots, "left_out": causes.left_out, "next": following}
