"""Trace contexts (W3C `traceparent`) that travel in messages, and the ids of spans, made from what names the work.

So an agent can hand its own span on before anybody has recorded it, and records made twice are the same.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

TRACEPARENT_PATTERN: Final = r"^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$"
_TRACEPARENT: Final = re.compile(TRACEPARENT_PATTERN)
_SAMPLED: Final = "01"


def is_traceparent(text: str) -> bool:
    """Return whether this is a trace context of version 00."""
    return _TRACEPARENT.fullmatch(text) is not None


def trace_of(request_id: str, given: str | None) -> str:
    """Return the trace id of a request, 32 hexadecimal digits: that of its sender's context, if there is one."""
    return given[3:35] if given else hashlib.sha256(request_id.encode()).hexdigest()[:32]


def span_of(request_id: str, what: str) -> str:
    """Return the id of a span of a request, 16 hexadecimal digits."""
    return hashlib.sha256(f"{request_id}/{what}".encode()).hexdigest()[:16]


def handed_on(request_id: str, what: str, given: str | None) -> str:
    """Return the trace context for what is called by this part of a request's work."""
    flags = given[53:55] if given else _SAMPLED
    return f"00-{trace_of(request_id, given)}-{span_of(request_id, what)}-{flags}"


def attempt_name(node: str, attempt: int) -> str:
    """Return by what the span of an attempt is told from the others of its request."""
    return f"{node}/{attempt}"
