"""The outermost layer of the HTTP app: rules first, every error as a problem, one log line per request."""

from __future__ import annotations

import uuid
from time import perf_counter
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.answers import problem_answer
from gateway.doorway import Doorway
from gateway.problems import Problem
from gateway.target import origin_form
from telemetry import exception_lines

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked every few seconds by machines: logged at DEBUG."""
HEAD = "orchestrator.head"
"""Key of a scope: true when only what stands before the answer's body was asked for."""
CLIENT_GONE = 499
"""Status in the log for a request nobody waited for any more; never sent."""


class Gate:
    """Wraps an ASGI app."""

    def __init__(self, app: ASGIApp, door: Doorway) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._door.enter_loop()
        if scope["path"][:1] != "/":
            scope = origin_form(scope)
        if scope["method"] == "HEAD":
            # What GET would answer, by the same code; the server, which keeps its own scope, leaves the body out.
            scope = {**scope, "method": "GET", HEAD: True}
        call = _Call(send)
        began = perf_counter()
        try:
            self._door.access.check(scope["path"], scope["method"], dict(scope["headers"]))
            await self._app(scope, receive, call.send)
        except Problem as problem:
            await call.refuse(problem, scope, receive)
        except ClientDisconnect:
            call.status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001  # an escape becomes a 500 that says nothing, and a log entry that says all
            await call.refuse(self._unexpected(error, scope), scope, receive)
        finally:
            self._tell(scope, call, perf_counter() - began)

    def _unexpected(self, error: Exception, scope: Scope) -> Problem:
        instance = f"urn:uuid:{uuid.uuid4()}"
        self._door.log(
            "error",
            where=f"{asked_by(scope)} {_route(scope)} {instance}",
            error_type=type(error).__name__,
            error_message=str(error),
            exception=exception_lines(error),
        )
        return Problem("internal", "the daemon's log says more", instance=instance)

    def _tell(self, scope: Scope, call: _Call, seconds: float) -> None:
        self._door.log(
            "http_request",
            level="debug" if scope["path"] in PROBES else None,
            method=asked_by(scope),
            route=_route(scope),
            status=call.status or CLIENT_GONE,
            code=call.code or scope.get("problem"),
            duration_ms=round(seconds * 1000, 3),
        )


class _Call:
    """One request's way out."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.code: str | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.setdefault("Cache-Control", "no-store")
            headers.setdefault("X-Content-Type-Options", "nosniff")
        await self._send(message)

    async def refuse(self, problem: Problem, scope: Scope, receive: Receive) -> None:
        """Answer with a problem, unless the answer has begun; then only the log can say it."""
        self.code = problem.code
        if not self.status:
            await problem_answer(problem)(scope, receive, self.send)


def asked_by(scope: Scope) -> str:
    """Return the method of the request as it came."""
    return "HEAD" if scope.get(HEAD) else str(scope["method"])


def _route(scope: Scope) -> str:
    """Return the route's template: the path itself would put ids into metrics and logs."""
    path: Any = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "unmatched"
