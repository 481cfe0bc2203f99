"""The HTTP app: all routes behind one gate."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from gateway.answers import problem_answer
from gateway.conversation_routes import conversation_routes
from gateway.doorway import Doorway
from gateway.event_routes import event_routes
from gateway.gate import Gate, asked_by
from gateway.message_routes import message_routes
from gateway.openapi import describe
from gateway.operator_routes import operator_routes
from gateway.ports import FrontDoor, HttpSettings, Log, silent
from gateway.probe_routes import probe_routes
from gateway.problems import Problem
from gateway.query import MAX_SEQ


def create_app(
    router: FrontDoor,
    settings: HttpSettings,
    *,
    metrics: Callable[[], bytes],
    version: str,
    phases: Collection[str] = (),
    log: Log = silent,
    heartbeat: float = 15.0,
    stalled: Callable[[], str | None] = lambda: None,
) -> FastAPI:
    """Return the app. `metrics` returns Prometheus' text; `app.state.door` takes new settings and closes streams.

    `phases` are what lists may be filtered by; `heartbeat` is in seconds; `stalled` says why the store is silent.
    """
    door = Doorway(router, settings, metrics, version, phases, log, heartbeat, stalled=stalled)
    app = FastAPI(
        title="orchestrator",
        version=version,
        docs_url=None,  # the page loads its script from a public network; /openapi.json needs nothing
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.door = door
    for routes in (message_routes, conversation_routes, event_routes, operator_routes, probe_routes):
        app.include_router(routes(door))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _path_error)
    app.add_middleware(Gate, door=door)
    describe(app)
    return app


def _http_error(request: Request, error: Exception) -> Response:
    """Answer unknown routes and methods; nothing else in the app raises these."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        framework = (error.headers or {}).get("Allow", "").split(", ")  # knows the routes we do not describe
        methods = _methods(request) or set(framework)
        allow = ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
        detail = f"{asked_by(request.scope)} is not taken here; {allow} is"
        return _answer(request, Problem("method_not_allowed", detail, headers={"Allow": allow}))
    if error.status_code == 404:
        return _answer(request, Problem("not_found", f"there is no route {request.url.path[:200]}"))
    raise error


def _methods(request: Request) -> set[str]:
    """Return every method of this path: the framework names those of its first route only."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    matching = (template for template in paths if compile_path(template)[0].match(request.scope["path"]))
    return {method.upper() for template in matching for method in paths[template]}


def _path_error(request: Request, error: Exception) -> Response:
    """Answer a conversation id, or a dead letter's number, that is none: all that the framework itself checks."""
    assert isinstance(error, RequestValidationError)
    wrong: Any = error.errors()[0]
    shown, name = repr(wrong.get("input"))[:80], str(wrong["loc"][-1])
    if name != "conversation_id":
        detail = f"{name} must be a number from 1 to {MAX_SEQ}, not {shown}"
        return _answer(request, Problem("invalid_field", detail, field=name))
    detail = f"conversation_id must have 1 to 200 characters of A-Z a-z 0-9 . _ : -, not {shown}"
    return _answer(request, Problem("invalid_conversation_id", detail, field="conversation_id"))


def _answer(request: Request, problem: Problem) -> Response:
    request.scope["problem"] = problem.code
    return problem_answer(problem)
