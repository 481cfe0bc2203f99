"""Routes for operators: the actor tree, restarting an actor, dead letters, one screen of figures."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.answers import json_answer
from gateway.bodies import read_object
from gateway.doorway import Doorway
from gateway.openapi import answers, body
from gateway.problems import Problem
from gateway.query import MAX_SEQ, document, matching, read_query, whole

MAX_ACTORS = 10_000
_PATH = r"/[!-~]{0,1000}"

ACTORS = (
    matching("after", _PATH, "the path of an actor", "Path after which to begin: `next` of the page before."),
    whole("limit", 1_000, 1, MAX_ACTORS, "Most rows of one page."),
)
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
        path = (await read_object(request, door.settings.max_message_bytes, {"path": str}))["path"]
        if not await door.read(door.router.restart, path):
            raise Problem("not_found", f"there is no actor {path[:200]}")
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

    @routes.get("/status", responses=answers({200: "One screen of figures."}))
    async def status(request: Request) -> Response:
        read_query(request.query_params, ())
        return json_answer(await door.read(door.router.status))

    return routes
