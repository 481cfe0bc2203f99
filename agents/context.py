"""What an agent may know about the call it serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import time

from messages.trace import attempt_name, handed_on


def _nobody(_text: str) -> None:
    """Take progress that nobody watches: an agent called directly, in a test."""


@dataclass(frozen=True, slots=True)
class Context:
    """Declare a parameter of this type to get it: `def stock(sku: str, ctx: Context) -> Stock`."""

    conversation_id: str = "local"
    request_id: str = "local"
    node_id: str = "local"
    attempt: int = 1
    """This try, from 1."""
    idempotency_key: str = "local"
    """The same for every attempt of one node: give it to whoever must not apply an effect twice."""
    deadline: float = float("inf")
    """When this attempt is given up, in seconds of the wall clock since the epoch."""
    user_id: str | None = None
    context: str = ""
    """The conversation so far, clipped to `max_context_tokens`."""
    report: Callable[[str], None] = _nobody
    trace: str | None = None
    """The trace context that the request came with, if any; hand `traceparent` on, not this."""

    def progress(self, text: str) -> None:
        """Show people what is being done; passed on at once, not kept."""
        if not isinstance(text, str):
            raise TypeError(f"progress takes a text, not {type(text).__name__}")
        self.report(text.encode("utf-8", "replace").decode())

    @property
    def traceparent(self) -> str:
        """The W3C trace context of this attempt, for the headers of what it calls."""
        return handed_on(self.request_id, attempt_name(self.node_id, self.attempt), self.trace)

    @property
    def remaining(self) -> float:
        """Seconds left before this attempt is given up."""
        return max(0.0, self.deadline - time())
