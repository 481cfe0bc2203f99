"""A schedule as a person reads it: one line per step: virtual time, actor, message, effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.actor_timer import Timer
from actors.stages import STARTING

_FIELDS = ("message_id", "request_id", "node", "attempt", "last_seq", "conversation_id")


def describe(actor: Any) -> str:
    """Return what the actor will take next."""
    first = "starts; " if actor._state == STARTING else ""
    items = actor.actor_inbox._items
    return first + (words(items[0].message) if items else "-")


def words(message: Any) -> str:
    """Return a message in a few words."""
    if isinstance(message, Timer):
        return f"timer {words(message.message)}"
    name = type(message).__name__
    if name == "FromStore":
        return words(message.message)
    if name == "_Finished":
        return f"finished with {type(message.outcome).__name__}"
    if name in ("Submit", "Found"):
        inner = message.submit.message if name == "Found" else message.message
        return f"{name} {inner.type} {getattr(inner, 'message_id', '') or ''}".rstrip()
    if name in ("ChildFailed", "ChildStopped"):
        return f"{name} {message.path.rpartition('/')[2]}"
    said = [str(value) for field in _FIELDS if (value := getattr(message, field, None)) not in (None, "")]
    return " ".join((name, *said))[:60]


def line(now: float, who: str, said: str, effects: Sequence[str]) -> str:
    """Return one step as a line."""
    told = "; ".join(effects)
    told = told if len(told) <= 220 else told[:219] + "…"
    who = who.removeprefix("/conversations")
    return f"{now:10.3f}  {who or '/':<28} {said:<44} {told}".rstrip()
