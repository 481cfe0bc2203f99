"""Bytes from Redis to messages, and what was refused to dead letters."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from messages.inbound import Cancel, Pause, Refused, Resume, UserMessage
from messages.wire import WireError, decode, decode_object, validate

Inbound = UserMessage | Cancel | Pause | Resume

FIELD = b"message"
"""The one field of an entry of the inbox stream."""
MAX_WORDS = 10_000
"""Characters that are told of why a message was refused: a plan's problems, 100 at most, have room."""
_SHOWN = 32_768
"""Bytes of an unreadable message that are kept."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that came over Redis and could not be taken."""

    address: str
    """Channel, or stream and entry id."""
    code: str
    """Stable, as in docs/errors.md, or `delivered_too_often`."""
    detail: str
    kind: str
    """Type of the message; `unreadable` when it is none."""
    content: Any
    """The message itself, as plain as it can be had: it may be sent again."""
    comes_again: bool = False
    """True when it may be declined now: the stream still has it."""
    written: Callable[[bool], None] | None = None
    """Told, from any thread, that it is in the store, or that the store could not take it."""


def in_words(refused: Refused) -> str:
    """Return why a message was refused, each problem of a plan named: no answer over Redis has room for a list."""
    problems = "; ".join(f"{problem['where']}: {problem['problem']}" for problem in refused.problems)
    return f"{refused.detail}: {problems}" if problems else refused.detail


def from_channel(data: bytes, conversation_id: str | None, *, max_bytes: int) -> Inbound:
    """Return the message of a pub/sub payload; a conversation's own channel takes plain text as well.

    Raises `WireError`.
    """
    if conversation_id is None:
        return decode(data, max_bytes=max_bytes)
    if is_object(data):
        return decode(data, max_bytes=max_bytes, defaults={"conversation_id": conversation_id})
    if len(data) > max_bytes:
        raise WireError("too_large", f"the message has {len(data)} bytes; at most {max_bytes} are taken")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        detail = f"neither a JSON object, nor a msgpack map, nor text in UTF-8 ({error.reason} at byte {error.start})"
        raise WireError("invalid_body", detail) from None
    return validate({"type": "user_message", "conversation_id": conversation_id, "text": text})


def from_entry(entry_id: str, fields: dict[bytes, bytes], *, max_bytes: int) -> Inbound:
    """Return the message of a stream entry; without an id of its own it gets one that each delivery gives it again.

    Raises `WireError`.
    """
    if set(fields) != {FIELD}:
        names = ", ".join(sorted(repr(name.decode("utf-8", "replace")[:40]) for name in list(fields)[:10]))
        raise WireError("invalid_field", f"an entry has the one field 'message', not {names}", "message")
    message = decode(fields[FIELD], max_bytes=max_bytes)
    if isinstance(message, UserMessage) and message.message_id is None:
        return message.model_copy(update={"message_id": f"inbox-{entry_id}"})
    return message


def is_object(data: bytes) -> bool:
    """Say whether a payload must be one JSON object or one msgpack map, or else is text.

    Two first bytes of msgpack maps also begin letters of UTF-8 (Thaana, N'Ko); what reads as UTF-8 is text then, for
    a map whose second byte could continue such a letter would have more entries than are taken.
    """
    first = data.lstrip(b" \t\r\n")[:1]
    if first == b"{":
        return True
    if not data or not (0x80 <= data[0] <= 0x8F or data[0] in (0xDE, 0xDF)):
        return False
    if data[0] >= 0xDE:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            return True
        return False
    return True


def readable(data: bytes) -> Any:
    """Return a refused payload as what can be shown and sent again: its object, its text, else its bytes."""
    with suppress(WireError):
        return decode_object(data, max_bytes=_SHOWN)
    clipped = data[:_SHOWN]
    size = {"bytes": len(data)} if len(data) > _SHOWN else {}
    try:
        return {"text": data.decode("utf-8") if not size else clipped.decode("utf-8", "ignore"), **size}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(clipped).decode("ascii"), **size}
