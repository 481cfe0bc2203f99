"""Answers as bytes: JSON bodies and problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from gateway.problems import MEDIA_TYPE, Problem


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `body` as JSON; numbers that JSON does not have become null."""
    return json_bytes(to_json(body, inf_nan_mode="null"), status, headers)


def json_bytes(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return what is JSON already."""
    return Response(
        body,
        status_code=status,
        headers=None if headers is None else dict(headers),
        media_type="application/json",
    )


def problem_answer(problem: Problem) -> Response:
    """Return an error as application/problem+json."""
    return Response(
        to_json(problem.body(), inf_nan_mode="null"),
        status_code=problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )
