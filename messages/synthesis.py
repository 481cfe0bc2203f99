"""The dialogue with the synthesizer: put these results into words."""

from __future__ import annotations

from typing import Any

from messages.events import Missing
from messages.failure import Failure
from messages.frozen import frozen


@frozen
class Outcome:
    """What one node of the plan came to, in plan order."""

    node: str
    agent: str
    task: str
    inputs: dict[str, Any]
    result: Any
    """None unless it succeeded."""
    succeeded: bool


@frozen
class Synthesize:
    """Write the reply. Answered by `Synthesized` or, after a crash, `ChildFailed`."""

    conversation_id: str
    request_id: str
    attempt: int
    text: str
    """The user's message."""
    context: str
    outcomes: tuple[Outcome, ...]
    missing: tuple[Missing, ...]
    """Branches the reply must disclose."""


@frozen
class Synthesized:
    """The reply's text."""

    request_id: str
    attempt: int
    text: str


@frozen
class SynthesizerFailed:
    """The synthesizer failed; `retry_in` is what supervision decided."""

    request_id: str
    attempt: int
    failure: Failure
    retry_in: float | None
