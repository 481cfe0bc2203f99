"""Exit codes: what became of a verb, for scripts."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
UNREACHABLE: Final = 69
TRY_AGAIN: Final = 75
NOT_ALLOWED: Final = 77
BAD_CONFIGURATION: Final = 78
TIMED_OUT: Final = 124
INTERRUPTED: Final = 130

MEANINGS: Final[dict[int, str]] = {
    DONE: "done",
    FAILED: "the operation failed",
    USAGE: "usage",
    NOT_FOUND: "not found",
    REFUSED: "refused in this state",
    UNREACHABLE: "daemon unreachable",
    TRY_AGAIN: "try again (draining, too much waiting, store away or owned by a live daemon)",
    NOT_ALLOWED: "not allowed",
    BAD_CONFIGURATION: "bad configuration",
    TIMED_OUT: "waited in vain",
    INTERRUPTED: "Ctrl-C",
}

OF_PROBLEM: Final[dict[str, int]] = {
    "invalid_body": USAGE,
    "invalid_field": USAGE,
    "invalid_conversation_id": USAGE,
    "invalid_plan": USAGE,
    "too_large": USAGE,
    "unauthorized": NOT_ALLOWED,
    "forbidden": NOT_ALLOWED,
    "not_found": NOT_FOUND,
    "message_id_conflict": REFUSED,
    "conversation_busy": REFUSED,
    "ahead_of_journal": REFUSED,
    "wrong_state": REFUSED,
    "mailbox_full": TRY_AGAIN,
    "held_back": TRY_AGAIN,
    "draining": TRY_AGAIN,
    "store_unavailable": TRY_AGAIN,
    "too_many_connections": TRY_AGAIN,
    "too_many_streams": TRY_AGAIN,
}
"""By the daemon's error code (docs/errors.md); any other is a failure."""
