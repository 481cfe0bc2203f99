"""Routes that look at conversations: the list, one, its messages, its plan, and why things came about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.answers import json_answer
from gateway.doorway import Doorway
from gateway.openapi import ConversationPath, answers
from gateway.problems import Problem
from gateway.query import MAX_SEQ, cursor, document, encode_cursor, matching, one_of, read_query, whole
from gateway.sse import unknown_conversation
from messages.events import rfc3339
from persistence.contract import ConversationRow

MAX_PAGE = 1_000
LIMIT = whole("limit", 100, 1, MAX_PAGE, "Most rows of one page.")
ROOTS = whole("limit", 20, 1, 100, "Most trees of one page; only with `after`.")
SINCE = replace(
    whole("after", 0, 0, MAX_SEQ, "The whole conversation, messages after this `seq`: 0, then `next` of the page."),
    default=None,
)
ASKED = matching("request", r"[!-~]{1,128}", "a request id", "Only this request; the newest when absent.")
AFTER = whole("after", 0, 0, MAX_SEQ, "Sequence number after which to begin: `next` of the page before.")


def conversation_routes(door: Doorway) -> APIRouter:
    """Return the routes over this door."""
    routes = APIRouter(prefix="/api/v1/conversations", tags=["conversations"])
    meaning = "Only conversations in this phase."
    phase = (
        one_of("phase", door.phases, meaning)
        if door.phases
        else matching("phase", r"[a-z_]{1,40}", "the name of a phase", meaning)
    )
    page = (phase, LIMIT, cursor("cursor", "Where to go on: `next` of the page before."))

    @routes.get(
        "",
        responses=answers({200: "`conversations`, newest update first, and `next`: null at the end."}),
        openapi_extra={"parameters": document(page)},
    )
    async def conversations(request: Request) -> Response:
        query = read_query(request.query_params, page)
        limit = query["limit"]
        # One more than asked for tells whether there is a next page.
        rows = await door.read(door.router.conversations, phase=query["phase"], after=query["cursor"], limit=limit + 1)
        more = len(rows) > limit
        shown = rows[:limit]
        following = encode_cursor(shown[-1].updated_at, shown[-1].conversation_id) if more else None
        return json_answer({"conversations": [conversation_line(row) for row in shown], "next": following})

    @routes.get(
        "/{conversation_id}",
        responses=answers({200: "The conversation and its newest `request`: plan, states, reply."}),
    )
    async def conversation(conversation_id: ConversationPath, request: Request) -> Response:
        read_query(request.query_params, ())
        found = await door.read(door.router.conversation, conversation_id)
        if found is None:
            raise unknown_conversation(conversation_id)
        return json_answer(found)

    @routes.get(
        "/{conversation_id}/messages",
        responses=answers({200: "`messages`, oldest first, and `next`: null at the end."}),
        openapi_extra={"parameters": document((AFTER, LIMIT))},
    )
    async def messages(conversation_id: ConversationPath, request: Request) -> Response:
        query = read_query(request.query_params, (AFTER, LIMIT))
        limit = query["limit"]
        rows = await door.read(door.router.messages, conversation_id, query["after"], limit + 1)
        if rows is None:
            raise unknown_conversation(conversation_id)
        following = rows[limit - 1]["seq"] if len(rows) > limit else None
        return json_answer({"messages": list(rows[:limit]), "next": following})

    @routes.get(
        "/{conversation_id}/plan", responses=answers({200: "The newest request's plan, each node with its state."})
    )
    async def plan(conversation_id: ConversationPath, request: Request) -> Response:
        read_query(request.query_params, ())
        found = await door.read(door.router.plan, conversation_id)
        if found is None:
            raise unknown_conversation(conversation_id)
        return json_answer(found)

    _why_route(routes, door)
    return routes


def _why_route(routes: APIRouter, door: Doorway) -> None:
    @routes.get(
        "/{conversation_id}/why",
        responses=answers(
            {
                200: "`roots`: trees of causes, each item with `kind`, `seq`, `at`, `after_ms`, `cause`, `title` and "
                "`children`; `left_out`: events beyond the bound; `next`: null at the end."
            }
        ),
        openapi_extra={"parameters": document((ASKED, SINCE, ROOTS))},
    )
    async def why(conversation_id: ConversationPath, request: Request) -> Response:
        query = read_query(request.query_params, (ASKED, SINCE, ROOTS))
        asked, after = query["request"], query["after"]
        if asked is not None and after is not None:
            raise Problem("invalid_field", "request and after contradict each other", field="request")
        if after is None and "limit" in request.query_params:
            raise Problem("invalid_field", "limit goes with after", field="limit")
        limit = query["limit"]
        found = await door.read(door.router.why, conversation_id, request_id=asked, after=after, limit=limit)
        if found is None:
            raise unknown_conversation(conversation_id)
        if asked is not None and not found["roots"]:
            raise Problem("not_found", f"there is no request {asked} in conversation {conversation_id}")
        return json_answer({"conversation_id": conversation_id, **found})


def conversation_line(row: ConversationRow) -> dict[str, Any]:
    """Return one line of the list, ready for JSON."""
    return {
        "conversation_id": row.conversation_id,
        "phase": row.phase,
        "seq": row.last_seq,
        "unfinished": row.unfinished,
        "user_id": row.user_id,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        **({"damaged": row.damaged} if row.damaged else {}),
    }
