"""Routes for operators: the actor tree, restarting an actor, dead letters, one screen of figures."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from gateway.answers import json_answer
from gateway.bodies import read_object
from gateway.doorway import Doorway
from gateway.openapi import answers, body
from gateway.problems import Problem
from gateway.query import MAX_SEQ, document, matching, read_query, whole
from messages.inbound import UserMessage
from messages.wire import WireError, decode

MAX_ACTORS = 10_000
_PATH = r"/[!-~]{0,1000}"

ACTORS = (
    matching("after", _PATH, "the path of an actor", "Path after which to begin: `next` of the page before."),
    whole("limit", 1_000, 1, MAX_ACTORS, "Most rows of one page."),
)
WHO = ("by", "reason")
"""Fields of a body that may say who asks for a change and why."""
Number = Annotated[int, Path(ge=1, le=MAX_SEQ)]
LETTERS = (
    whole("after", 0, 0, MAX_SEQ, "Id after which to begin: `next` of the page before."),
    whole("limit", 100, 1, 1_000, "Most rows of one page."),
)


def operator_routes(door: Doorway) -> APIRouter:
    """Return the routes over this door."""
    routes = APIRouter(prefix="/api/v1", tags=["operators"])

    @routes.get(
        "/actors",
        responses=answers({200: "`actors` by path, and `next`: null at the end. Ages are in seconds."}),
        openapi_extra={"parameters": document(ACTORS)},
    )
    async def actors(request: Request) -> Response:
        query = read_query(request.query_params, ACTORS)
        after, limit = query["after"] or "", query["limit"]
        rows = [row for row in await door.read(door.router.actors) if row["path"] > after]
        following = rows[limit - 1]["path"] if len(rows) > limit else None
        return json_answer({"actors": rows[:limit], "next": following})

    @routes.post(
        "/actors/restart",
        status_code=202,
        responses=answers({202: "It ends as if it had failed; supervision does the rest."}),
        openapi_extra=body("Restart"),
    )
    async def restart(request: Request) -> Response:
        read_query(request.query_params, ())
        given = await read_object(request, door.settings.max_message_bytes, {"path": str}, optional=WHO)
        path = given["path"]
        found = await door.read(door.router.restart, path)
        door.operated(request, "restart", given, "done" if found else "not_found", path=path[:200])
        if not found:
            raise Problem("not_found", f"there is no actor {path[:200]} that supervision would start again")
        return json_answer({"path": path, "status": "accepted"}, 202)

    @routes.get(
        "/deadletters",
        responses=answers({200: "`dead_letters`, oldest first, and `next`: null at the end."}),
        openapi_extra={"parameters": document(LETTERS)},
    )
    async def dead_letters(request: Request) -> Response:
        query = read_query(request.query_params, LETTERS)
        limit = query["limit"]
        rows = await door.read(door.router.dead_letters, query["after"], limit + 1)
        following = rows[limit - 1]["id"] if len(rows) > limit else None
        return json_answer({"dead_letters": list(rows[:limit]), "next": following})

    @routes.post(
        "/deadletters/{number}/replay",
        status_code=202,
        responses=answers({202: "Accepted as a message, durably; the letter is gone, or `letter` says why not."}),
        openapi_extra=body("Who", required=False),
    )
    async def replay(number: Number, request: Request) -> Response:
        read_query(request.query_params, ())
        who = await read_object(request, door.settings.max_message_bytes, {}, optional=WHO)
        try:
            accepted = await _send_again(door, number)
        except Problem as problem:
            door.operated(request, "replay", who, problem.code, id=number)
            raise
        try:
            await door.read(door.router.drop_dead_letter, number, writes=True)
        except Problem as problem:  # the message is on its way all the same
            kept = f"the dead letter could not be removed ({problem.detail}): drop it, or it may be sent once more"
            door.operated(request, "replay", who, "accepted, not removed", id=number)
            return json_answer({"id": number, **accepted, "status": "accepted", "letter": kept}, 202)
        door.operated(request, "replay", who, "done", id=number)
        return json_answer({"id": number, **accepted, "status": "accepted"}, 202)

    @routes.post(
        "/deadletters/{number}/drop",
        responses=answers({200: "It is gone."}),
        openapi_extra=body("Who", required=False),
    )
    async def drop(number: Number, request: Request) -> Response:
        read_query(request.query_params, ())
        who = await read_object(request, door.settings.max_message_bytes, {}, optional=WHO)
        try:
            found = await door.read(door.router.drop_dead_letter, number, writes=True)
        except Problem as problem:
            door.operated(request, "drop", who, problem.code, id=number)
            raise
        door.operated(request, "drop", who, "done" if found else "not_found", id=number)
        if not found:
            raise _no_letter(number)
        return json_answer({"id": number, "status": "dropped"})

    @routes.get("/status", responses=answers({200: "One screen of figures."}))
    async def status(request: Request) -> Response:
        read_query(request.query_params, ())
        return json_answer(await door.read(door.router.status))

    return routes


async def _send_again(door: Doorway, number: int) -> dict[str, Any]:
    """Submit what a dead letter holds."""
    letter = await door.read(door.router.dead_letter, number)
    if letter is None:
        raise _no_letter(number)
    try:
        message = decode(letter["body"].encode(), max_bytes=door.settings.max_message_bytes)
    except WireError as error:
        detail = f"dead letter {number} is no message that could be sent again ({letter['kind']}): {error.detail}"
        raise Problem("wrong_state", detail) from None
    if isinstance(message, UserMessage) and message.message_id is None:
        message = message.model_copy(update={"message_id": f"deadletter-{number}"})  # sent twice, it runs once
    accepted = await door.submit(message)
    fields = ("conversation_id", "message_id", "request_id", "seq")
    return {name: value for name in fields if (value := getattr(accepted, name)) is not None}


def _no_letter(number: int) -> Problem:
    return Problem("not_found", f"there is no dead letter {number}")
