"""Turns a clean log entry into one line: JSON, or text for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from telemetry.catalogue import COMMON

_FIRST: Final = ("timestamp", "level", "event", *COMMON)

Renderer = Callable[[dict[str, Any]], str]


def renderer(*, structured: bool) -> Renderer:
    """Return the renderer for JSON lines or for text."""
    return _json if structured else _text


def moment(seconds: float) -> str:
    """Return a wall-clock time as RFC 3339, UTC, milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ordered(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry with the fields everybody looks for in front."""
    first = {key: entry[key] for key in _FIRST if key in entry}
    return first | entry


# Made once: json.dumps makes a new encoder at every call that asks for anything special.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
).encode


def _json(entry: dict[str, Any]) -> str:
    return _encode(ordered(entry))


def _text(entry: dict[str, Any]) -> str:
    entry = ordered(entry)
    head = f"{entry.pop('timestamp')} {str(entry.pop('level')).upper():<8} {entry.pop('event')}"
    trace = entry.pop("exception", None)
    parts = [head, *(f"{key}={_word(value)}" for key, value in entry.items())]
    lines = [" ".join(parts)]
    if trace:
        lines.extend(f"    {each}" for each in (trace if isinstance(trace, list) else [trace]))
    return "\n".join(lines)


def _word(value: Any) -> str:
    if isinstance(value, str) and value and not any(sign in value for sign in ' "=\\'):
        return value
    return json.dumps(value, ensure_ascii=False)
