"""The route of a conversation's events: a page of the journal as JSON, or a stream."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.answers import json_answer
from gateway.doorway import Doorway
from gateway.openapi import ConversationPath, answers
from gateway.problems import Problem
from gateway.query import MAX_SEQ, document, one_of, read_query, whole
from gateway.sse import Encoder, EventStream, unknown_conversation
from messages.events import to_public

AFTER = whole("after", 0, 0, MAX_SEQ, "Sequence number after which to begin.")
LIMIT = whole("limit", 100, 1, 1_000, "Most events of one page; a stream has no end and takes none.")
FROM = one_of("from", ("now",), "A stream begins with what comes next.")

_ANSWERS = answers(
    {200: "A stream of events. With `after` or `limit`, or `Accept: application/json`: `events`, `next`."}
)
_ANSWERS[200]["content"]["text/event-stream"] = {"schema": {"type": "string"}}


def event_routes(door: Doorway) -> APIRouter:
    """Return the routes over this door."""
    routes = APIRouter(prefix="/api/v1/conversations/{conversation_id}", tags=["events"])
    encoder = Encoder()

    @routes.get(
        "/events",
        responses=_ANSWERS,
        openapi_extra={"parameters": document((AFTER, LIMIT, FROM))},
    )
    async def events(conversation_id: ConversationPath, request: Request) -> Response:
        if _asks_for_stream(request):
            return EventStream(door, encoder, conversation_id, _beginning(request))
        query = read_query(request.query_params, (AFTER, LIMIT))
        limit = query["limit"]
        page = await door.read(door.router.events, conversation_id, query["after"], limit + 1)
        if page is None:
            raise unknown_conversation(conversation_id)
        following = page[limit - 1].seq if len(page) > limit else None
        if page and following is None and await _stopped_short(door, conversation_id, page[-1].seq):
            following = page[-1].seq
        return json_answer({"events": [to_public(event) for event in page[:limit]], "next": following})

    return routes


def _asks_for_stream(request: Request) -> bool:
    """Return whether to stream; who accepts either form and names a page gets that page."""
    accepted = request.headers.get("accept", "")
    if "text/event-stream" in accepted:
        return True
    if "application/json" in accepted:
        return False
    return FROM.name in request.query_params or not {AFTER.name, LIMIT.name} & set(request.query_params)


async def _stopped_short(door: Doorway, conversation_id: str, last: int) -> bool:
    """Return whether a page ended before something that cannot be read: who asks for what is `next` is told."""
    try:
        await door.read(door.router.events, conversation_id, last, 1)
    except Problem as problem:
        return problem.code == "unreadable"
    return False


def _beginning(request: Request) -> int | None:
    """Return the sequence number a stream begins after; None for what comes next.

    `Last-Event-ID` wins: a browser that reconnects sends the address it began with.
    """
    query = read_query(request.query_params, (AFTER, FROM))
    last = request.headers.get("last-event-id", "").strip()
    if last:
        if not re.fullmatch(r"[0-9]{1,18}", last):
            raise Problem("invalid_field", f"Last-Event-ID is {last[:60]!r}; it must be a seq", field="Last-Event-ID")
        return int(last)
    if query["from"] is None:
        return int(query["after"])
    if "after" in request.query_params:
        raise Problem("invalid_field", "after and from=now contradict each other", field="from")
    return None
