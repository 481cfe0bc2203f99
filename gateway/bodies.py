"""Request bodies: read within limits of size and time, then decoded as the content type says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from gateway.problems import Problem
from messages.inbound import Cancel, Pause, Resume, UserMessage
from messages.wire import CONTENT_TYPES, WireError, decode, decode_object

BODY_TIMEOUT = 30.0
"""Seconds for a whole body: 1 MiB in that time is 35 KB/s, which any line that matters has."""


async def read_message(
    request: Request, limit: int, defaults: dict[str, Any], *, optional: bool = False
) -> UserMessage | Cancel | Pause | Resume:
    """Return the message in the body; `defaults` are fields the address has given. Raises `Problem`.

    An `optional` body may be empty: the address says it all.
    """
    body = await read_body(request, limit)
    if optional and not body:
        body = b"{}"
    else:
        _check_form(request, body)
    try:
        return decode(body, max_bytes=limit, defaults=defaults)
    except WireError as error:
        raise Problem(error.code, error.detail, field=error.field) from None


async def read_object(
    request: Request, limit: int, fields: dict[str, type], *, optional: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the object in the body, which has these fields and no other. Raises `Problem`.

    The `optional` ones are texts, or null, or absent; where all are optional, so is the body.
    """
    body = await read_body(request, limit)
    if not body and not fields:
        body = b"{}"
    else:
        _check_form(request, body)
    try:
        given = decode_object(body, max_bytes=limit)
    except WireError as error:
        raise Problem(error.code, error.detail, field=error.field) from None
    for name in given:
        if name not in fields and name not in optional:
            raise Problem("invalid_field", f"{name[:60]} is not a known field", field=name[:60])
    for name, kind in fields.items():
        if name not in given:
            raise Problem("invalid_field", f"{name} is missing", field=name)
        if type(given[name]) is not kind:
            raise Problem("invalid_field", f"{name} must be a {kind.__name__}", field=name)
    for name in optional:
        if not isinstance(given.get(name), str | None):
            raise Problem("invalid_field", f"{name} must be a text", field=name)
    return given


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body; raises `Problem` before more than `limit` bytes are held."""
    declared = request.headers.get("content-length", "")
    if re.fullmatch(r"[0-9]+", declared) and int(declared[:19]) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
    except TimeoutError:
        raise Problem("request_timeout", f"the body was not complete within {BODY_TIMEOUT:g} seconds") from None
    return b"".join(parts)


def _too_large(limit: int) -> Problem:
    return Problem("too_large", f"the body has more than {limit} bytes, which is max_message_bytes")


def _check_form(request: Request, body: bytes) -> None:
    """Raise unless the content type is one of ours and the body begins like it.

    A form or plain text is what a web page can send without asking; JSON is not.
    """
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    kind = CONTENT_TYPES.get(media_type.strip().lower())
    charset = re.search(r"charset\s*=\s*\"?([^\";\s]+)", parameters, re.IGNORECASE)
    if kind is None or (charset and charset[1].lower() not in ("utf-8", "utf8")):
        taken = " or ".join(dict.fromkeys(CONTENT_TYPES))
        raise Problem("unsupported_media_type", f"send the body as {taken} (UTF-8)")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem("unsupported_media_type", "compressed bodies are not taken")
    looks_like_json = body.lstrip(b" \t\r\n")[:1] < b"\x80"
    if looks_like_json is not (kind == "json"):
        raise Problem("invalid_body", f"the body is not one {'JSON object' if kind == 'json' else 'msgpack map'}")
