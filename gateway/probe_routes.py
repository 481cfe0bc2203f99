"""Routes for machines that watch the daemon: alive, ready, metrics, version."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.answers import json_answer
from gateway.doorway import Doorway
from gateway.openapi import answers
from gateway.problems import Problem
from gateway.query import read_query

READY_TIMEOUT = 2.0
"""Seconds for all checks: a probe that hangs is a probe that failed."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def probe_routes(door: Doorway) -> APIRouter:
    """Return the routes over this door."""
    routes = APIRouter(tags=["probes"])

    @routes.get("/livez", responses=answers({200: "The daemon answers."}))
    async def livez(request: Request) -> Response:
        read_query(request.query_params, ())
        return json_answer({"status": "alive"})

    @routes.get("/readyz", responses=answers({200: "It takes messages.", 503: "It does not; the checks say why."}))
    async def readyz(request: Request) -> Response:
        read_query(request.query_params, ())
        try:
            found = await door.read(door.router.readiness, within=READY_TIMEOUT)
        except Problem as problem:
            found = {"answer": {"ok": False, "detail": problem.detail}}
        draining = door.router.draining
        checks = {name: dict(check) for name, check in found.items()}
        checks["draining"] = {"ok": not draining, "detail": "about to stop" if draining else "takes new work"}
        if door.access.role(dict(request.scope["headers"])) is None:
            checks = {name: {"ok": check["ok"]} for name, check in checks.items()}
        ready = all(check["ok"] for check in found.values() if not check.get("optional")) and not draining
        status = "draining" if draining else "ready" if ready else "not_ready"
        body = {"status": status, "checks": checks}
        return json_answer(body, 200 if ready else 503, None if ready else {"Retry-After": "2"})

    @routes.get("/metrics", responses=answers({200: "Prometheus' text format."}, media_type="text/plain"))
    async def metrics(request: Request) -> Response:
        read_query(request.query_params, ())
        return Response(await door.scrape(), headers={"Content-Type": METRICS_TYPE})

    @routes.get("/version", responses=answers({200: "Which program this is."}))
    async def version(request: Request) -> Response:
        read_query(request.query_params, ())
        return json_answer({"name": "orchestrator", "version": door.version, "api": "v1"})

    return routes
