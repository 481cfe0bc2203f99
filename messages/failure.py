"""How a failure is told: its type, its class and a clipped sentence, never the exception object itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from messages.base import Message

ErrorClass = Literal["transient", "permanent", "fatal"]
"""transient: may pass by itself, worth a retry. permanent: will fail again. fatal: took its process or thread along."""

MAX_FAILURE_TEXT = 500
"""Characters kept of a failure's text: enough for a person to understand, too few to flood a log or a reply."""


class Failure(Message):
    """Why something failed, as data that can be journaled, logged and shown."""

    type: str
    """Name of the exception type, or a coded reason such as `timeout`, `contract_violation`, `result_too_large`."""
    error_class: ErrorClass = Field(validation_alias="class", serialization_alias="class")
    """What the failure means for a retry."""
    message: str
    """One clipped sentence for people."""
    retry_after: float | None = None
    """Seconds the failing side asked to be left alone (`Retry-After`); the next attempt waits at least as long."""
    counted: bool = True
    """False for failures that say nothing about the agent's health (a 429): a circuit breaker does not count them."""


def clip(text: str, limit: int = MAX_FAILURE_TEXT) -> str:
    """Shorten `text` to `limit` characters, marking the cut; control characters become blanks."""
    cleaned = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"
