"""What /openapi.json says: the routes' own facts, completed with schemas of bodies, problems and parameters."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path
from fastapi.openapi.utils import get_openapi

from gateway.problems import CODES, MEDIA_TYPE
from messages.base import CONVERSATION_ID_PATTERN
from messages.inbound import Cancel, UserMessage
from messages.wire import CONTENT_TYPES

ConversationPath = Annotated[str, Path(pattern=CONVERSATION_ID_PATTERN)]

_REFERENCE = "#/components/schemas/{model}"

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": list(CODES)},
        "field": {"type": "string"},
        "problems": {"type": "array", "items": {"type": "object"}},
        "instance": {"type": "string"},
        "outcome": {"type": "string", "enum": ["unknown"]},
    },
}
_TEXT: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_WHO: dict[str, Any] = {
    "type": "object",
    "properties": {"by": _TEXT, "reason": _TEXT},
    "additionalProperties": False,
    "description": "Who asks for a change, and why.",
}
_RESTART: dict[str, Any] = {
    "type": "object",
    "required": ["path"],
    "properties": {"path": {"type": "string"}, "by": _TEXT, "reason": _TEXT},
    "additionalProperties": False,
}


def answers(meanings: dict[int, str], *, media_type: str = "application/json") -> dict[int | str, dict[str, Any]]:
    """Return a route's `responses`: what it says when all is well, and problems for everything else."""
    schema = {"type": "string"} if media_type == "text/plain" else {"type": "object"}
    found: dict[int | str, dict[str, Any]] = {
        status: {"description": meaning, "content": {media_type: {"schema": schema}}}
        for status, meaning in meanings.items()
    }
    problem = {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}}
    found["default"] = {"description": "An error; `code` says which.", "content": problem}
    return found


def body(schema: str, *, required: bool = True) -> dict[str, Any]:
    """Return the part of a route's description that is about its body."""
    reference = {"schema": {"$ref": _REFERENCE.format(model=schema)}}
    return {"requestBody": {"required": required, "content": dict.fromkeys(CONTENT_TYPES, reference)}}


def describe(app: FastAPI) -> None:
    """Let the app describe itself so; made once, when first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, routes=app.routes)
            for operation in (op for path in found["paths"].values() for op in path.values()):
                operation["responses"].pop("422", None)  # the framework's own; ours are problems
            found["components"] = {"schemas": _schemas()}
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to replace it


def _schemas() -> dict[str, Any]:
    schemas: dict[str, Any] = {"Problem": _PROBLEM, "Restart": _RESTART, "Who": _WHO}
    for name, model in (("UserMessage", UserMessage), ("Control", Cancel)):
        schema = model.model_json_schema(ref_template=_REFERENCE)
        schemas.update(schema.pop("$defs", {}))
        # The address has given these.
        for field in ("conversation_id", "type"):
            schema["properties"].pop(field)
        schema["required"] = [field for field in schema.get("required", []) if field != "conversation_id"]
        if not schema["required"]:
            del schema["required"]
        schemas[name] = schema
    return schemas
