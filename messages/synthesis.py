"""The dialogue with the synthesizer: put these results into words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from messages.events import Missing
from messages.failure import Failure


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one node of the plan came to, in plan order."""

    node: str
    agent: str
    task: str
    inputs: dict[str, Any]
    result: Any
    """None unless it succeeded."""
    succeeded: bool


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Synthesized:
    """The reply's text."""

    request_id: str
    attempt: int
    text: str


@dataclass(frozen=True, slots=True)
class SynthesizerFailed:
    """The synthesizer failed; `retry_in` is what supervision decided."""

    request_id: str
    attempt: int
    failure: Failure
    retry_in: float | None
