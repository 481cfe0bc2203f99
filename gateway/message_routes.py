"""Routes that change a conversation: a message, with or without waiting for its reply; cancel, pause, resume."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.answers import json_answer, json_bytes
from gateway.bodies import read_message
from gateway.doorway import Doorway, give_up, sender
from gateway.openapi import ConversationPath, answers, body
from gateway.problems import Problem
from gateway.query import MAX_WAIT, document, read_query, seconds
from messages.events import Event, ReplySent, public_json
from messages.inbound import Accepted, UserMessage
from messages.trace import is_traceparent

WAIT = (seconds("wait", MAX_WAIT, "Seconds to wait for the reply; 0 gives the reply only if it is already there."),)


def message_routes(door: Doorway) -> APIRouter:
    """Return the routes over this door."""
    routes = APIRouter(prefix="/api/v1/conversations/{conversation_id}", tags=["messages"])

    @routes.post(
        "/messages",
        status_code=202,
        responses=answers(
            {
                202: "Accepted: durable, and answered exactly once.",
                200: "The `reply.sent` event, when `wait` was given.",
            }
        ),
        openapi_extra={"parameters": document(WAIT), **body("UserMessage")},
    )
    async def post_message(conversation_id: ConversationPath, request: Request) -> Response:
        wait = read_query(request.query_params, WAIT)["wait"]
        message = await read_message(
            request,
            door.settings.max_message_bytes,
            {"conversation_id": conversation_id, "type": "user_message"},
        )
        assert isinstance(message, UserMessage)
        traceparent = request.headers.get("traceparent", "")
        if message.traceparent is None and is_traceparent(traceparent):  # one that is none is no reason to refuse
            message = message.model_copy(update={"traceparent": traceparent})
        if wait is None:
            return _accepted(await door.submit(message))
        return await _submit_and_wait(door, message, wait, request)

    def control(kind: str, meaning: str) -> None:
        @routes.post(
            f"/{kind}",
            status_code=202,
            name=kind,
            description=meaning,
            responses=answers({202: "Done, durably."}),
            openapi_extra=body("Control", required=False),
        )
        async def post_control(conversation_id: ConversationPath, request: Request) -> Response:
            read_query(request.query_params, ())
            defaults = {"conversation_id": conversation_id, "type": kind}
            limit = door.settings.max_message_bytes
            message = await read_message(request, limit, defaults, optional=True)
            assert not isinstance(message, UserMessage)
            if message.by is None:
                message = message.model_copy(update={"by": sender(request)})
            said = {"by": message.by, "reason": message.reason}
            try:
                accepted = await door.submit(message)
            except Problem as problem:
                door.operated(request, kind, said, problem.code, conversation_id=conversation_id)
                raise
            door.operated(request, kind, said, "done", conversation_id=conversation_id)
            return json_answer({"conversation_id": conversation_id, "seq": accepted.seq, "status": "accepted"}, 202)

    control("cancel", "End the running request with a `cancelled` reply that holds what is finished.")
    control("pause", "Start nothing new until `resume`; what runs may finish and is kept.")
    control("resume", "Go on after `pause`; agree to a plan that awaits approval; release a quarantined conversation.")
    return routes


def _accepted(accepted: Accepted) -> Response:
    body: dict[str, Any] = {
        "conversation_id": accepted.conversation_id,
        "message_id": accepted.message_id,
        "request_id": accepted.request_id,
        "status": "accepted",
    }
    return json_answer(body, 202)


async def _submit_and_wait(door: Doorway, message: UserMessage, wait: float, request: Request) -> Response:
    """Submit, and answer with the reply if it comes in time. Listening begins before submitting: no reply is missed."""
    replies = _Replies()
    bridge = door.bridge

    def heard(event: Event) -> None:
        if isinstance(event, ReplySent):
            bridge.call(replies.add, event)

    unsubscribe = door.router.feed.subscribe(message.conversation_id, heard, quick=True)
    try:
        accepted = await door.submit(message)
        reply: Event | None = None
        if accepted.reply_seq is not None:
            with suppress(Problem):  # it cannot be read just now, but accepted it is
                page = await door.read(door.router.events, message.conversation_id, accepted.reply_seq - 1, 1)
                reply = page[0] if page else None
        elif accepted.request_id is not None:
            reply = await _in_time(door, replies.of(accepted.request_id), wait, request)
    finally:
        unsubscribe()
    return _accepted(accepted) if reply is None else json_bytes(public_json(reply))


class _Replies:
    """Replies of one conversation by request, whichever comes first: the reply or the question for it."""

    def __init__(self) -> None:
        self._futures: dict[str | None, asyncio.Future[Event | None]] = {}

    def of(self, request_id: str | None) -> asyncio.Future[Event | None]:
        return self._futures.setdefault(request_id, asyncio.get_running_loop().create_future())

    def add(self, reply: Event) -> None:
        future = self.of(reply.request_id)
        if not future.done():
            future.set_result(reply)


async def _in_time(door: Doorway, reply: asyncio.Future[Event | None], wait: float, request: Request) -> Event | None:
    """Return the reply; None when time runs out, the client goes away or the server stops."""
    if reply.done():
        return reply.result()
    # The body was read: what comes now is that the client went away.
    gone = asyncio.ensure_future(request.receive())
    gone.add_done_callback(lambda _: give_up(reply))
    try:
        with door.attending(request.scope, reply):
            return await door.in_time(reply, wait)
    finally:
        gone.cancel()
